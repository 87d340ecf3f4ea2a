"""Pictures of the table from above, by signed distances; the same bytes on every machine."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from w4rl_fast.tasks.push_t.config import SQUARE
from w4rl_fast.tasks.push_t.physics import WALL_RADIUS, WALLS
from w4rl_fast.tasks.push_t.shape import DISC_RADIUS, Pose, distance

Frame = NDArray[np.uint8]

TABLE = (255, 255, 255)
WALL = (211, 211, 211)
GOAL = (144, 238, 144)
BLOCK = (119, 136, 153)
DISC = (65, 105, 225)
TEE, ROUND, FENCE = 0, 1, 2
FINE = 4
"""Samples a pixel's side is divided into where an outline crosses it."""
FURTHEST = math.hypot(60.0, 120.0)
"""No point of the T is further from the origin of its pose."""
FENCE_LOW, FENCE_HIGH = WALLS[0][0], WALLS[2][0]


class Painter:
    """Draws at one size; walls and goal are drawn once."""

    def __init__(self, size: int, goal: Pose) -> None:
        self._blank = np.empty((size, size, 3), dtype=np.uint8)
        self._blank[:] = TABLE
        draw(self._blank, FENCE, 0.0, 0.0, 0.0, 2 * SQUARE, WALL)
        draw(self._blank, TEE, *goal, FURTHEST, GOAL)

    def paint(self, disc: tuple[float, float], pose: Pose) -> Frame:
        """The picture (size, size, 3) of a disc and a block."""
        frame = self._blank.copy()
        draw(frame, ROUND, *disc, 0.0, DISC_RADIUS, DISC)
        draw(frame, TEE, *pose, FURTHEST, BLOCK)
        return frame


@njit(cache=True)
def outline(kind, x, y):  # type: ignore[no-untyped-def]
    """Signed distance from a point in the thing's own frame."""
    if kind == TEE:
        return distance(x, y)
    if kind == ROUND:
        return math.hypot(x, y) - DISC_RADIUS
    middle = 0.5 * (FENCE_LOW + FENCE_HIGH)
    return abs(max(abs(x - middle), abs(y - middle)) - (FENCE_HIGH - middle)) - WALL_RADIUS


@njit(cache=True)
def draw(frame, kind, x, y, angle, reach, colour):  # type: ignore[no-untyped-def]
    """Draw a thing no point of which is further than `reach` from its place into frame (n, n, 3)."""
    n = frame.shape[0]
    unit = SQUARE / n
    cos, sin = math.cos(angle), math.sin(angle)
    for row in range(max(0, math.floor((y - reach) / unit)), min(n, math.floor((y + reach) / unit) + 1)):
        for column in range(max(0, math.floor((x - reach) / unit)), min(n, math.floor((x + reach) / unit) + 1)):
            dx, dy = (column + 0.5) * unit - x, (row + 0.5) * unit - y
            away = outline(kind, cos * dx + sin * dy, cos * dy - sin * dx)
            if away >= unit:
                continue
            share = 1.0
            if away > -unit:
                share = fill(kind, cos * dx + sin * dy, cos * dy - sin * dx, cos, sin, unit)
            for k in range(3):
                frame[row, column, k] = np.uint8(frame[row, column, k] * (1.0 - share) + colour[k] * share + 0.5)


@njit(cache=True)
def fill(kind, x, y, cos, sin, unit):  # type: ignore[no-untyped-def]
    """The share of the pixel around a point of the thing's own frame that it covers."""
    fine = unit / FINE
    total = 0.0
    for i in range(FINE):
        for j in range(FINE):
            dx, dy = (j + 0.5) * fine - 0.5 * unit, (i + 0.5) * fine - 0.5 * unit
            away = outline(kind, x + cos * dx + sin * dy, y + cos * dy - sin * dx)
            total += min(1.0, max(0.0, 0.5 - away / fine))
    return total / FINE**2
