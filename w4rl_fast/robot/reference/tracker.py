"""One joint on its way to a target that may move, within position, speed, acceleration and jerk: the definition.

A jerk is held for a whole tick, so that the positions are samples of a motion whose true derivatives keep the limits,
and so do their differences. The jerk of a tick is the largest after which the joint can still stop before the target
(and within its range): far away that is full speed ahead, then the braking curve itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

TICK = 0.001
RAMP = 16
"""The least ticks between no acceleration and the most: what a faster jerk would gain, sampling takes away again."""
TRIALS = 24
CLOSE = 1e-9
"""Radians by which a stop may miss its target: the next tick corrects it."""
ROUNDING = 1e-6
"""Positions as doubles give differences of third order that are this much off, of the least jerk there is."""


@dataclass(frozen=True, slots=True)
class Power:
    """What a joint brakes with: at `most` (rad/s2), and what follows from that and from its jerk.

    inverse: 1 / most; square: its square; tail: the speed (rad/s) and `end` the distance (rad) of easing from it to
    rest.
    """

    most: float
    inverse: float
    square: float
    tail: float
    end: float


@dataclass(frozen=True, slots=True)
class Axis:
    """A joint's range (rad), speed (rad/s), acceleration (rad/s2) and jerk (rad/s3).

    `braking` is the part of the acceleration that braking counts on, `ending` the part that it counts on before the end
    of the range, where some makers ask for more care. ease: 1 / jerk; sixth: jerk / 6; cube: 1 / (6 jerk^2); longest:
    no stop before the end of the range is longer (rad).
    """

    low: float
    high: float
    speed: float
    acceleration: float
    jerk: float
    ease: float
    sixth: float
    cube: float
    longest: float
    braking: Power
    ending: Power


def make_power(most: float, jerk: float) -> Power:
    return Power(most, 1.0 / most, most * most, most * most / (2.0 * jerk), most * most * most / (6.0 * jerk * jerk))


def make_axis(low: float, high: float, speed: float, acceleration: float, jerk: float, ending: float) -> Axis:
    """What a tracker keeps of a joint's limits, short of them by what happens inside one tick."""
    acceleration *= 1.0 - ROUNDING
    jerk = min(jerk * (1.0 - ROUNDING), acceleration / (RAMP * TICK))
    margin = 4.0 * acceleration * TICK * TICK
    most = acceleration - jerk * TICK
    ending = min(ending, most)
    return Axis(
        low=low + margin,
        high=high - margin,
        speed=speed - 0.25 * jerk * TICK * TICK,
        acceleration=acceleration,
        jerk=jerk,
        ease=1.0 / jerk,
        sixth=jerk / 6.0,
        cube=1.0 / (6.0 * jerk * jerk),
        longest=speed * speed / ending + speed * (acceleration + ending) / jerk,
        braking=make_power(most, jerk),
        ending=make_power(ending, jerk),
    )


@dataclass(slots=True)
class Motion:
    """Where a joint is commanded to be (rad), its speed (rad/s) and acceleration (rad/s2)."""

    position: float
    speed: float = 0.0
    acceleration: float = 0.0


@dataclass(frozen=True, slots=True)
class Brake:
    """How a joint stops: with jerk for `lead` s, at `peak` (rad/s2) against its way for `hold` s, then easing.

    way: 1 or -1, which way it would go on if its acceleration were taken away; turn: the sign of the jerk at first.
    """

    way: float
    turn: float
    lead: float
    hold: float
    peak: float


def brake(speed: float, acceleration: float, power: Power, axis: Axis) -> Brake:
    """The soonest stop that brakes by a power and no more."""
    way = -1.0 if speed + 0.5 * axis.ease * acceleration * abs(acceleration) < 0.0 else 1.0
    v, a = way * speed, way * acceleration
    h = axis.jerk * v + 0.5 * a * a
    if a >= -power.most and h <= power.square:
        peak = sqrt(max(h, 0.0))
        return Brake(way, -1.0, (a + peak) * axis.ease, 0.0, peak)
    turn = -1.0 if a >= -power.most else 1.0
    lead = turn * (-power.most - a) * axis.ease
    hold = (v + lead * (a + 0.5 * turn * axis.jerk * lead) - power.tail) * power.inverse
    return Brake(way, turn, lead, hold, power.most)


def stopping(by: Brake, speed: float, acceleration: float, axis: Axis) -> float:
    """How far a joint goes until it rests, if it stops so (rad)."""
    v, a, t = by.way * speed, by.way * acceleration, by.lead
    distance = t * (v + t * (0.5 * a + by.turn * axis.sixth * t))
    if by.hold > 0.0:
        v = v + t * (a + 0.5 * by.turn * axis.jerk * t)
        distance = distance + by.hold * (v - 0.5 * by.peak * by.hold)
    return by.way * (distance + by.peak * by.peak * by.peak * axis.cube)


def lasting(by: Brake, axis: Axis) -> float:
    """How long a stop takes, s."""
    return by.lead + by.hold + by.peak * axis.ease


