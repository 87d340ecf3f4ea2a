"""Laws of one joint's way to a target, whatever its limits and whatever the target does."""

from math import sqrt

import numpy as np
import pytest

from w4rl_fast.robot.limits import makers_limits
from w4rl_fast.robot.reference.tracker import (
    TICK,
    Motion,
    advance,
    brake,
    coasting,
    follow,
    highest_jerk,
    lasting,
    make_axis,
    rest,
    stopping,
)

LONG = 20_000
SEEDS = range(12)


def draw(rng, low=None, high=None):
    """Limits of a joint: range, speed, acceleration, jerk, and how hard it brakes before the range's end."""
    low = rng.uniform(-3, 2) if low is None else low
    high = low + rng.uniform(0.5, 6) if high is None else high
    speed, acceleration, jerk = np.exp(rng.uniform(np.log([0.2, 2, 20]), np.log([6, 40, 10_000])))
    return tuple(float(x) for x in (low, high, speed, acceleration, jerk, acceleration * rng.uniform(0.3, 1)))


def given(seed, low=None, high=None):
    """A generator, random limits and their axis."""
    rng = np.random.default_rng(seed)
    limits = draw(rng, low, high)
    return rng, limits, make_axis(*limits)


def on_the_way(rng, axis):
    """A motion that some jumping targets led to."""
    motion = Motion(float(rng.uniform(axis.low, axis.high)))
    for _ in range(int(rng.integers(1, 6))):
        target, speed = float(rng.uniform(axis.low, axis.high)), float(rng.uniform(-axis.speed, axis.speed))
        for _ in range(int(rng.choice([1, 5, 30, 150]))):
            motion = follow(motion, target, speed, axis)
    return motion


def way_to(target, motion, axis):
    """All motions until the joint rests on a still target, or very many."""
    motions = [motion]
    while motions[-1] != Motion(target) and len(motions) < LONG:
        motions.append(follow(motions[-1], target, 0.0, axis))
    return motions


def optimum(distance, speed, acceleration, jerk):
    """The least time (s) from rest to rest: seven pieces of constant jerk, or fewer."""
    acceleration = min(acceleration, sqrt(speed * jerk))
    ramp = acceleration / jerk
    if distance >= speed * (speed / acceleration + ramp):
        return distance / speed + speed / acceleration + ramp
    if distance >= 2 * acceleration * ramp * ramp:
        return ramp + sqrt(ramp * ramp + 4 * distance / acceleration)
    return 4 * (distance / (2 * jerk)) ** (1 / 3)


def assert_within(positions, limits):
    low, high, *most = limits[:5]
    assert low <= min(positions)
    assert max(positions) <= high
    for order, bound in enumerate(most, start=1):
        assert np.abs(np.diff(positions, n=order)).max() / TICK**order <= bound


@pytest.mark.parametrize("seed", SEEDS)
def test_differences_of_positions_keep_every_limit_whatever_the_target_does(seed) -> None:
    rng, limits, axis = given(seed)
    motion = Motion(float(rng.uniform(axis.low, axis.high)))
    positions = [motion.position] * 3
    while len(positions) < 1500:
        target = float(rng.uniform(limits[0] - 0.3, limits[1] + 0.3))
        speed = float(rng.choice([0.0, rng.uniform(-axis.speed, axis.speed)]))
        said = float(rng.choice([speed, rng.uniform(-axis.speed, axis.speed)]))  # it may lie
        for _ in range(int(rng.choice([1, 3, 20, 200]))):
            target += speed * TICK
            motion = follow(motion, target, said, axis)
            positions.append(motion.position)
    assert_within(positions, limits)


@pytest.mark.parametrize("arm", sorted(makers_limits()))
def test_the_makers_limits_are_kept_from_end_to_end_of_the_range(arm) -> None:
    limits = makers_limits()[arm]
    kinds = ("low", "high", "speed", "acceleration", "jerk", "ending")
    for row in zip(*(getattr(limits, kind) for kind in kinds), strict=True):
        axis = make_axis(*row)
        motion, positions = Motion(axis.low), [axis.low] * 3
        for target in (row[1] + 1.0, row[0] - 1.0):
            for _ in range(int(1000 * optimum(row[1] - row[0], row[2], min(row[3], row[5]), axis.jerk)) + 300):
                motion = follow(motion, target, axis.speed if target > 0 else -axis.speed, axis)
                positions.append(motion.position)
            assert motion == Motion(axis.high if target > row[1] else axis.low)
        assert_within(positions, row)
        assert row[1] - max(positions) < 1e-3
        assert min(positions) - row[0] < 1e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_a_still_target_is_reached_exactly_and_kept(seed) -> None:
    rng, _, axis = given(1000 + seed)
    target = float(rng.uniform(axis.low, axis.high))
    motion = on_the_way(rng, axis)
    stop = lasting(brake(motion.speed, motion.acceleration, axis.braking, axis), axis)
    left = abs(target - rest(motion, axis.braking, axis))
    way = way_to(target, motion, axis)
    assert way[-1] == Motion(target)
    ending = min(axis.braking.most, axis.ending.most)
    assert len(way) * TICK <= 1.1 * (stop + optimum(left, axis.speed, ending, axis.jerk)) + 0.01
    motion = way[-1]
    for _ in range(20):
        motion = follow(motion, target, 0.0, axis)
        assert motion == Motion(target)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_radian_takes_at_most_five_percent_more_than_the_optimum(seed) -> None:
    _, limits, axis = given(2000 + seed, -2.0, 2.0)
    ticks = len(way_to(0.5, Motion(-0.5), axis)) - 1
    best = optimum(1.0, limits[2], limits[3], axis.jerk)
    assert best <= ticks * TICK <= 1.05 * best


