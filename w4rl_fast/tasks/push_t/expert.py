"""A scripted expert: plans a push, walks to where it begins, pushes, and plans again."""

import math

import numpy as np

from w4rl_fast.tasks.push_t.physics import Table
from w4rl_fast.tasks.push_t.planning import CONTACTS, plan, project, pushed
from w4rl_fast.tasks.push_t.route import Point, route, towards
from w4rl_fast.tasks.push_t.shape import DISC_RADIUS, Pose, coverage, from_frame

GAP = 6.0
"""The disc stops so far before the block, and pushes from there."""
WALK, PUSH = 40.0, 12.0
"""Units an action at most."""
DONE = 0.965
"""The coverage at which it stops."""
PATIENCE = 30
"""Actions after which it plans again, whatever has come of the push."""


class Expert:
    """Pushes the block of one episode to its goal; `steps` are the physics steps an action is held."""

    def __init__(self, table: Table, goal: Pose, steps: int) -> None:
        self._table, self._goal, self._steps = table, goal, steps
        self._contact, self._wanted = -1, goal
        self._pushing = False
        self._left = 0

    def target(self) -> Point:
        """Where the disc is sent next (units)."""
        return self._table.target_for(self._next(), self._steps)

    def _next(self) -> Point:
        """Where the disc is to be after this action."""
        table = self._table
        if coverage(table.pose, self._goal) >= DONE:
            return table.disc
        if self._left <= 0 or (self._pushing and self._far() < 0.4):
            self._contact, self._wanted = plan(table.disc, table.pose, self._goal, GAP)
            self._pushing, self._left = False, PATIENCE
        self._left -= 1
        if self._contact < 0:
            return table.disc
        if not self._pushing:
            aim = self._before(table.pose, GAP)
            if math.dist(table.disc, aim) > 4.0:
                return towards(table.disc, route(table.disc, aim, table.pose)[0], WALK)
            self._pushing = True
        return self._push()

    def _far(self) -> float:
        """How much of the push is left (units)."""
        return float(project(*self._table.pose, np.array(self._wanted), CONTACTS[self._contact]))

    def _push(self) -> Point:
        """Follow the contact to where a part of the way that is left will have brought it."""
        way = min(PUSH, 0.5 * self._far() + 0.5)
        x, y, angle = pushed(*self._table.pose, CONTACTS[self._contact], way)
        return self._before((x, y, angle), 0.0)

    def _before(self, pose: Pose, gap: float) -> Point:
        """The middle of the disc `gap` units before its contact with a block at a pose."""
        x, y, n_x, n_y = (float(number) for number in CONTACTS[self._contact])
        return from_frame(pose, x - (DISC_RADIUS + gap) * n_x, y - (DISC_RADIUS + gap) * n_y)