def coasting(by: Brake, speed: float, acceleration: float, axis: Axis, time: float) -> float:
    """How far a joint has gone after some time of a stop (rad)."""
    v, a = by.way * speed, by.way * acceleration
    t = min(time, by.lead)
    distance = t * (v + t * (0.5 * a + by.turn * axis.sixth * t))
    v = v + t * (a + 0.5 * by.turn * axis.jerk * t)
    t = min(max(time - by.lead, 0.0), by.hold)
    distance = distance + t * (v - 0.5 * by.peak * t)
    v = v - by.peak * t
    t = min(max(time - by.lead - by.hold, 0.0), by.peak * axis.ease)
    return by.way * (distance + t * (v + t * (axis.sixth * t - 0.5 * by.peak)))


def rest(motion: Motion, power: Power, axis: Axis) -> float:
    """Where a joint comes to rest if it brakes at once (rad)."""
    by = brake(motion.speed, motion.acceleration, power, axis)
    return motion.position + stopping(by, motion.speed, motion.acceleration, axis)


def highest_jerk(v: float, a: float, axis: Axis) -> float:
    """The most jerk for one tick after which neither acceleration nor speed need ever be too high."""
    reach = axis.speed - v - 0.5 * TICK * a
    if reach >= 0.0:
        half = 0.5 * axis.jerk * TICK
        most = sqrt(half * half + 2.0 * axis.jerk * reach) - half
    else:
        most = 2.0 * reach / TICK
    jerk = (min(most, axis.acceleration) - a) / TICK
    return max(-axis.jerk, min(axis.jerk, jerk))


def advance(motion: Motion, jerk: float) -> Motion:
    """The motion a tick later."""
    p, v, a = motion.position, motion.speed, motion.acceleration
    return Motion(
        p + TICK * (v + TICK * (0.5 * a + jerk * TICK / 6.0)), v + TICK * (a + 0.5 * jerk * TICK), a + jerk * TICK
    )


def follow(motion: Motion, target: float, speed: float, axis: Axis) -> Motion:
    """The motion a tick later on its way to a target that will be at `target` (rad) then, at `speed` (rad/s)."""
    if not axis.low <= target <= axis.high:
        target, speed = min(max(target, axis.low), axis.high), 0.0
    up = highest_jerk(motion.speed, motion.acceleration, axis)
    down = -highest_jerk(-motion.speed, -motion.acceleration, axis)

    def beyond(jerk: float, of: float, at: float, power: Power) -> float:
        then = advance(motion, jerk)
        return rest(Motion(then.position - of, then.speed - at, then.acceleration), power, axis)

    jerk = arriving(motion, target, speed, axis.jerk)
    if jerk is None or not down <= jerk <= up:
        pair = between(lambda j: beyond(j, target, speed, axis.braking), down, up)
        jerk = pair.low if -pair.below <= pair.above else pair.high
    if motion.position > axis.high - axis.longest and beyond(jerk, axis.high, 0.0, axis.ending) > 0.0:
        jerk = between(lambda j: beyond(j, axis.high, 0.0, axis.ending), down, jerk).low
    elif motion.position < axis.low + axis.longest and beyond(jerk, axis.low, 0.0, axis.ending) < 0.0:
        jerk = between(lambda j: beyond(j, axis.low, 0.0, axis.ending), jerk, up).high
    then = advance(motion, jerk)
    if (
        speed == 0.0
        and abs(then.position - target) < 1e-12
        and abs(then.speed) < 1e-9
        and abs(then.acceleration) < 1e-6
    ):
        return Motion(target)
    return then


def arriving(motion: Motion, target: float, speed: float, most: float) -> float | None:
    """The first of three jerks that end exactly on the target, or None where they would have to be too large."""
    p = (motion.position - (target - speed * TICK)) / (TICK * TICK * TICK)
    v = (motion.speed - speed) / (TICK * TICK)
    a = motion.acceleration / TICK
    first = 0.0
    for number in range(3):
        jerk = -(p + 2.0 * v + 11.0 / 6.0 * a)
        if abs(jerk) > most:
            return None
        if number == 0:
            first = jerk
        p, v, a = p + v + 0.5 * a + jerk / 6.0, v + a + 0.5 * jerk, a + jerk
    return first


@dataclass(frozen=True, slots=True)
class Pair:
    """Two jerks, and what a rising function is there: at most 0 at the lower and at least 0 at the higher one."""

    low: float
    below: float
    high: float
    above: float


def between(function: Callable[[float], float], low: float, high: float) -> Pair:
    """The two jerks, closer and closer to each other, between which a rising function passes zero (Illinois)."""
    above = function(high)
    if above <= 0.0:
        return Pair(high, above, high, above)
    below = None
    if low < 0.0 < high:  # most of a stop needs no jerk
        value = function(0.0)
        if value <= 0.0:
            low, below = 0.0, value
        else:
            high, above = 0.0, value
    if below is None:
        below = function(low)
        if below >= 0.0:
            return Pair(low, below, low, below)
    left, right = below, above
    side = 0
    for _ in range(TRIALS):
        if -below < CLOSE or above < CLOSE or high - low < 1e-6:
            break
        middle = low + (high - low) * (left / (left - right))
        value = function(middle)
        if value <= 0.0:
            low, below, left = middle, value, value
            right = 0.5 * right if side < 0 else right
            side = -1
        else:
            high, above, right = middle, value, value
            left = 0.5 * left if side > 0 else left
            side = 1
    return Pair(low, below, high, above)
