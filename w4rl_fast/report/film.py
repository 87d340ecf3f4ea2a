"""Imagined beside real as moving pictures."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from w4rl_fast.report.imagined import to_bytes
from w4rl_fast.report.png import encode_apng
from w4rl_fast.truth.trials import Trials

GAP, HOLD, TIME = 2, 4, 2
"""Pixels between pictures, frames for which the last one is held, height of the line that tells the time."""
BACKGROUND, BEFORE, NOW = (40, 44, 50), (70, 76, 84), (95, 176, 255)
GAIN = 3


class Shown(Protocol):
    """real (H + 1, 3, S, S) from the present on, imagined (H, 3, S, S), both in [-1, 1]."""

    @property
    def real(self) -> Tensor: ...

    @property
    def imagined(self) -> Tensor: ...


def encode_film(film: Shown, *, fps: float = 5.0) -> bytes:
    """Real, imagined and, on grey and three times as strong, imagined minus real; a line below tells the time."""
    real, imagined = to_bytes(film.real), to_bytes(film.imagined)
    imagined = np.concatenate([real[:1], imagined])  # both begin with the last frame the world has seen
    difference = 128 + GAIN * (imagined.astype(np.int16) - real)
    return moving(beside([real, imagined, difference.clip(0, 255).astype(np.uint8)]), fps)


def encode_trial(imagined: Trials, simulated: Trials, episode: int, *, fps: float = 3.0) -> bytes:
    """For each kind of actions a column: the simulator above, imagined below."""
    columns = []
    for kind in range(imagined.frames.shape[1]):
        pair = [nhwc(trials.frames[episode, kind]) for trials in (simulated, imagined)]
        columns.append(beside(pair, axis=1))
    return moving(beside(columns), fps)


def nhwc(frames: Tensor) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = frames.movedim(-3, -1).contiguous().numpy()
    return pixels


def beside(pictures: list[NDArray[np.uint8]], *, axis: int = 2) -> NDArray[np.uint8]:
    """Moving pictures (N, H, W, 3) side by side (axis 2) or one below the other (axis 1)."""
    gap = list(pictures[0].shape)
    gap[axis] = GAP
    space = np.full(gap, BACKGROUND, np.uint8)
    parts = [part for picture in pictures for part in (picture, space)]
    return np.concatenate(parts[:-1], axis=axis)


def moving(frames: NDArray[np.uint8], fps: float) -> bytes:
    """An animated PNG with a line of time below. It begins with its end, held for a moment: where nothing moves, as in
    print, that is the picture that says most.
    """
    count, _, width, _ = frames.shape
    line = np.full((count, TIME, width, 3), BEFORE, np.uint8)
    for step in range(count):
        line[step, :, : round(width * step / max(count - 1, 1))] = NOW
    whole = np.concatenate([frames, line], axis=1)
    return encode_apng(np.concatenate([whole[-1:].repeat(HOLD, 0), whole]), fps=fps)
