"""The table of Push-T in pymunk: a disc that is driven, a block that slides without momentum, four walls."""

from functools import lru_cache
from typing import Any

import numpy as np

from w4rl_fast.errors import MissingExtra
from w4rl_fast.tasks.push_t.config import SQUARE
from w4rl_fast.tasks.push_t.shape import BAR, DISC_RADIUS, STEM, Pose

STEP = 0.01
STIFFNESS, DRAG = 100.0, 20.0
WALL_RADIUS = 2.0
WALLS = ((5.0, 5.0), (506.0, 5.0), (506.0, 506.0), (5.0, 506.0))


class Table:
    """One episode's space, so that nothing of an earlier episode is left in the solver."""

    def __init__(self, disc: tuple[float, float], pose: Pose, friction: float) -> None:
        try:
            import pymunk
        except ModuleNotFoundError as error:
            raise MissingExtra("pymunk", extra="sim") from error
        self._space = pymunk.Space()
        self._space.damping = 0.0
        for i, corner in enumerate(WALLS):
            self._space.add(pymunk.Segment(self._space.static_body, corner, WALLS[(i + 1) % 4], WALL_RADIUS))
        self._disc = make_disc(self._space, disc, friction)
        self._block = make_block(self._space, pose, friction)

    @property
    def disc(self) -> tuple[float, float]:
        x, y = self._disc.position
        return x, y

    @property
    def velocity(self) -> tuple[float, float]:
        """Of the disc, units a second."""
        x, y = self._disc.velocity
        return x, y

    @property
    def pose(self) -> Pose:
        x, y = self._block.position
        return x, y, self._block.angle

    def step(self, target: tuple[float, float]) -> None:
        """One physics step with the disc drawn to `target` by a damped spring."""
        (x, y), (vx, vy) = self._disc.position, self._disc.velocity
        self._disc.velocity = (
            vx + (STIFFNESS * (target[0] - x) - DRAG * vx) * STEP,
            vy + (STIFFNESS * (target[1] - y) - DRAG * vy) * STEP,
        )
        self._space.step(STEP)

    def target_for(self, point: tuple[float, float], steps: int) -> tuple[float, float]:
        """The target inside the square that brings the disc nearest to `point` when held for so many steps."""
        still, swing = coast(steps)
        near = [
            (p - still * x - swing * v) / (1.0 - still) for p, x, v in zip(point, self.disc, self.velocity, strict=True)
        ]
        return min(SQUARE, max(0.0, near[0])), min(SQUARE, max(0.0, near[1]))


@lru_cache
def coast(steps: int) -> tuple[float, float]:
    """What is left of an offset to the target after so many steps, and what a speed adds to it (s)."""
    once = np.array([[1.0 - STIFFNESS * STEP**2, STEP - DRAG * STEP**2], [-STIFFNESS * STEP, 1.0 - DRAG * STEP]])
    still, swing = np.linalg.matrix_power(once, steps)[0]
    return float(still), float(swing)


def make_disc(space: Any, place: tuple[float, float], friction: float) -> Any:
    """The disc, which goes where it is sent whatever is in its way."""
    import pymunk

    body = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
    body.position = place
    shape = pymunk.Circle(body, DISC_RADIUS)
    shape.friction = friction
    space.add(body, shape)
    return body


def make_block(space: Any, pose: Pose, friction: float) -> Any:
    """The T with the moment that the field gives it, twice the bar's."""
    import pymunk

    body = pymunk.Body(1.0, 2.0 * pymunk.moment_for_poly(1.0, BAR))
    bar, stem = (pymunk.Poly(body, corners) for corners in (BAR, STEM))
    bar.friction = stem.friction = friction
    body.center_of_gravity = (bar.center_of_gravity + stem.center_of_gravity) / 2
    body.angle = pose[2]  # turns about the centre of gravity, so it comes before the position
    body.position = pose[:2]
    space.add(body, bar, stem)
    return body
