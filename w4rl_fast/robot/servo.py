"""A servo in this process: the native one, or the reference where there is no compiler."""

import mmap
from dataclasses import astuple
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.errors import UserError
from w4rl_fast.robot.protocol import JOINTS, REPORT, SAMPLE, Fault, Flag, Kind, Mode
from w4rl_fast.robot.reference import servo as reference
from w4rl_fast.robot.reference.servo import Settings

Numbers = NDArray[np.float64]


class Servo(Protocol):
    """Targets in, positions out. Angles in rad, times in ticks of this servo."""

    @property
    def command(self) -> Numbers: ...

    @property
    def tick(self) -> int: ...

    @property
    def mode(self) -> Mode: ...

    @property
    def fault(self) -> Fault: ...

    @property
    def flags(self) -> Flag: ...

    @property
    def width(self) -> float: ...

    @property
    def number(self) -> int: ...

    @property
    def joined(self) -> int: ...

    def start(self, joints: Numbers) -> bool: ...

    def post(self, kind: Kind, times: Numbers, values: Numbers, width: float = -1.0) -> int: ...

    def step(self, measured: Numbers | None = None, speed: Numbers | None = None, elapsed: int = 1) -> None: ...

    def run(self, ticks: int) -> tuple[Numbers, NDArray[np.int64]]: ...


def native() -> Any | None:
    """The compiled module, or None where it was not built."""
    try:
        from w4rl_fast.robot import _servo
    except ImportError:
        return None
    return _servo


def require_native() -> Any:
    module = native()
    if module is None:
        raise UserError(
            "the native servo",
            rule="it was not built, and an arm in real time needs it",
            remedy="Install a C++20 compiler (GCC 11 or later), then install w4rl-fast again",
        )
    return module


def native_settings(settings: Settings) -> Any:
    """The same settings as the native servo takes them."""
    axes = [[*astuple(axis)[:-2], *astuple(axis.braking), *astuple(axis.ending)] for axis in settings.axes]
    return require_native().settings(
        np.array(axes),
        np.array(settings.posture),
        np.array(settings.walls),
        np.array(settings.keep_out, dtype=np.float64).reshape(-1, 2, 3),
        np.array(settings.radii),
        np.array(settings.patience, dtype=np.int64),
        np.array(settings.jump),
        np.array(settings.give),
        settings.lead,
        settings.fading,
        settings.astray,
        settings.opening,
    )


class NativeServo:
    """The compiled servo with a mailbox of its own."""

    def __init__(self, settings: Settings) -> None:
        module = require_native()
        self._memory = np.frombuffer(mmap.mmap(-1, module.CHANNEL_BYTES), dtype=np.uint8)
        module.create_channel(self._memory)
        self._sender = module.Sender(self._memory)
        self.driver = module.Driver(native_settings(settings), self._memory)

    @property
    def command(self) -> Numbers:
        return np.asarray(self.driver.command)

    @property
    def tick(self) -> int:
        return int(self.driver.tick)

    @property
    def mode(self) -> Mode:
        return Mode(self.driver.mode)

    @property
    def fault(self) -> Fault:
        return Fault(self.driver.fault)

    @property
    def flags(self) -> Flag:
        return Flag(self.driver.flags)

    @property
    def width(self) -> float:
        return float(self.driver.width)

    @property
    def number(self) -> int:
        return int(self.driver.number)

    @property
    def joined(self) -> int:
        return int(self.driver.joined)

    def start(self, joints: Numbers) -> bool:
        return bool(self.driver.start(joints))

    def post(self, kind: Kind, times: Numbers, values: Numbers, width: float = -1.0) -> int:
        return int(self._sender.post(int(kind), times, values, width))

    def step(self, measured: Numbers | None = None, speed: Numbers | None = None, elapsed: int = 1) -> None:
        self.driver.step(measured, measured if speed is None else speed, 0.0, elapsed)

    def run(self, ticks: int) -> tuple[Numbers, NDArray[np.int64]]:
        """Go on by some ticks with nothing measured: positions (ticks, 7), and mode, fault and flags (ticks, 3)."""
        commands, states = np.empty((ticks, JOINTS)), np.empty((ticks, 3), dtype=np.int64)
        self.driver.run(commands, states)
        return commands, states

    def report(self) -> Any:
        """All that the servo says after a tick (protocol.REPORT)."""
        row = np.zeros(1, dtype=REPORT)
        self._sender.report(row.view(np.uint8))
        return row[0]

    @property
    def recorded(self) -> int:
        """How many ticks were recorded so far."""
        return int(self._sender.recorded)

    def samples(self, first: int, count: int) -> Any:
        """The record of some ticks (protocol.SAMPLE)."""
        rows = np.zeros(count, dtype=SAMPLE)
        self._sender.samples_since(first, rows.view(np.uint8))
        return rows


class ReferenceServo:
    """The definition behind the same contract."""

    def __init__(self, settings: Settings) -> None:
        self._servo = reference.Servo(settings)
        self._message: reference.Message | None = None

    @property
    def command(self) -> Numbers:
        return np.array(self._servo.command)

    @property
    def tick(self) -> int:
        return self._servo.tick

    @property
    def mode(self) -> Mode:
        return self._servo.mode

    @property
    def fault(self) -> Fault:
        return self._servo.fault

    @property
    def flags(self) -> Flag:
        return self._servo.flags

    @property
    def width(self) -> float:
        return self._servo.width

    @property
    def number(self) -> int:
        return self._servo.number

    @property
    def joined(self) -> int:
        return self._servo.joined

    def start(self, joints: Numbers) -> bool:
        self._servo.number = self._message.number if self._message else 0
        return self._servo.start([float(q) for q in joints])

    def post(self, kind: Kind, times: Numbers, values: Numbers, width: float = -1.0) -> int:
        number = self._message.number + 1 if self._message else 1
        points = tuple(tuple(float(x) for x in row) for row in values)
        self._message = reference.Message(number, int(kind), tuple(float(t) for t in times), points, width)
        return number

    def step(self, measured: Numbers | None = None, speed: Numbers | None = None, elapsed: int = 1) -> None:
        self._servo.step(self._message, None if measured is None else [float(q) for q in measured], elapsed)

    def run(self, ticks: int) -> tuple[Numbers, NDArray[np.int64]]:
        commands, states = np.empty((ticks, JOINTS)), np.empty((ticks, 3), dtype=np.int64)
        for k in range(ticks):
            self.step()
            commands[k] = self._servo.command
            states[k] = self.mode, self.fault, self.flags
        return commands, states


def make_servo(settings: Settings) -> Servo:
    """The native servo if it was built, else the reference, which says the same more slowly."""
    return NativeServo(settings) if native() is not None else ReferenceServo(settings)
