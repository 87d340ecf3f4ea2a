import shutil
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from w4rl_fast.data.store import Store
from w4rl_fast.data.windows import WindowConfig, Windows, side
from w4rl_fast.errors import UserError

ALL = WindowConfig(held_out=0.0)


def gathered(store, episodes, config, episode, row):
    """One window, row by row, from the episode itself."""
    source, length = episodes[episode], store.lengths[episode]
    rows = [row + offset for offset in range(1 - config.history, config.future + 1)]
    assert rows[-1] < length
    inside = [max(at, 0) for at in rows]
    actions = [source.actions[max(at, 0)] * (at >= 0) for at in rows[:-1]] or source.actions[:0]
    return {
        "frames": (source.frames[inside].astype(np.float32) / np.float32(127.5) - 1).transpose(0, 3, 1, 2),
        "actions": np.array(actions, np.float32),
        "proprio": source.proprio[inside],
        "success": source.success[inside],
        "real": np.array(rows) >= 0,
        "landmarks": source.landmarks[inside],
    }


def check_batch(store, episodes, config, batch):
    for number, (episode, row) in enumerate(zip(batch.episode, batch.row, strict=True)):
        for name, expected in gathered(store, episodes, config, episode, row).items():
            found = getattr(batch, name)[number].numpy()
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 if name == "frames" else 0, err_msg=name)


def seeds_and_rows(batch):
    """What the pixels themselves say: the seed and the row of every frame (B, T)."""
    pixels = torch.round((batch.frames + 1) * 127.5).to(torch.int64)
    return pixels[:, :, 0, 0, 0].numpy(), pixels[:, :, 1, 0, 0].numpy()


@pytest.fixture(scope="module")
def episodes(mixed_store):
    return [mixed_store.read(number) for number in range(len(mixed_store))]


@pytest.mark.parametrize(("history", "future"), [(4, 1), (1, 0), (1, 1), (2, 5), (9, 0), (6, 3)])
def test_every_window_is_cut_from_one_episode(mixed_store, episodes, history, future):
    config = WindowConfig(history=history, future=future, held_out=0.0)
    seen = 0
    for batch in Windows(mixed_store, config).in_order(50):
        check_batch(mixed_store, episodes, config, batch)
        seeds, rows = seeds_and_rows(batch)
        assert (seeds == seeds[:, :1]).all(), "no window crosses from one episode into another"
        assert (np.diff(rows, axis=1) == batch.real[:, 1:].numpy() * batch.real[:, :-1].numpy()).all()
        assert (rows[:, -1] < np.array(mixed_store.lengths)[batch.episode]).all()
        seen += len(seeds)
    assert seen == sum(max(length - future, 0) for length in mixed_store.lengths)


def test_random_batches_are_cut_the_same_way(mixed_store, episodes):
    config = WindowConfig(history=5, future=2)
    windows = Windows(mixed_store, config, "train", seed=3)
    for number in range(20):
        check_batch(mixed_store, episodes, config, windows.batch(number, 16))


def test_rows_before_the_beginning_repeat_it_with_zero_actions_and_say_so(mixed_store):
    windows = Windows(mixed_store, WindowConfig(history=4, future=1, held_out=0.0))
    batch = next(windows.in_order(10_000))
    first = torch.from_numpy(batch.row == 0)
    assert first.sum() == len(mixed_store)
    assert (batch.real[first] == torch.tensor([False, False, False, True, True])).all()
    assert (batch.frames[first, :3] == batch.frames[first, 3:4]).all()
    assert (batch.proprio[first, :3] == batch.proprio[first, 3:4]).all()
    assert not batch.actions[first, :3].any()
    assert batch.actions[first, 3].any(dim=1).sum() == len(mixed_store) - 1, "one has the seed zero"


def test_the_action_behind_the_last_observation_is_never_shown(mixed_store):
    """It stands for nothing: the made-up episodes have no other action of zero in the second place."""
    config = WindowConfig(history=2, future=2, held_out=0.0)
    for batch in Windows(mixed_store, config).in_order(100):
        shown = batch.real[:, :-1]
        seeds, _ = seeds_and_rows(batch)
        expected = np.broadcast_to((-(seeds[:, :1] % 64) / 64).astype(np.float32), shown.shape)
        np.testing.assert_array_equal(batch.actions[..., 1].numpy()[shown], expected[shown])


