"""Judges commanded joint positions as they arrive, gaps and all."""

from dataclasses import dataclass

import numpy as np

from tests.robot.fci.errors import ACCELERATION, JERK, POSITION, START, VELOCITY

TICK_S = 1e-3
JOINTS = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What an arm allows, seven values each: rad, rad/s, rad/s2, rad/s3 and Nm; the defaults are a Panda's."""

    position_min: tuple[float, ...] = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
    position_max: tuple[float, ...] = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
    velocity: tuple[float, ...] = (2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61)
    acceleration: tuple[float, ...] = (15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0)
    jerk: tuple[float, ...] = (7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0)
    torque: tuple[float, ...] = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if len(getattr(self, name)) != JOINTS:
                raise ValueError(f"{name} has {len(getattr(self, name))} values; give one for each of {JOINTS} joints")


class Checker:
    """Holds the commands of one motion to the limits, by what was received and by nothing else.

    A command is a position (7,) in rad and the tick that the client stepped to. Over the last n + 1 received commands
    the divided difference of order n, times n!, is a weighted mean of the nth differences at every tick between them,
    with weights that are positive and sum to one. So a path that obeys a bound at every tick obeys it whatever was
    lost, and without losses the plain nth difference is checked: there a breach of any length is found. Within a gap
    only the mean counts, and a breach that is made up for before the next command arrives is not seen.

    Velocity, acceleration and jerk are the orders 1, 2 and 3. The arm rested before its motion began, so the first
    command is held to what the jerk allows from rest in the ticks since then: anything else is a wrong start. What the
    arm made up for lost commands is never part of a check, or a client would answer for the arm's guess.
    """

    SLACK = 1e-6  # relative: twenty thousand roundings of a third difference

    def __init__(self, limits: Limits) -> None:
        """Start with an arm at rest at zero; `start` says where it is."""
        self.low, self.high = np.array(limits.position_min), np.array(limits.position_max)
        rates = np.array([limits.velocity, limits.acceleration, limits.jerk])
        self._per_bound = 1 / (rates * np.array([[TICK_S], [TICK_S**2 / 2], [TICK_S**3 / 6]]))
        self._peaks, self._parts = np.zeros((2, 3, JOINTS))
        self.start(np.zeros(JOINTS), 0)

    @property
    def peaks(self) -> np.ndarray:
        """The largest velocity, acceleration and jerk (3,) seen, each as a part of its limit."""
        return self._peaks.max(1)

    def start(self, q: np.ndarray, tick: int) -> None:
        """Begin a motion of an arm that has rested at q (7,) up to a tick."""
        self._ticks = (tick, tick - 1, tick - 2)
        self._divided, self._next = np.zeros((2, 4, JOINTS))  # differences of order 0 to 3, and room for the next ones
        self._divided[0] = q
        self._first = True

    @property
    def newest(self) -> int:
        """The tick of the newest command that passed."""
        return self._ticks[0]

    def command(self, q: np.ndarray, tick: int) -> tuple[str, ...]:
        """Names of the errors that a command (7,) for a tick commits; it becomes part of the path if there are none."""
        if tick <= self.newest:
            raise ValueError(f"tick {tick} follows {self.newest}; drop commands that were overtaken")
        old, new, parts = self._divided, self._next, self._parts
        new[0] = q
        for order, at in enumerate(self._ticks):
            np.subtract(new[order], old[order], out=new[order + 1])
            new[order + 1] /= tick - at
        np.abs(new[1:], out=parts)
        parts *= self._per_bound
        np.fmax(self._peaks, parts, out=self._peaks)
        outside = (new[0] < self.low).any() or (new[0] > self.high).any()
        if outside or not parts.max() <= 1 + self.SLACK:  # NaN is a breach too
            return (START,) if self._first else self._broken(outside)
        self._divided, self._next = new, old
        self._ticks, self._first = (tick, *self._ticks[:2]), False
        return ()

    def _broken(self, outside: bool) -> tuple[str, ...]:
        wrong = [outside, *~(self._parts.max(1) <= 1 + self.SLACK)]
        return tuple(name for name, yes in zip((POSITION, VELOCITY, ACCELERATION, JERK), wrong, strict=True) if yes)

    def finish(self) -> tuple[str, ...]:
        """Errors of standing still from the newest command on, as the end of a motion asks."""
        q, last = self._divided[0].copy(), self.newest
        return next(filter(None, (self.command(q, last + tick) for tick in (1, 2, 3))), ())

    def predict(self, missed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position, velocity and acceleration (7,) so many ticks after the newest command, at constant acceleration.

        The velocity is the difference to the tick before, so that positions are its running sum.
        """
        q, slope, bend = self._divided[:3]
        since = self._ticks[0] - self._ticks[1] + missed
        ahead = np.clip(q + missed * (slope + since * bend), self.low, self.high) if missed else q.copy()
        return ahead, (slope + (missed + since - 1) * bend) / TICK_S, 2 / TICK_S**2 * bend
