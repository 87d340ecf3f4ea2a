"""The contract of an arm, whatever moves it: where it is, where it is sent, and how time passes there."""

from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.errors import UserError
from w4rl_fast.robot.protocol import JOINTS, Fault, Flag, Kind, Mode
from w4rl_fast.robot.reference import kinematics, route
from w4rl_fast.robot.reference import servo as reference
from w4rl_fast.robot.reference.servo import Settings

Numbers = NDArray[np.float64]
NOTHING = Flag(0)


@dataclass(frozen=True, slots=True)
class State:
    """An arm at a tick: angles (7,) rad as measured and as commanded, rad/s, how far the fingers are apart (m).

    number: of the newest message that the servo read, which it `joined` at that tick; stamp: when (ns, monotonic).
    """

    tick: int
    mode: Mode
    fault: Fault
    flags: Flag
    joints: Numbers
    speed: Numbers
    command: Numbers
    goal: Numbers
    opening: float
    number: int = 0
    joined: int = 0
    age: int = 0
    refused: int = 0
    missed: int = 0
    longest: int = 0
    stamp: int = 0

    @property
    def tool(self) -> Numbers:
        """Where the point between the fingertips is (3,), m."""
        return np.array(kinematics.place([float(q) for q in self.joints]).tool)

    @property
    def pose(self) -> Numbers:
        """Where it is commanded to be (3,), m, and how it is turned there: a unit quaternion."""
        arm = kinematics.place([float(q) for q in self.command])
        return np.array([*arm.tool, *route.quaternion(arm.turn)])


@dataclass(frozen=True, slots=True)
class Command:
    """Where to go: times (N,) in ticks of the arm and values (N, 7), angles or poses; width: of the fingers (m) or -1.

    refused: what was wrong with it, where it was not sent on; number: of the message, once it was sent.
    """

    kind: Kind
    times: Numbers = field(default_factory=lambda: np.zeros(0))
    values: Numbers = field(default_factory=lambda: np.zeros((0, JOINTS)))
    width: float = -1.0
    refused: Flag = NOTHING
    number: int = 0


class ArmLost(UserError):
    """The arm, or the process that serves it, does not answer any more."""


class Arm(Protocol):
    """An arm that is ready to move between entering and leaving; leaving it stops it, in a controlled way."""

    @property
    def rate(self) -> int:
        """Ticks a second."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def read(self) -> State: ...

    def send(self, command: Command) -> Command:
        """Give a target; returns what was really sent after the limits, or why nothing was."""
        ...

    def wait(self, tick: int) -> State:
        """Let time pass until a tick of the arm, at least."""
        ...

    def rest(self) -> State:
        """Brake, and return at rest."""
        ...

    def recover(self) -> State:
        """Make the arm ready again after a fault, from where it is; an error says what stands in the way."""
        ...


def limited(command: Command, state: State, settings: Settings) -> Command:
    """What of a command the servo will follow: the same judgement as its own, without what only it can know."""
    if command.kind not in (Kind.JOINTS, Kind.POSES):
        return command
    message = message_of(command)
    flags = reference.faulty(message, state.tick, settings)
    if state.mode == Mode.FAULT:
        flags |= Flag.LATCHED
    if flags:
        return Command(command.kind, command.times, command.values, command.width, flags)
    values = message.values
    if command.kind == Kind.POSES:
        values, _ = reference.walled(values, settings.walls)
    return Command(command.kind, command.times, np.array(values), min(command.width, settings.opening))


def message_of(command: Command) -> reference.Message:
    values = tuple(tuple(float(x) for x in row) for row in command.values)
    return reference.Message(0, int(command.kind), tuple(float(t) for t in command.times), values, command.width)


def state_of(report: Any) -> State:
    """A servo's report (protocol.REPORT) as a state."""
    return State(
        tick=int(report["tick"]),
        mode=Mode(int(report["mode"])),
        fault=Fault(int(report["fault"])),
        flags=Flag(int(report["flags"])),
        joints=report["measured"].copy(),
        speed=report["measured_speed"].copy(),
        command=report["command"].copy(),
        goal=report["goal"].copy(),
        opening=float(report["opening"]),
        number=int(report["number"]),
        joined=int(report["joined"]),
        age=int(report["age"]),
        refused=int(report["refused"]),
        missed=int(report["missed"]),
        longest=int(report["longest"]),
        stamp=int(report["stamp"]),
    )