def test_shapes_and_layout_are_what_the_contract_says(mixed_store, schema):
    batch = Windows(mixed_store, WindowConfig(history=3, future=2)).batch(0, 7)
    size = schema.image_size
    assert batch.frames.shape == (7, 5, 3, size, size)
    assert batch.frames.permute(0, 1, 3, 4, 2).is_contiguous()
    assert (batch.frames.dtype, batch.actions.dtype, batch.proprio.dtype) == (torch.float32,) * 3
    assert batch.frames.min() >= -1
    assert batch.frames.max() <= 1
    assert batch.actions.shape == (7, 4, schema.action_dim)
    assert batch.proprio.shape == (7, 5, schema.proprio_dim)
    assert batch.landmarks.shape == (7, 5, schema.landmark_dim)
    assert batch.success.shape == batch.real.shape == (7, 5)
    assert batch.episode.shape == batch.row.shape == (7,)


def test_an_anchor_is_the_first_frame_of_the_episode_and_changes_nothing_else(mixed_store, episodes):
    plain = Windows(mixed_store, WindowConfig(history=3, future=2), seed=4)
    anchored = Windows(mixed_store, WindowConfig(history=3, future=2, anchor=True), seed=4)
    for number in range(4):
        batch, other = anchored.batch(number, 16), plain.batch(number, 16)
        assert other.anchor is None
        assert same_batch(batch, other)
        first = np.stack([episodes[episode].frames[0] for episode in batch.episode]).astype(np.float32)
        expected = (first / np.float32(127.5) - 1).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(batch.anchor.numpy(), expected, rtol=0, atol=1e-6)


def test_without_pixels_everything_else_is_the_same(mixed_store):
    plain = Windows(mixed_store, WindowConfig(anchor=True), seed=4).batch(0, 16)
    blind = Windows(mixed_store, WindowConfig(anchor=True, pixels=False), seed=4).batch(0, 16)
    assert blind.frames.shape[:2] == (16, 0)
    assert torch.equal(blind.anchor, plain.anchor)
    for name in ("actions", "proprio", "success", "real", "landmarks"):
        assert torch.equal(getattr(blind, name), getattr(plain, name))


# ---- reproducible


def same_batch(first, second):
    tensors = ("frames", "actions", "proprio", "success", "real", "landmarks")
    same = all(torch.equal(getattr(first, name), getattr(second, name)) for name in tensors)
    return same and (first.episode == second.episode).all() and (first.row == second.row).all()


