"""The servo in plain Python: targets in, one command a tick out; the definition that the native one repeats bit for
bit."""

from dataclasses import dataclass, field
from math import isfinite

from w4rl_fast.robot.protocol import JOINTS, POINTS, TICK, Fault, Flag, Kind, Mode
from w4rl_fast.robot.reference import kinematics, route, tracker
from w4rl_fast.robot.reference.kinematics import Placement, Vector
from w4rl_fast.robot.reference.route import Route
from w4rl_fast.robot.reference.tracker import Axis, Motion

NOTHING = Flag(0)
FAR = 10_000.0
"""Ticks that a time may lie from now."""
LONGEST = 2.0
"""Metres that a pose may lie from the base along any axis."""
SLACK = 0.002
"""How far (m) every point that is looked at stays from the walls, for what happens between two of them."""
INSIDE = 0.004
"""How far (m) from the walls a pose is kept, so that reaching it needs no braking."""
LEVER = 1.2
"""The most that any point of the arm moves when a joint does, m/rad."""
TINY = 1e-12
LOOKS = 8
"""Moments of a stop at which the arm is looked at."""
DAMPING = 0.03
HOMING = 0.0005
"""Of the way to the posture, what a tick takes of it where the pose leaves the arm free."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Limits of the joints, the workspace, and when what counts as too late, too far or too much at once.

    walls: lowest and highest corner (m) for the tool; keep_out: boxes (lowest, highest corner, m) that no part of the
    arm enters; patience: ticks without a new target until hold, stop, fault; jump: most that a target may differ from
    the one it replaces (rad; m; and rad for a turn, as a quaternion's half sine); astray: most that an arm may differ
    from its command (rad); lead: most that a pose may be beyond where the tool is measured (m), so that what stands in
    the way is pushed so hard and no harder.
    """

    axes: tuple[Axis, ...]
    posture: tuple[float, ...]
    walls: tuple[Vector, Vector]
    keep_out: tuple[tuple[Vector, Vector], ...]
    radii: tuple[float, ...]
    patience: tuple[int, int, int]
    jump: tuple[float, float, float]
    give: tuple[float, ...]
    lead: float
    fading: int
    astray: float
    opening: float


@dataclass(frozen=True, slots=True)
class Message:
    """A target: points with times (ticks of the servo), for joints (rad) or poses (m, unit quaternion).

    width: how far the fingers should open (m), negative for as they are. number: rises by one with each message.
    """

    number: int
    kind: int
    times: tuple[float, ...] = ()
    values: tuple[tuple[float, ...], ...] = ()
    width: float = -1.0


