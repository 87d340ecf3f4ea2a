import numpy as np
import pytest

from w4rl_fast.data.episode import Episode
from w4rl_fast.data.pending import load_pending, save_pending
from w4rl_fast.errors import UserError


def test_an_episode_comes_back_exactly(tmp_path, make_episode, same_episode):
    for seed in range(5):
        episode = make_episode(seed, source="noisy", origin="noise=0.5 bias=0")
        path = save_pending(tmp_path, episode)
        assert path == tmp_path / f"{episode.info.key}.episode"
        assert same_episode(load_pending(path), episode)
    assert len(list(tmp_path.iterdir())) == 5


def test_what_was_loaded_may_be_changed(tmp_path, make_episode):
    """It does not lie in read-only memory, and changing it changes nothing on disk."""
    path = save_pending(tmp_path, make_episode(1))
    load_pending(path).frames[:] = 0
    assert load_pending(path).frames.any()


def test_arrays_may_lie_in_memory_as_they_like(tmp_path, make_episode, same_episode):
    whole = make_episode(1)
    turned = [np.asfortranarray(array) for array in (whole.frames, whole.actions, whole.proprio)]
    assert not turned[0].flags.c_contiguous
    episode = Episode(*turned, whole.success, whole.info, np.asfortranarray(whole.landmarks))
    assert same_episode(load_pending(save_pending(tmp_path, episode)), whole)


def test_any_flipped_bit_is_found(tmp_path, make_episode):
    path = save_pending(tmp_path, make_episode(1, length=3))
    blob = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in [0, 7, 8, 39, 40, len(blob) - 1, *rng.integers(0, len(blob), 60)]:
        spoilt = bytearray(blob)
        spoilt[at] ^= 1 << rng.integers(8)
        path.write_bytes(spoilt)
        with pytest.raises(UserError, match=path.name):
            load_pending(path)


@pytest.mark.parametrize("length", [0, 5, 8, 39, 40, 41, -1])
def test_a_cut_file_is_found(tmp_path, make_episode, length):
    path = save_pending(tmp_path, make_episode(1))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match="bytes differ"):
        load_pending(path)


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "x.episode"
    path.write_bytes(b"PK\x03\x04" * 100)
    with pytest.raises(UserError, match="collect command again"):
        load_pending(path)
