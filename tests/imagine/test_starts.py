"""Start states: the moments of the store they say they are, drawn by a world's own seed."""

import dataclasses

import numpy as np
import pytest
import torch

from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.errors import UserError
from w4rl_fast.imagine import StartConfig, load_starts

TASK = "test/square"


def frames_of(starts):
    return starts.pixels[starts.rows].float() / 127.5 - 1, starts.pixels[starts.anchors].float() / 127.5 - 1


def window_of(store, world, split):
    return Windows(store, WindowConfig(history=world.config.history, future=1, anchor=True), split)


@pytest.mark.parametrize("split", ["train", "held-out"])
@pytest.mark.parametrize("rows", ["first", "any"])
def test_starts_are_the_windows_of_the_store(store, world, split, rows) -> None:
    starts = load_starts(store, world.config, StartConfig(task=TASK, split=split, rows=rows))
    windows = window_of(store, world, split)
    chosen, present = windows.places()
    kept = ~windows.successes() & ((present == 0) | (rows == "any"))
    batch = windows.gather(chosen[kept], present[kept])
    history = world.config.history
    frames, anchors = frames_of(starts)
    assert len(starts) == kept.sum()
    assert torch.equal(frames, batch.frames[:, :history])
    assert torch.equal(anchors, batch.anchor)
    assert torch.equal(starts.proprio, batch.proprio[:, :history])
    assert torch.equal(starts.actions[:, :-1], batch.actions[:, : history - 1])
    assert not starts.actions[:, -1].any()


def test_the_two_sides_share_no_start(store, world) -> None:
    one, other = (
        load_starts(store, world.config, StartConfig(task=TASK, split=side)) for side in ("train", "held-out")
    )
    assert len(one) + len(other) == len(store)
    assert not {tuple(p) for p in one.proprio[:, -1].tolist()} & {tuple(p) for p in other.proprio[:, -1].tolist()}


def test_at_most_so_many_are_kept_from_the_whole_store(store, world) -> None:
    every = load_starts(store, world.config, StartConfig(task=TASK, rows="any"))
    some = load_starts(store, world.config, StartConfig(task=TASK, rows="any", most=10))
    assert len(some) == 10
    assert len(some.pixels) < len(every.pixels)
    assert torch.equal(some.proprio[-1], every.proprio[-1])


def test_a_draw_depends_on_its_own_seed_and_episode_alone(starts) -> None:
    seeds, episodes = torch.arange(200), torch.arange(200) % 7
    drawn = starts.draw(seeds, episodes)
    order = torch.randperm(200)
    assert torch.equal(starts.draw(seeds[order], episodes[order]), drawn[order])
    assert torch.equal(starts.draw(seeds[5:6], episodes[5:6]), drawn[5:6])


def test_every_start_is_drawn_about_as_often(starts) -> None:
    drawn = starts.draw(torch.arange(200) % 50, torch.arange(200) // 50).tolist()
    many = starts.draw(torch.arange(20_000), torch.zeros(20_000, dtype=torch.int64))
    counts = np.bincount(many.numpy(), minlength=len(starts))
    expected = 20_000 / len(starts)
    assert ((counts - expected) ** 2 / expected).sum() < 2 * len(starts)
    assert len(set(drawn)) > len(starts) / 2


def test_another_task_is_refused(store, world) -> None:
    with pytest.raises(UserError, match="imagines test/circle"):
        load_starts(store, world.config, StartConfig(task="test/circle"))


@pytest.mark.parametrize("change", [{"image_size": 32}, {"action_dim": 3}, {"proprio_dim": 5}])
def test_another_size_is_refused(store, world, change) -> None:
    with pytest.raises(UserError, match="this world has"):
        load_starts(store, dataclasses.replace(world.config, **change), StartConfig(task=TASK))
