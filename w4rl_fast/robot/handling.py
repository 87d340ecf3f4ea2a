"""What a policy's actions mean to an arm: a step of the commanded hand, and whether the fingers close."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.robot.arm import Command, State
from w4rl_fast.robot.protocol import TICK, Kind

Numbers = NDArray[np.float64]
DOWN = (0.0, 1.0, 0.0, 0.0)
"""A hand that points down, its fingers to the arm's left and right: a unit quaternion."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Handling:
    """A whole action moves the command by `step` (3,) m, inside a box (m); the hand is turned by a unit quaternion.

    rate: actions a second; opening: of the open fingers (m).
    """

    rate: float
    step: tuple[float, float, float]
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    turn: tuple[float, float, float, float] = DOWN
    opening: float = 0.08

    @property
    def period(self) -> int:
        """Ticks of an action."""
        return round(1 / (self.rate * TICK))


class Hand:
    """Where the hand is commanded to be, action by action."""

    def __init__(self, handling: Handling, state: State) -> None:
        self.handling = handling
        self.target: Numbers = state.pose[:3]

    def proprio(self, state: State) -> NDArray[np.float32]:
        """What the policy feels (7,): where the hand is (m), how open (0 to 1), where it is commanded to be (m)."""
        opening = np.clip(state.opening / self.handling.opening, 0.0, 1.0)
        return np.array([*state.tool, opening, *self.target], dtype=np.float32)

    def route(self, actions: NDArray[np.float32], begin: float, ahead: int = 0) -> Command:
        """Actions (K, 4) from a tick on, one period each: straight lines between the commanded places.

        The last line goes on for `ahead` ticks: as long as it takes until the next message is there.
        """
        handling = self.handling
        places = [self.target]
        for action in np.clip(actions.astype(np.float64), -1.0, 1.0):
            moved = places[-1] + action[:3] * np.array(handling.step)
            places.append(np.clip(moved, handling.low, handling.high))
        times = begin + handling.period * np.arange(len(places), dtype=np.float64)
        if ahead > 0:
            on = places[-1] + (places[-1] - places[-2]) * (ahead / handling.period)
            places.append(np.clip(on, handling.low, handling.high))
            times = np.append(times, times[-1] + ahead)
        values = np.array([[*place, *handling.turn] for place in places])
        width = 0.0 if actions[0][-1] > 0 else handling.opening
        return Command(Kind.POSES, times, values, width)

    def reached(self, command: Command) -> None:
        """The command was taken: its first action is where the next one begins."""
        self.target = command.values[1, :3].copy()
