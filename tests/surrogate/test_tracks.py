"""Sequences to learn dynamics from: whole, of one episode, of the side they belong to, and the newest of the dream."""

import numpy as np
import pytest
import torch

from tests.surrogate.toy import knowing, training, write_store
from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.fit import generator_at
from w4rl_fast.surrogate.tracks import RealTracks, Ring
from w4rl_fast.surrogate.train import tracks_of

pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element")


def numbered(first, count, steps=2):
    """Sequences that are told apart by every number in them."""
    numbers = torch.arange(first, first + count, dtype=torch.float32)
    return numbers[:, None, None].expand(count, steps + 1, 3), -numbers[:, None, None].expand(count, steps, 1)


def held(ring):
    return sorted(ring.track.latents[: len(ring), 0, 0].tolist())


@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 4, 5), (7,), (2, 7, 1), (7, 7, 7), (0, 3, 0), (3, 20)])
def test_the_ring_holds_the_newest(sizes) -> None:
    ring, written = Ring(7, 2, 3, 1), 0
    for size in sizes:
        ring.add(*numbered(written, size))
        written += size
        assert len(ring) == min(written, 7)
        assert held(ring) == [float(each) for each in range(max(0, written - 7), written)]
    latents, actions = ring.sample(200, generator_at(0, 0))
    assert latents.shape == (200, 3, 3)
    assert actions.shape == (200, 2, 1)
    assert set(latents.unique().tolist()) == set(held(ring))
    assert torch.equal(latents[:, :1, :1].expand(-1, 2, 1), -actions)


def test_the_ring_comes_back_and_goes_on_where_it_was() -> None:
    ring, again = Ring(7, 2, 3, 1), Ring(7, 2, 3, 1)
    for first in (0, 4, 8):
        ring.add(*numbered(first, 4))
    again.load(dict(ring.state()))
    for each in (ring, again):
        each.add(*numbered(12, 4))
    assert len(again) == 7
    assert torch.equal(again.track.latents, ring.track.latents)
    assert torch.equal(again.track.actions, ring.track.actions)
    assert torch.equal(again.sample(9, generator_at(1, 1)).latents, ring.sample(9, generator_at(1, 1)).latents)


@pytest.fixture(scope="module")
def tracks(store):
    """Latents are proprioception as it is."""
    return RealTracks(knowing(None, None), Windows(store, WindowConfig(history=1, future=0, held_out=0.3), "train"))


@pytest.fixture(scope="module")
def episodes(store):
    return [store.read(number) for number in range(len(store))]


def rows_of(episodes, numbers):
    """Where in which of these episodes a moment is, by its proprioception."""
    return {
        tuple(place): (number, row) for number in numbers for row, place in enumerate(episodes[number].proprio.tolist())
    }


@pytest.mark.parametrize("steps", [1, 4, 8, 10])
def test_a_real_sequence_is_a_stretch_of_one_episode(episodes, tracks, steps) -> None:
    where = rows_of(episodes, range(len(episodes)))
    latents, actions = tracks.sample(300, steps, generator_at(0, steps))
    seen = set()
    for one, acted in zip(latents.tolist(), actions.numpy(), strict=True):
        places = [where[tuple(place)] for place in one]
        episode, first = places[0]
        assert places == [(episode, first + t) for t in range(steps + 1)]
        assert np.array_equal(acted, episodes[episode].actions[first : first + steps])
        seen.add((episode, first))
    possible = sum(max(0, len(episodes[number]) - steps) for number in tracks.windows.episodes)
    assert len(seen) <= possible
    if steps == 8:
        assert {first for _, first in seen} == {0, 1, 2}, "also the first and the last place that is long enough"


def test_every_place_is_as_likely(tracks) -> None:
    latents, _ = tracks.sample(20_000, 7, generator_at(0, 0))
    _, counts = latents[:, 0].unique(dim=0, return_counts=True)
    places = int((tracks.lengths - 7).clamp_min(0).sum())
    assert len(counts) == places
    expected = 20_000 / places
    assert ((counts - expected).abs() < 5 * expected**0.5).all()


@pytest.mark.parametrize("side", ["train", "held-out"])
def test_it_holds_one_side_of_the_store_and_no_other(store, episodes, tracks, side) -> None:
    there = RealTracks(knowing(None, None), Windows(store, WindowConfig(history=1, future=0, held_out=0.3), side))
    where = rows_of(episodes, there.windows.episodes.tolist())
    assert {tuple(place) for place in there.latents.tolist()} == set(where)
    if side == "held-out":
        assert not set(there.windows.episodes) & set(tracks.windows.episodes)


def test_a_training_learns_from_the_train_side(store) -> None:
    config = training(held_out=0.4)
    ours, theirs = (set(tracks_of(knowing(None, None), store, config, side).windows.episodes)
                    for side in ("train", "held-out"))  # fmt: skip
    assert set(tracks_of(knowing(None, None), store, config).windows.episodes) == ours
    assert not ours & theirs
    assert len(ours | theirs) == len(store)


def test_draws_depend_on_the_generator_alone(tracks) -> None:
    first = tracks.sample(16, 3, generator_at(5, 6))
    torch.randn(3)
    tracks.sample(4, 2, generator_at(1, 1))
    again, other = tracks.sample(16, 3, generator_at(5, 6)), tracks.sample(16, 3, generator_at(5, 7))
    assert torch.equal(first.latents, again.latents)
    assert torch.equal(first.actions, again.actions)
    assert not torch.equal(first.latents, other.latents)


def test_latents_are_those_of_the_history_that_the_eyes_see(tmp_path, trained) -> None:
    """Each moment is encoded with the one before it, the first with itself."""
    small = write_store(tmp_path / "small", count=3)
    there = tracks_of(trained, small, training(held_out=0.0))
    episode = small.read(int(there.windows.episodes[1]))
    frames = torch.from_numpy(episode.frames).movedim(-1, 1).float() / 127.5 - 1
    rows = torch.arange(len(episode))
    pairs = torch.stack([(rows - 1).clamp_min(0), rows], 1)
    expected = trained.encode(frames[pairs], torch.from_numpy(episode.proprio)[pairs])
    first = small.lengths[there.windows.episodes[0]]
    torch.testing.assert_close(there.latents[first : first + len(episode)], expected, rtol=1e-4, atol=1e-5)