def test_a_batch_depends_on_the_seed_and_its_number_alone(mixed_store, tmp_path):
    shutil.copytree(mixed_store.path, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    first = Windows(mixed_store, WindowConfig(), seed=5)
    other = Windows(Store(tmp_path / "copy"), WindowConfig(resident_mb=1), seed=5)
    forwards = [first.batch(number, 8) for number in range(6)]
    for number in (5, 0, 3, 3, 1, 4, 2):
        list(other.in_order(64))
        assert same_batch(forwards[number], other.batch(number, 8))


def test_other_numbers_and_other_seeds_are_other_batches(mixed_store):
    drawn = [
        tuple(zip(batch.episode, batch.row, strict=True))
        for seed in range(4)
        for batch in [Windows(mixed_store, WindowConfig(), seed=seed).batch(number, 12) for number in range(8)]
    ]
    assert len(set(drawn)) == len(drawn)


def test_bfloat16_is_float32_rounded(mixed_store):
    windows = Windows(mixed_store, WindowConfig(), seed=1)
    exact, rounded = windows.batch(2, 32), windows.batch(2, 32, dtype=torch.bfloat16)
    assert rounded.frames.dtype == torch.bfloat16
    assert torch.equal(rounded.frames, exact.frames.to(torch.bfloat16))
    assert torch.equal(rounded.actions, exact.actions)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batch_can_be_written_into_a_former_one(mixed_store, dtype):
    windows = Windows(mixed_store, WindowConfig(), seed=1)
    room = windows.batch(0, 16, dtype=dtype).frames
    place = room.data_ptr()
    again = windows.batch(7, 16, out=room)
    assert again.frames.data_ptr() == place
    assert torch.equal(again.frames, windows.batch(7, 16, dtype=dtype).frames)


# ---- shares


def shares_of(store, windows, of, draws=12_000):
    """The share of windows by some property of their episode, and how many were drawn."""
    drawn = np.concatenate([windows.batch(number, 2000).episode for number in range(draws // 2000)])
    counts = Counter(of(store.infos[episode]) for episode in drawn.tolist())
    return {name: count / draws for name, count in counts.items()}


def check_shares(found, expected, draws=12_000):
    total = sum(expected.values())
    assert set(found) == {name for name, share in expected.items() if share}
    for name, share in found.items():
        chance = expected[name] / total
        assert abs(share - chance) < 5 * np.sqrt(chance * (1 - chance) / draws) + 1e-9, (name, share, chance)


SHARES = [
    {"expert": 1.0},
    {"expert": 3.0, "noisy": 1.0},
    {"random": 0.2, "expert": 0.2, "noisy": 0.6},
    {"noisy": 1, "expert": 0},
]


@pytest.mark.parametrize("sources", SHARES)
def test_sources_get_their_shares(mixed_store, sources):
    windows = Windows(mixed_store, WindowConfig(sources=sources))
    check_shares(shares_of(mixed_store, windows, lambda info: info.source), sources)


def test_tasks_get_their_shares(mixed_store):
    tasks = {"toy/pull": 0.7, "toy/push": 0.3}
    windows = Windows(mixed_store, WindowConfig(tasks=tasks))
    check_shares(shares_of(mixed_store, windows, lambda info: info.task), tasks)


def test_tasks_and_sources_get_their_shares_together(mixed_store):
    tasks, sources = {"toy/pull": 0.7, "toy/push": 0.3}, {"expert": 0.5, "random": 0.4, "noisy": 0.1}
    windows = Windows(mixed_store, WindowConfig(tasks=tasks, sources=sources))
    check_shares(shares_of(mixed_store, windows, lambda info: info.task), tasks)
    check_shares(shares_of(mixed_store, windows, lambda info: info.source), sources)


def test_without_shares_every_window_has_the_same_chance(mixed_store):
    windows = Windows(mixed_store, WindowConfig(history=2, future=1, held_out=0.0))
    drawn = [windows.batch(number, 5000) for number in range(8)]
    counts = Counter(pair for batch in drawn for pair in zip(batch.episode.tolist(), batch.row.tolist(), strict=True))
    assert len(counts) == len(windows)
    expected = 40_000 / len(windows)
    square = sum((count - expected) ** 2 / expected for count in counts.values())
    freedom = len(windows) - 1
    assert abs(square - freedom) < 5 * np.sqrt(2 * freedom)


def test_within_a_source_every_window_has_the_same_chance(mixed_store):
    windows = Windows(mixed_store, WindowConfig(sources={"expert": 9, "noisy": 1}, held_out=0.0))
    episodes = [n for n, info in enumerate(mixed_store.infos) if info.source == "expert"]
    total = sum(mixed_store.lengths[n] - 1 for n in episodes)
    found = shares_of(mixed_store, windows, lambda info: info.key)
    for number in episodes:
        chance = 0.9 * (mixed_store.lengths[number] - 1) / total
        assert abs(found.get(mixed_store.keys[number], 0) - chance) < 5 * np.sqrt(chance / 12_000)


def test_at_most_so_many_episodes_are_those_of_the_lowest_seeds(mixed_store):
    windows = Windows(mixed_store, WindowConfig(held_out=0.0, most={"expert": 3, "noisy": 1}))
    kept = [mixed_store.infos[episode] for episode in windows.episodes]
    for task in ("toy/pull", "toy/push"):
        for source, most in (("expert", 3), ("noisy", 1), ("random", 1000)):
            seeds = sorted(info.seed for info in mixed_store.infos if (info.task, info.source) == (task, source))
            assert sorted(info.seed for info in kept if (info.task, info.source) == (task, source)) == seeds[:most]
    assert {int(episode) for batch in windows.in_order(64) for episode in batch.episode} == set(windows.episodes)


@pytest.mark.parametrize("most", [{"expert": 6}, {"expert": 0}, {"policy": 1}])
def test_more_episodes_than_there_are_is_refused(mixed_store, most):
    with pytest.raises(UserError, match=f"{next(iter(most.values()))} {next(iter(most))} episodes"):
        Windows(mixed_store, WindowConfig(most=most))


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"sources": {"exprt": 1.0}}, "'exprt'.*Did you mean expert"),
        ({"tasks": {"toy/pus": 1.0}}, "'toy/pus'.*toy/push"),
        ({"sources": {"policy": 1.0}}, "'policy'"),
        ({"sources": {"expert": -1.0}}, "share -1.0"),
        ({"sources": {"expert": 0.0}}, "above zero"),
        ({"future": 8}, r"no window with 8 future observation"),
        ({"sources": {"random": 1.0}, "tasks": {"toy/lone": 1.0}}, "no window of it is left"),
    ],
)
def test_shares_that_cannot_be_met_are_refused(tmp_path, fill, make_episode, config, match):
    episodes = [make_episode(seed, source=("expert", "random")[seed % 2], length=6) for seed in range(8)]
    lone = make_episode(8, task="toy/lone", length=6)
    store = fill(tmp_path / "store", [*episodes, lone])
    with pytest.raises(UserError, match=match):
        Windows(store, WindowConfig(held_out=0.0, **config))


def test_a_source_whose_episodes_are_all_too_short_is_refused(tmp_path, fill, make_episode):
    short = [make_episode(seed, source="noisy", length=2) for seed in range(3)]
    store = fill(tmp_path / "store", [*short, make_episode(9, length=9)])
    config = WindowConfig(held_out=0.0, future=3, sources={"noisy": 0.5, "expert": 0.5})
    with pytest.raises(UserError, match=r"'noisy'.*too short"):
        Windows(store, config)


