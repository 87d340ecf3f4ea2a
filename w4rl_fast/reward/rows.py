"""Labelled frames to learn from: real ones, and what the world made of the same episodes."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w4rl_fast.data.windows import Windows
from w4rl_fast.errors import UserError

FREE, FORCED = 0, 1
"""Modes of a dream: on its own from the first frame on, or one step from each real past."""


class Dreams(NamedTuple):
    """Slices (E, 2, H, S, S, 3) uint8, memory-mapped from a folder, in both modes, of some episodes of a store."""

    folder: Path
    slices: list[NDArray[np.uint8]]
    episodes: NDArray[np.int64]


class Labelled(NamedTuple):
    """frames (B, n, 3, S, S) in [-1, 1], anchor (B, 3, S, S), success (B,) as 0 or 1."""

    frames: Tensor
    anchor: Tensor
    success: Tensor


class Rows(Protocol):
    """Frames with a label each, episode by episode; `failing` marks those of episodes that never succeed.

    success, failing (N,); lengths (E,) rows of each episode, N in all.
    """

    success: NDArray[np.bool_]
    failing: NDArray[np.bool_]
    lengths: NDArray[np.int64]

    def gather(self, at: NDArray[np.int64]) -> Labelled: ...


class RealRows:
    """Every observation of the episodes on one side of a store; windows hold 1 or 2 observations, and the anchor."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self.chosen, self.present = windows.places()
        self.success = windows.successes()
        self.lengths = windows.counts
        infos = [windows.store.infos[episode] for episode in windows.episodes]
        self.failing = np.array([not info.succeeded for info in infos])[self.chosen]

    def gather(self, at: NDArray[np.int64]) -> Labelled:
        batch = self.windows.gather(self.chosen[at], self.present[at])
        assert batch.anchor is not None
        return Labelled(batch.frames, batch.anchor, torch.from_numpy(self.success[at]).float())


class DreamRows:
    """What a world imagined of some episodes, labelled by what really happened."""

    def __init__(self, windows: Windows, dreams: Dreams, *, mode: int) -> None:
        self.windows, self.dreams, self.mode = windows, dreams, mode
        self.steps = dreams.slices[0].shape[2]
        self.chosen = np.searchsorted(windows.episodes, dreams.episodes)
        starts = (np.cumsum(windows.counts) - windows.counts)[self.chosen]
        real = RealRows(windows)
        rows = starts[:, None] + 1 + np.arange(self.steps)
        self.success = real.success[rows].ravel()
        self.failing = real.failing[rows].ravel()
        self.lengths = np.full(len(self.chosen), self.steps)

    def gather(self, at: NDArray[np.int64]) -> Labelled:
        episode, step = at // self.steps, at % self.steps
        before = self.windows.gather(self.chosen[episode], step)  # the real observations up to the one before
        assert before.anchor is not None
        frames = self._frames(episode, step)[:, None]
        if self.windows.config.history == 2:
            past = before.frames[:, -1:].clone()
            if self.mode == FREE:
                dreamt = step > 0
                past[dreamt, 0] = self._frames(episode[dreamt], step[dreamt] - 1)
            frames = torch.cat([past, frames], dim=1)
        return Labelled(frames, before.anchor, torch.from_numpy(self.success[at]).float())

    def _frames(self, episode: NDArray[np.int64], step: NDArray[np.int64]) -> Tensor:
        places = zip(episode.tolist(), step.tolist(), strict=True)
        each = len(self.dreams.slices[0])
        pixels = [self.dreams.slices[e // each][e % each, self.mode, s] for e, s in places]
        size = self.windows.store.schema.image_size
        stacked = np.stack(pixels) if pixels else np.empty((0, size, size, 3), np.uint8)
        return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 127.5 - 1


class Balanced:
    """Draws a third successes, a third frames of failing episodes (near misses), a third other frames."""

    def __init__(self, rows: Rows, name: str) -> None:
        self.rows = rows
        groups = (rows.success, ~rows.success & rows.failing, ~rows.success & ~rows.failing)
        self.groups = [np.flatnonzero(group) for group in groups]
        for group, what, remedy in (
            (0, "success", "Add demonstrations, or roll out a policy that succeeds now and then"),
            (1, "failure", "Add rollouts of a policy with noise and bias, or random motion"),
        ):
            if not len(self.groups[group]):
                raise UserError(
                    f"{name} without a single {what}",
                    rule="a classifier learns from episodes that succeed and from episodes that fail",
                    remedy=remedy,
                )
        self.groups = [group for group in self.groups if len(group)]

    def draw(self, rng: np.random.Generator, size: int) -> Labelled:
        which = rng.integers(len(self.groups), size=size)
        counts = np.bincount(which, minlength=len(self.groups))
        chosen = [group[rng.integers(len(group), size=count)] for group, count in zip(self.groups, counts, strict=True)]
        return self.rows.gather(np.concatenate(chosen))


def join(parts: list[Labelled]) -> Labelled:
    return Labelled(*(torch.cat(fields) for fields in zip(*parts, strict=True)))


def by_episode(values: NDArray[Any], rows: Rows) -> NDArray[Any]:
    """Values (N,) of rows as (E, longest), with zeros behind shorter episodes."""
    table = np.zeros((len(rows.lengths), rows.lengths.max()), values.dtype)
    table[np.arange(table.shape[1]) < rows.lengths[:, None]] = values
    return table


def outcomes(rows: Rows) -> NDArray[np.bool_]:
    """Whether any row of each episode (E,) shows success."""
    return np.asarray(by_episode(rows.success, rows).any(axis=1))
