"""Somebody who plays with the block: walks up to it, pushes it, slips along it, leaves it, without a purpose."""

import math
from collections.abc import Callable

import numpy as np

from w4rl_fast.tasks.push_t.config import SQUARE
from w4rl_fast.tasks.push_t.physics import Table
from w4rl_fast.tasks.push_t.route import EDGE, Point, route, towards
from w4rl_fast.tasks.push_t.shape import CENTRE, DISC_RADIUS, HALF, OUTLINE, from_frame

SAFE = 130.0
"""A block further from the middle, in x or y, is only pushed back."""


class Player:
    """Plays one episode with habits of its own: a pace (units an action), a tremble and a constant bias (units)."""

    def __init__(self, table: Table, steps: int, rng: np.random.Generator) -> None:
        self._table, self._steps, self._rng = table, steps, rng
        self._pace = rng.uniform(8.0, 30.0)
        self._tremble = rng.uniform(0.0, 4.0)
        self._bias = rng.normal(0.0, 2.0, 2)
        self._move: Callable[[], Point] = self._walk
        self._left = 0
        self._aim: Point = (HALF, HALF)
        self._way = 0.0
        self._approach()

    def target(self) -> Point:
        """Where the disc is sent next (units)."""
        if self._left <= 0:
            self._change()
        self._left -= 1
        x, y = self._move()
        x += self._bias[0] + self._rng.normal(0.0, self._tremble)
        y += self._bias[1] + self._rng.normal(0.0, self._tremble)
        return self._table.target_for((keep(x), keep(y)), self._steps)

    def _change(self) -> None:
        """What comes after what has just ended: a walk to the block ends in a push, a push in anything."""
        if self._move == self._walk and self._touching():
            self._push()
        elif self._move == self._drive and self._rng.random() < 0.4:
            self._slip()
        elif self._move == self._drive and self._rng.random() < 0.4:
            self._leave()
        else:
            self._approach()

    def _touching(self) -> bool:
        return math.dist(self._table.disc, self._aim) < 2 * DISC_RADIUS and self._way_is_safe()

    def _approach(self) -> None:
        """Choose a point before the block's outline from which it may be pushed."""
        pose = self._table.pose
        for _ in range(20):
            side = int(self._rng.integers(len(OUTLINE)))
            (x, y), (end_x, end_y) = OUTLINE[side], OUTLINE[(side + 1) % len(OUTLINE)]
            along = self._rng.uniform(0.1, 0.9)
            inward = math.atan2(end_x - x, y - end_y)
            gap = DISC_RADIUS + self._rng.uniform(3.0, 12.0)
            self._aim = from_frame(
                pose,
                x + along * (end_x - x) - gap * math.cos(inward),
                y + along * (end_y - y) - gap * math.sin(inward),
            )
            self._way = inward + pose[2] + self._rng.normal(0.0, 0.3)
            if min(self._aim) >= EDGE and max(self._aim) <= SQUARE - EDGE and self._way_is_safe():
                break
        self._move, self._left = self._walk, 16

    def _push(self) -> None:
        self._move, self._left = self._drive, int(self._rng.integers(3, 11))

    def _slip(self) -> None:
        """Go on along the outline, still leaning on it."""
        self._way += self._rng.choice([-1.0, 1.0]) * self._rng.uniform(0.8, 1.4)
        self._move, self._left = self._drive, int(self._rng.integers(2, 6))

    def _leave(self) -> None:
        x, y = self._table.disc
        away = self._rng.uniform(30.0, 90.0)
        self._aim = keep(x - away * math.cos(self._way)), keep(y - away * math.sin(self._way))
        if self._rng.random() < 0.3:
            x, y = self._rng.uniform(EDGE, SQUARE - EDGE, 2)
            self._aim = float(x), float(y)
        self._move, self._left = self._stroll, int(self._rng.integers(2, 6))

    def _walk(self) -> Point:
        point = self._stroll(pace=2.0 * self._pace)
        if math.dist(self._table.disc, self._aim) < 12.0:
            self._left = 0
        return point

    def _stroll(self, pace: float | None = None) -> Point:
        here = self._table.disc
        return towards(here, route(here, self._aim, self._table.pose)[0], pace or self._pace)

    def _drive(self) -> Point:
        if not self._way_is_safe():
            self._left = 0
        x, y = self._table.disc
        return x + self._pace * math.cos(self._way), y + self._pace * math.sin(self._way)

    def _way_is_safe(self) -> bool:
        """Whether a push that way does not press a block near a wall further to it."""
        x, y = from_frame(self._table.pose, *CENTRE)
        pushed = (x - HALF, math.cos(self._way)), (y - HALF, math.sin(self._way))
        return all(abs(place) < SAFE or place * way < 0.0 for place, way in pushed)


def keep(value: float) -> float:
    """A coordinate of the disc, off the walls."""
    return min(SQUARE - EDGE, max(EDGE, value))