@dataclass(slots=True)
class Servo:
    """One arm's command, a tick at a time. Nothing here waits, raises or asks for the time."""

    settings: Settings
    tick: int = 0
    mode: Mode = Mode.OFF
    fault: Fault = Fault.NONE
    flags: Flag = NOTHING
    number: int = 0
    age: int = 0
    width: float = -1.0
    motions: list[Motion] = field(default_factory=list)
    goal: list[float] = field(default_factory=list)
    target: list[float] = field(default_factory=list)
    kind: int = 0
    route: Route | None = None
    taken: int = 0
    refused: int = 0
    joined: int = 0
    measured: list[float] | None = None

    def start(self, joints: list[float]) -> bool:
        """Begin at rest at the measured angles (rad); False where nothing may begin."""
        if not all(isfinite(q) for q in joints) or not all(
            axis.low <= q <= axis.high for axis, q in zip(self.settings.axes, joints, strict=True)
        ):
            return False
        if self._room(kinematics.place(joints)) < SLACK:
            return False
        self.motions = [Motion(q) for q in joints]
        self.goal = self.target = list(joints)
        self.mode, self.fault, self.flags, self.age, self.kind, self.route = Mode.READY, Fault.NONE, Flag(0), 0, 0, None
        return True

    def step(self, message: Message | None, measured: list[float] | None = None, elapsed: int = 1) -> None:
        """Take what is new, then go on by as many ticks as have passed since the last call."""
        self.flags = Flag(0)
        if self.mode == Mode.OFF:
            return
        self.measured = measured
        if measured is not None:
            self._compare(measured)
        if message is not None and message.number != self.number:
            self._take(message)
        for _ in range(elapsed):
            self._watch()
            self._move()
            self.tick += 1
            self.age += 1

    @property
    def command(self) -> list[float]:
        return [motion.position for motion in self.motions]

    def _compare(self, measured: list[float]) -> None:
        if not all(isfinite(q) for q in measured):
            self._fail(Fault.SENSOR)
        elif any(abs(q - m.position) > self.settings.astray for q, m in zip(measured, self.motions, strict=True)):
            self._fail(Fault.ASTRAY)

    def _fail(self, fault: Fault) -> None:
        if self.mode != Mode.FAULT:
            self.mode, self.fault = Mode.FAULT, fault
            self._brake()

    def _brake(self) -> None:
        """From now on the goal is where each joint comes to rest if it brakes at once."""
        self.goal = self.target = self._rests(self.motions)
        self.route = None

    def _rests(self, motions: list[Motion]) -> list[float]:
        return [tracker.rest(m, axis.braking, axis) for m, axis in zip(motions, self.settings.axes, strict=True)]

    def _still(self) -> bool:
        return all(m.speed == 0.0 and m.acceleration == 0.0 for m in self.motions)

    def _take(self, message: Message) -> None:
        self.number = message.number
        flags = self._judge(message)
        self.flags |= flags
        if flags & Flag.TAKEN:
            self.taken += 1
            self.joined = self.tick
        else:
            self.refused += 1

    def _judge(self, message: Message) -> Flag:
        if message.kind == Kind.RESET:
            if self.mode != Mode.FAULT or self.fault != Fault.STALE or not self._still():
                return Flag.LATCHED
            self.mode, self.fault, self.age = Mode.READY, Fault.NONE, 0
            return Flag.TAKEN
        if self.mode == Mode.FAULT:
            return Flag.LATCHED
        if message.kind == Kind.REST:
            self._brake()
            self.mode, self.age = Mode.READY, 0
            return Flag.TAKEN
        flags = faulty(message, self.tick, self.settings)
        if flags:
            return flags
        flags = self._join(message)
        if flags & Flag.TAKEN:
            self.mode, self.age = Mode.FOLLOW, 0
            if message.width >= 0.0:
                self.width = min(message.width, self.settings.opening)
        return flags

    def _join(self, message: Message) -> Flag:
        """Let a route take over where the goal is now, if it does not jump."""
        values, flags = message.values, Flag.TAKEN
        if message.kind == Kind.POSES:
            values, moved = walled(values, self.settings.walls)
            flags |= Flag.WALL if moved else Flag.TAKEN
        fresh = Route(message.times, values)
        if message.kind == Kind.JOINTS:
            new = route.joints_at(fresh, float(self.tick))
            left = [self.goal[k] - new[k] for k in range(JOINTS)]
            if any(abs(x) > self.settings.jump[0] for x in left) or jumps(values, 0, JOINTS, self.settings.jump[0]):
                return Flag.JUMP
        else:
            arm = kinematics.place(self.goal)
            new = route.pose_at(fresh, float(self.tick))
            left = [arm.tool[k] - new[k] for k in range(3)]
            turn = route.times(route.quaternion(arm.turn), [new[3], -new[4], -new[5], -new[6]])
            asked = arm.tool  # or what the last route asks for, which the tool may not reach
            if self.route is not None and self.kind == Kind.POSES:
                place = route.pose_at(self.route, float(self.tick))
                asked = (place[0], place[1], place[2])
            off = [asked[k] - new[k] for k in range(3)]
            if any(abs(x) > self.settings.jump[1] for x in off) or jumps(values, 0, 3, self.settings.jump[1]):
                return Flag.JUMP
            if any(abs(x) > self.settings.jump[2] for x in turn[1:]) or twists(values, self.settings.jump[2]):
                return Flag.JUMP
            left += turn
        self.kind = message.kind
        self.route = Route(message.times, values, self.tick, self.settings.fading, tuple(left))
        return flags

    def _watch(self) -> None:
        hold, stop, fault = self.settings.patience
        if self.mode == Mode.FOLLOW and self.age >= hold:
            self.mode = Mode.HOLD
        if self.mode == Mode.HOLD and self.age >= stop:
            self.mode = Mode.STOP
            self._brake()
        if self.mode == Mode.STOP and self.age >= fault:
            self.mode, self.fault = Mode.FAULT, Fault.STALE

    def _move(self) -> None:
        before = self.target
        self._aim()
        self.target = self._within_give()
        axes = self.settings.axes
        then = [
            tracker.follow(m, goal, max(-axis.speed, min(axis.speed, (goal - last) / TICK)), axis)
            for m, goal, last, axis in zip(self.motions, self.target, before, axes, strict=True)
        ]
        if not self._safe(then):
            self.flags |= Flag.BRAKED
            then = [
                tracker.follow(m, rest, 0.0, axis)
                for m, rest, axis in zip(self.motions, self._rests(self.motions), axes, strict=True)
            ]
            self.goal = self.target = self._rests(then)
        if not all(isfinite(m.position) and isfinite(m.speed) and isfinite(m.acceleration) for m in then):
            self._fail(Fault.INTERNAL)
            return
        self.motions = then

    def _aim(self) -> None:
        """Bring the goal to where the route is at the end of this tick."""
        if self.route is None:
            return
        now = float(self.tick + 1)
        if self.kind == Kind.JOINTS:
            self.goal = route.joints_at(self.route, now)
            return
        pose = route.pose_at(self.route, now)
        if self.measured is not None:
            tool, lead = kinematics.place(self.measured).tool, self.settings.lead
            pose[:3] = [max(tool[k] - lead, min(tool[k] + lead, pose[k])) for k in range(3)]
        drift = [HOMING * (self.settings.posture[k] - self.goal[k]) for k in range(JOINTS)]
        turn = kinematics.rotation(pose[3], pose[4], pose[5], pose[6])
        step = kinematics.reach(kinematics.place(self.goal), (pose[0], pose[1], pose[2]), turn, drift, DAMPING)
        share = 1.0
        for k, axis in enumerate(self.settings.axes):
            share = min(share, axis.speed * TICK / max(abs(step[k]), TINY))
        self.goal = [
            max(axis.low, min(axis.high, q + share * by))
            for axis, q, by in zip(self.settings.axes, self.goal, step, strict=True)
        ]

    def _within_give(self) -> list[float]:
        """The goal, but no further beyond where each joint is measured than it may push, and what it needs to stop.

        The more of that it already leads, the less it may add for stopping: an arm that is stopped from outside meets a
        command that has begun to brake, and not one that comes on with all its speed. All joints keep back by the same
        share: one that kept back alone would turn the tool, as into a wall. A joint that is pushed beyond what it may
        lead, by a quarter, begins to take that share to zero: what overpowers it is the push of the others.
        """
        if self.route is None or self.measured is None:
            return self.goal
        share = relief = 1.0
        for q, at, give, m, axis in zip(
            self.goal, self.measured, self.settings.give, self.motions, self.settings.axes, strict=True
        ):
            stop, lead = tracker.rest(m, axis.braking, axis) - m.position, m.position - at
            above = give + max(stop, 0.0) * max(0.0, min(1.0, 1.0 - lead / give))
            below = give - min(stop, 0.0) * max(0.0, min(1.0, 1.0 + lead / give))
            share = min(share, above / max(q - at, TINY), below / max(at - q, TINY))
            relief = min(relief, max(0.0, 2.25 - abs(lead) / give))
        share = share * relief
        if share >= 1.0:
            return self.goal
        return [at + share * (q - at) for q, at in zip(self.goal, self.measured, strict=True)]

    def _safe(self, motions: list[Motion]) -> bool:
        """Whether the arm is in the workspace after this tick, and stays there if it then brakes at once.

        One that came too close to a wall may go away from it, and along it, but no closer.
        """
        axes = self.settings.axes
        room = self._room(kinematics.place([m.position for m in motions]))
        least = SLACK
        if room < least:
            least = min(least, self._room(kinematics.place([m.position for m in self.motions])))
            if room < least:
                return False
        swing, last = 0.0, 0.0
        stops = [tracker.brake(m.speed, m.acceleration, x.braking, x) for m, x in zip(motions, axes, strict=True)]
        for m, axis, stop in zip(motions, axes, stops, strict=True):
            swing = swing + abs(tracker.stopping(stop, m.speed, m.acceleration, axis))
            last = max(last, tracker.lasting(stop, axis))
        if room >= least + LEVER * swing:
            return True
        base = [m.position for m in motions]
        for look in range(1, LOOKS + 1):
            time = last * look / LOOKS
            angles, way = [], 0.0
            for k, (m, axis, stop) in enumerate(zip(motions, axes, stops, strict=True)):
                angles.append(m.position + tracker.coasting(stop, m.speed, m.acceleration, axis, time))
                way = way + abs(angles[k] - base[k])
            if room >= least + LEVER * way:
                continue
            base, room = angles, self._room(kinematics.place(angles))
            if room < least:
                return False
        return True

    def _room(self, arm: Placement) -> float:
        """How far (m) the arm is from leaving the workspace along any axis; below 0 outside."""
        low, high = self.settings.walls
        room = min(min(arm.tool[k] - low[k], high[k] - arm.tool[k]) for k in range(3))
        for point, radius in zip(parts(arm), self.settings.radii, strict=True):
            for box in self.settings.keep_out:
                away = max(max(box[0][k] - point[k], point[k] - box[1][k]) for k in range(3))
                room = min(room, away - radius)
        return room