@pytest.mark.parametrize(
    "values",
    [{"history": 0}, {"future": -1}, {"held_out": 1.0}, {"held_out": -0.1}, {"resident_mb": 0}],
)
def test_settings_outside_their_range_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        WindowConfig(**values)


# ---- the two sides


def test_the_sides_share_no_episode_and_cover_all(mixed_store):
    config = WindowConfig(held_out=0.3)
    sides = [set(Windows(mixed_store, config, split).episodes.tolist()) for split in ("train", "held-out")]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == set(range(len(mixed_store)))
    for split, episodes in zip(("train", "held-out"), sides, strict=True):
        windows = Windows(mixed_store, config, split)
        assert set(windows.batch(0, 2000).episode.tolist()) <= episodes
        assert {int(e) for batch in windows.in_order(64) for e in batch.episode} <= episodes


def test_an_episode_never_changes_sides(mixed_store, mixed_episodes, make_episode, fill, tmp_path):
    config = WindowConfig(held_out=0.4)

    def held_out(store):
        return {store.keys[number] for number in range(len(store)) if side(store, number, config) == "held-out"}

    few = held_out(fill(tmp_path / "store", mixed_episodes[10:30:3]))
    more = held_out(fill(tmp_path / "store", [make_episode(seed) for seed in range(300, 330)]))
    assert few < more
    keys = {episode.info.key for episode in mixed_episodes[10:30:3]}
    assert held_out(mixed_store) & keys == few == more & keys


def test_the_share_held_out_is_the_one_asked_for(mixed_store):
    names = SimpleNamespace(keys=[f"task-expert-{number}" for number in range(20_000)])
    for share in (0.05, 0.1, 0.5):
        config = WindowConfig(held_out=share)
        found = np.mean([side(names, number, config) == "held-out" for number in range(20_000)])
        assert abs(found - share) < 5 * np.sqrt(share * (1 - share) / 20_000)
    halves = [WindowConfig(held_out=0.5, split_seed=seed) for seed in (0, 1)]
    sides = [[side(names, number, config) for number in range(2000)] for config in halves]
    changed = sum(one != other for one, other in zip(*sides, strict=True))
    assert 800 < changed < 1200, "another seed is another split, and not the same one turned round"
    assert all(side(mixed_store, number, ALL) == "train" for number in range(len(mixed_store)))


def test_a_side_without_episodes_is_refused(mixed_store):
    with pytest.raises(UserError, match=r"held-out side of .*0 of 60 episodes"):
        Windows(mixed_store, ALL, "held-out")


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_in_order_visits_every_window_once(mixed_store, size):
    windows = Windows(mixed_store, WindowConfig(future=3, held_out=0.2))
    batches = [list(zip(batch.episode, batch.row, strict=True)) for batch in windows.in_order(size)]
    visited = [pair for batch in batches for pair in batch]
    assert visited == [
        (episode, row) for episode in windows.episodes for row in range(mixed_store.lengths[episode] - 3)
    ]
    assert len(visited) == len(windows)
    assert all(len(batch) == size for batch in batches[:-1])


# ---- memory

READING = """
import sys
from pathlib import Path
import numpy as np
from w4rl_fast.data.episode import Episode, EpisodeInfo, Schema
from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.measure import resident_bytes

class Made:
    "A store of 40 MB that exists nowhere but in its cache."
    path, cache, digest = Path(sys.argv[1]) / "made", Path(sys.argv[1]) / "cache", "made"
    schema = Schema(image_size=64, action_low=(-1.0,), action_high=(1.0,), proprio_dim=1)
    infos = [EpisodeInfo(task="toy", source="expert", seed=seed, succeeded=True) for seed in range(33)]
    keys, lengths = [info.key for info in infos], [100] * 33

    def __len__(self):
        return 33

    def read(self, number):
        rows = np.zeros((100, 1), np.float32)
        return Episode(np.full((100, 64, 64, 3), number, np.uint8), rows, rows, rows[:, 0] > 0, self.infos[number])

def mapped():
    return resident_bytes().file + resident_bytes().shared

for allowed in (4, 1000):
    windows = Windows(Made(), WindowConfig(held_out=0.0, resident_mb=allowed))
    room = windows.batch(0, 64).frames
    before, most = mapped(), 0
    for number in range(1, 20):
        windows.batch(number, 64, out=room)
        most = max(most, mapped() - before)
    print(most)
"""


def test_memory_does_not_grow_with_the_store(run_python, tmp_path):
    """Reading 80 MB at random out of 40 MB leaves no more than the 4 MB allowed mapped; without a bound, most."""
    bounded, unbounded = map(int, run_python(READING, tmp_path).split())
    shutil.rmtree(tmp_path)
    assert bounded < 6e6
    assert unbounded > 20e6