def test_as_much_jerk_is_used_as_is_allowed_or_gains_anything() -> None:
    assert make_axis(-1.0, 1.0, 2.0, 10.0, 100.0, 10.0).jerk == pytest.approx(100.0, rel=1e-5)
    assert make_axis(-1.0, 1.0, 2.0, 10.0, 1e6, 10.0).jerk == pytest.approx(10.0 / 0.016, rel=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_still_target_is_approached_from_rest_without_turning_back(seed) -> None:
    _, _, axis = given(3000 + seed, -2.0, 2.0)
    way = way_to(0.5, Motion(-0.5), axis)
    assert max(m.position for m in way) <= 0.5 + 1e-6
    assert min(m.speed for m in way) >= -1e-3 * axis.speed
    speeds = np.array([m.speed for m in way])
    top = int(speeds.argmax())
    assert np.diff(speeds[:top]).min() >= -1e-9
    assert np.diff(speeds[top:]).max() <= 2e-3 * axis.speed


@pytest.mark.parametrize("seed", SEEDS)
def test_a_target_of_constant_speed_is_followed_without_lag(seed) -> None:
    rng, limits, axis = given(4000 + seed, -60.0, 60.0)
    motion, caught = on_the_way(rng, make_axis(-3.0, 3.0, *limits[2:])), 0
    speed, target = float(rng.uniform(-0.7, 0.7) * axis.speed), motion.position + float(rng.uniform(-0.3, 0.3))
    for _ in range(8000):
        target += speed * TICK
        motion = follow(motion, target, speed, axis)
        if abs(motion.position - target) < 1e-6:
            caught += 1
        else:
            assert caught < 10, "it lost a target that it had caught"
            caught = 0
        if caught > 400:
            break
    assert caught > 400
    assert motion.speed == pytest.approx(speed, abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_mirrored_target_gives_the_mirrored_motion(seed) -> None:
    rng, limits, axis = given(5000 + seed, -2.0, 3.0)
    mirror = make_axis(-3.0, 2.0, *limits[2:])
    one = on_the_way(rng, axis)
    other = Motion(-one.position, -one.speed, -one.acceleration)
    for _ in range(6):
        target, speed = float(rng.uniform(-3, 3)), float(rng.uniform(-axis.speed, axis.speed))
        for _ in range(60):
            target += speed * TICK
            one, other = follow(one, target, speed, axis), follow(other, -target, -speed, mirror)
            assert one.position == pytest.approx(-other.position, abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_joint_that_is_sent_to_where_it_would_stop_stops_as_foretold(seed) -> None:
    rng, _, axis = given(6000 + seed, -30.0, 30.0)
    motion = on_the_way(rng, axis)
    stop = brake(motion.speed, motion.acceleration, axis.braking, axis)
    distance = stopping(stop, motion.speed, motion.acceleration, axis)
    way = way_to(rest(motion, axis.braking, axis), motion, axis)
    assert way[-1].position - motion.position == pytest.approx(distance, abs=1e-12)
    assert (len(way) - 1) * TICK <= lasting(stop, axis) + 0.008
    for ticks, later in enumerate(way):
        gone = coasting(stop, motion.speed, motion.acceleration, axis, ticks * TICK)
        assert later.position - motion.position == pytest.approx(gone, abs=1e-5 + 1e-3 * abs(distance))


@pytest.mark.parametrize("power", ["braking", "ending"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_stop_is_one_smooth_motion_within_its_power_from_now_to_rest(seed, power) -> None:
    rng, _, axis = given(7000 + seed)
    motion = on_the_way(rng, axis)
    most = getattr(axis, power)
    stop = brake(motion.speed, motion.acceleration, most, axis)
    total = lasting(stop, axis)

    def gone(time):
        return coasting(stop, motion.speed, motion.acceleration, axis, time)

    distance = stopping(stop, motion.speed, motion.acceleration, axis)
    assert gone(total) == pytest.approx(distance, abs=1e-12)
    assert gone(total + 1.0) == pytest.approx(distance, abs=1e-12)
    step = 1e-5
    assert gone(0.0) == 0.0
    assert gone(step) / step == pytest.approx(motion.speed, abs=2 * step * axis.acceleration)
    times = np.linspace(0.0, total + 0.01, 2000)
    ways = np.array([gone(t) for t in times])
    fine = times[1]
    assert np.abs(np.diff(ways)).max() <= fine * axis.speed * 1.01
    push = max(most.most, abs(motion.acceleration))
    assert np.abs(np.diff(ways, n=2)).max() <= fine * fine * push * 1.01 + 1e-13
    assert np.abs(np.diff(ways, n=3)).max() <= fine**3 * axis.jerk * 1.01 + 1e-13


@pytest.mark.parametrize("seed", SEEDS)
def test_the_highest_jerk_leads_to_the_top_speed_and_never_beyond(seed) -> None:
    rng, _, axis = given(8000 + seed)
    motion = on_the_way(rng, axis)
    for _ in range(LONG):
        motion = advance(motion, highest_jerk(motion.speed, motion.acceleration, axis))
        assert motion.speed <= axis.speed + 0.25 * axis.jerk * TICK * TICK
        assert motion.acceleration <= axis.acceleration * (1 + 1e-12)
        if motion.speed > (1 - 1e-4) * axis.speed:
            break
    assert motion.speed == pytest.approx(axis.speed, rel=1e-3)


def test_a_target_beyond_the_range_is_one_at_its_end() -> None:
    axis = make_axis(-1.0, 1.0, 2.0, 10.0, 500.0, 10.0)
    beyond = end = Motion(0.0)
    for _ in range(1500):
        beyond, end = follow(beyond, 7.0, 1.5, axis), follow(end, axis.high, 0.0, axis)
        assert beyond == end
    assert end == Motion(axis.high)