def parts(arm: Placement) -> tuple[Vector, ...]:
    """Points of the arm: elbow, middle of the forearm, wrist, last joint, flange, middle of the hand, tool (m)."""
    elbow, wrist = arm.origins[3], arm.origins[4]
    forearm = kinematics.mix(elbow, 0.5, wrist, 0.5)
    return elbow, forearm, wrist, arm.origins[6], arm.flange, kinematics.mix(arm.flange, 0.5, arm.tool, 0.5), arm.tool


def faulty(message: Message, tick: int, settings: Settings) -> Flag:
    """What is wrong with a message by itself."""
    count = len(message.times)
    if message.kind not in (Kind.JOINTS, Kind.POSES) or not 1 <= count <= POINTS or len(message.values) != count:
        return Flag.SHAPE
    if not all(isfinite(x) for x in (message.width, *message.times, *(x for point in message.values for x in point))):
        return Flag.NOT_FINITE
    if any(message.times[i + 1] <= message.times[i] for i in range(count - 1)):
        return Flag.SHAPE
    if message.times[0] < tick - FAR or message.times[count - 1] > tick + FAR:
        return Flag.TIME
    for point in message.values:
        if message.kind == Kind.JOINTS:
            if any(not axis.low <= q <= axis.high for axis, q in zip(settings.axes, point, strict=True)):
                return Flag.RANGE
            continue
        if any(abs(x) > LONGEST for x in point[:3]):
            return Flag.RANGE
        square = point[3] * point[3] + point[4] * point[4] + point[5] * point[5] + point[6] * point[6]
        if abs(square - 1.0) > 1e-3:
            return Flag.SHAPE
    return Flag(0)


def walled(
    values: tuple[tuple[float, ...], ...], walls: tuple[Vector, Vector]
) -> tuple[tuple[tuple[float, ...], ...], bool]:
    """Poses moved back between the walls, and whether any was outside."""
    low, high = walls
    kept, moved = [], False
    for point in values:
        place = tuple(max(low[k] + INSIDE, min(high[k] - INSIDE, point[k])) for k in range(3))
        moved = moved or place != point[:3]
        kept.append((*place, *route.unit(list(point[3:]))))
    return tuple(kept), moved


def jumps(values: tuple[tuple[float, ...], ...], first: int, last: int, most: float) -> bool:
    """Whether two neighbours differ by more than `most` in any of some columns."""
    return any(abs(values[i + 1][k] - values[i][k]) > most for i in range(len(values) - 1) for k in range(first, last))


def twists(values: tuple[tuple[float, ...], ...], most: float) -> bool:
    """Whether two neighbours are turned against each other by more than `most` (half sine)."""
    for i in range(len(values) - 1):
        here, then = values[i], values[i + 1]
        turn = route.times(list(then[3:]), [here[3], -here[4], -here[5], -here[6]])
        if any(abs(x) > most for x in turn[1:]):
            return True
    return False
