"""Imagined beside real, as a picture."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from w4rl_fast.report.text import LINE_HEIGHT, draw_text

BACKGROUND, TEXT = (22, 24, 28), (228, 231, 235)


def to_bytes(frames: Tensor) -> NDArray[np.uint8]:
    """Frames (..., 3, S, S) in [-1, 1] as (..., S, S, 3) uint8."""
    pixels = ((frames.float() + 1) * 127.5).round().clamp(0, 255).movedim(-3, -1)
    return pixels.numpy().astype(np.uint8)


def beside_real(real: Tensor, imagined: Tensor, steps: list[int], *, scale: int = 2) -> NDArray[np.uint8]:
    """For each of B episodes a row of real and below it a row of imagined frames (B, H, 3, S, S), at some steps."""
    pairs = np.stack([to_bytes(real[:, steps]), to_bytes(imagined[:, steps])], axis=1)
    pairs = pairs.repeat(scale, axis=3).repeat(scale, axis=4)
    b, rows, n, height, width, _ = pairs.shape
    gap, left, top = 4, 70, LINE_HEIGHT + 8
    canvas = np.empty((top + b * (rows * (height + gap) + 2 * gap), left + n * (width + gap), 3), np.uint8)
    canvas[:] = BACKGROUND
    for column, step in enumerate(steps):
        draw_text(canvas, left + column * (width + gap) + 2, 4, f"step {step + 1}", TEXT)
    for episode in range(b):
        for row, name in enumerate(("real", "imagined")):
            y = top + episode * (rows * (height + gap) + 2 * gap) + row * (height + gap)
            draw_text(canvas, 4, y + height // 2, name, TEXT)
            for column in range(n):
                x = left + column * (width + gap)
                canvas[y : y + height, x : x + width] = pairs[episode, row, column]
    return canvas
