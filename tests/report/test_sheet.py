import io

import numpy as np
import pytest

from w4rl_fast.data.episode import Episode, EpisodeInfo
from w4rl_fast.errors import UserError
from w4rl_fast.report.sheet import FAILURE, NEGATIVE, POSITIVE, SUCCESS, animation, contact_sheet, write_sheet

SIZE = 16


def episode(length, *, solved_from=None, seed=0, size=SIZE):
    """Each frame is one flat colour that tells its step."""
    frames = np.empty((length, size, size, 3), np.uint8)
    frames[:] = np.stack([np.arange(length), np.full(length, 200), np.full(length, 90)], -1)[:, None, None]
    actions = np.zeros((length, 2), np.float32)
    actions[:-1] = 1, -1
    success = np.arange(length) >= (length if solved_from is None else solved_from)
    info = EpisodeInfo(task="metaworld/reach-v3", source="expert", seed=seed, succeeded=bool(success.any()))
    return Episode(frames, actions, np.zeros((length, 3), np.float32), success, info)


def has(image, colour):
    return (image == np.array(colour, np.uint8)).all(axis=-1)


def steps_shown(image):
    """The steps whose frame is on the picture, and how many of its pixels."""
    flat = image.reshape(-1, 3)
    flat = flat[(flat[:, 1] == 200) & (flat[:, 2] == 90)]
    return dict(zip(*(values.tolist() for values in np.unique(flat[:, 0], return_counts=True)), strict=True))


@pytest.mark.parametrize("scale", [1, 3])
def test_frames_are_evenly_spaced_from_first_to_last_and_whole(scale):
    shown = steps_shown(contact_sheet([episode(22)], columns=8, scale=scale))
    assert list(shown) == list(range(0, 22, 3))
    assert set(shown.values()) == {(SIZE * scale) ** 2}


def test_an_episode_shorter_than_the_row_shows_each_frame_once():
    assert steps_shown(contact_sheet([episode(3)], columns=8, scale=2)) == dict.fromkeys(range(3), 4 * SIZE**2)
    assert list(steps_shown(contact_sheet([episode(9)], columns=1))) == [0]


def test_colours_tell_success_from_failure_and_the_sign_of_actions():
    solved, failed = contact_sheet([episode(9, solved_from=5)]), contact_sheet([episode(9)])
    assert has(solved, SUCCESS).sum() > 500
    assert has(failed, FAILURE).sum() > 300
    assert not has(solved, FAILURE).any()
    assert not has(failed, SUCCESS).any()
    assert has(failed, POSITIVE).sum() == has(failed, NEGATIVE).sum() > 0


def test_the_label_changes_with_what_it_says():
    pictures = [contact_sheet([e]) for e in (episode(9, seed=1), episode(9, seed=2), episode(9, solved_from=5))]
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_rows_are_stacked_in_order():
    episodes = [episode(9, seed=1), episode(5, solved_from=2, seed=2)]
    np.testing.assert_array_equal(contact_sheet(episodes), np.concatenate([contact_sheet([e]) for e in episodes]))


def test_a_short_episode_holds_its_last_frame_beside_a_longer_one():
    film = animation([episode(3, solved_from=1), episode(7), episode(7)], fps=4, scale=1)
    assert len(film) == 7 + 2
    shown = [steps_shown(picture) for picture in film]
    for step, counts in enumerate(shown):
        assert sum(counts.values()) == 3 * SIZE**2
        assert counts[min(step, 2)] >= SIZE**2
        assert counts[min(step, 6)] >= 2 * SIZE**2
    assert not has(film[0], SUCCESS).any()
    assert has(film[1], SUCCESS).any()
    assert not has(film[5], FAILURE).any()
    assert has(film[6], FAILURE).any()


def test_the_words_over_a_film_count_steps_until_success():
    words = animation([episode(6, solved_from=2)], fps=4, scale=8)[:, :38]
    assert not np.array_equal(words[0], words[1])
    assert not np.array_equal(words[1], words[2])
    assert all(np.array_equal(words[2], later) for later in words[3:])


def test_write_sheet_writes_both_pictures(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    episodes = [episode(4), episode(6, solved_from=3)]
    write_sheet(episodes, tmp_path / "sheet.png", tmp_path / "film.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.png", "sheet.png"]
    sheet = np.array(pil.open(io.BytesIO((tmp_path / "sheet.png").read_bytes())))
    np.testing.assert_array_equal(sheet, contact_sheet(episodes))
    assert pil.open(tmp_path / "film.png").n_frames == len(animation(episodes))


@pytest.mark.parametrize("episodes", [[], [episode(4), episode(4, size=8)]])
def test_nothing_and_frames_of_two_sizes_are_refused(episodes):
    for draw in (contact_sheet, animation):
        with pytest.raises(UserError, match="at least one episode, all of one frame size"):
            draw(episodes)
