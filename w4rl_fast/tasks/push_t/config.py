"""Settings of Push-T."""

from dataclasses import dataclass
from typing import Literal

SQUARE = 512.0
"""Units a side; 0, 0 is the upper left corner of the picture, y points down."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PushTConfig:
    """What the defaults leave as the field has it: 512 units a side, no friction, starts anywhere.

    The block begins within `spread` units of the `middle` in x and in y, turned by up to `turn` radians either way from
    the goal's angle; the disc within `disc_low` and `disc_high`, clear of the block. `goal` is a pose (x, y, radians).
    `friction` is between disc and block. With `control` "absolute" an action is where the disc is to go, -1 and 1 being
    the ends of the square; "relative" it is a way from where the disc is, `reach` units at most in x and in y.
    """

    goal: tuple[float, float, float] = (256.0, 256.0, 0.7853981633974483)
    middle: tuple[float, float] = (250.0, 250.0)
    spread: float = 150.0
    turn: float = 3.141592653589793
    disc_low: float = 50.0
    disc_high: float = 450.0
    friction: float = 0.0
    control: Literal["absolute", "relative"] = "absolute"
    reach: float = 100.0

    def __post_init__(self) -> None:
        if min(self.spread, self.turn, self.friction) < 0 or self.reach <= 0:
            raise ValueError(
                f"spread={self.spread}, turn={self.turn}, friction={self.friction}, reach={self.reach}: none is below"
                " 0, and reach is above it"
            )
        if not 0 < self.disc_low <= self.disc_high < SQUARE:
            raise ValueError(
                f"disc_low={self.disc_low}, disc_high={self.disc_high}: in this order inside the {SQUARE:g} units"
            )
