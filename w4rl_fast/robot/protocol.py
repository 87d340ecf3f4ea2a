"""What goes between a policy, the servo and an arm: modes, faults, flags, and the sizes both sides agree on."""

from enum import IntEnum, IntFlag

JOINTS = 7
POINTS = 32
"""The most points of one message."""
TICK = 0.001


class Kind(IntEnum):
    """What a message asks for."""

    JOINTS = 1
    POSES = 2
    REST = 3
    """Brake and stay; nothing is expected afterwards."""
    RESET = 4
    """Go on after a latched fault of staleness, once at rest."""


class Mode(IntEnum):
    """What the servo is doing."""

    OFF = 0
    READY = 1
    """At rest, or on the way to it, and no target is expected."""
    FOLLOW = 2
    HOLD = 3
    """No new target for a while: the last one is followed to its end."""
    STOP = 4
    """None for longer: a controlled stop, from which a new target leads back."""
    FAULT = 5
    """Latched: a controlled stop, and no target is taken."""


class Fault(IntEnum):
    NONE = 0
    STALE = 1
    ASTRAY = 2
    """The arm is not where it was sent."""
    SENSOR = 3
    """The arm says that it is nowhere (not finite)."""
    INTERNAL = 4
    """The next command would not be one: a defect of the servo itself."""


class Wish(IntEnum):
    """What a policy's process asks a servo's for besides targets."""

    NOTHING = 0
    LEAVE = 1
    RECOVER = 2


class Link(IntEnum):
    """How the servo's process stands with its arm."""

    UP = 0
    REFLEX = 1
    """The robot stopped itself; `recover` makes it ready again."""


class Flag(IntFlag):
    """What became of the newest message in this tick, and what limits were met."""

    TAKEN = 1
    NOT_FINITE = 2
    SHAPE = 4
    """Kind, number of points, order of times or length of a quaternion."""
    RANGE = 8
    """Outside a joint's range, or further away than the arm reaches."""
    JUMP = 16
    TIME = 32
    """A time far from now: another clock."""
    LATCHED = 64
    """Refused since a fault is latched, or cannot be reset now."""
    WALL = 128
    """A pose was moved back into the workspace."""
    BRAKED = 256
    """The next step could not have stopped inside the workspace, so the arm brakes."""


REFUSED = Flag.NOT_FINITE | Flag.SHAPE | Flag.RANGE | Flag.JUMP | Flag.TIME | Flag.LATCHED

REPORT = [
    *((name, "<i8") for name in ("tick", "mode", "fault", "flags", "number", "joined", "age", "taken", "refused")),
    *((name, "<i8") for name in ("missed", "longest", "state", "stamp")),
    *((name, "<f8", JOINTS) for name in ("command", "speed", "acceleration", "goal", "measured", "measured_speed")),
    *((name, "<f8") for name in ("width", "opening")),
    ("duration", "<i8"),
]
"""What a servo says after each tick, as a numpy type: `number` of the newest message and the tick it `joined` at, ticks
`missed` in all and the `longest` run of them, `stamp` and `duration` of the last step (ns, monotonic), angles in rad.
"""
SAMPLE = [
    ("tick", "<i8"),
    ("mode", "<i8"),
    ("flags", "<i8"),
    ("duration", "<i8"),
    ("width", "<f8"),
    ("command", "<f8", JOINTS),
]
