"""Laws of a route: through its points at their times, and taking over from another without a jump."""

from itertools import pairwise

import numpy as np
import pytest

from w4rl_fast.robot.reference import kinematics
from w4rl_fast.robot.reference.route import Route, fade, joints_at, pose_at, quaternion, times, toward

TIMES = (10.0, 14.0, 31.5, 90.0)


def unit(values):
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def angles_route(seed, **over):
    values = np.random.default_rng(seed).normal(0, 0.3, (4, 7))
    return Route(TIMES, tuple(map(tuple, values.tolist())), **over)


def poses_route(seed, spread=0.3, **over):
    rng = np.random.default_rng(seed)
    places, turns = rng.normal(0, 0.1, (4, 3)), unit(np.array([1, 0.5, 0, 0]) + rng.normal(0, spread, (4, 4)))
    return Route(TIMES, tuple(map(tuple, np.hstack([places, turns]).tolist())), **over)


def between(p, q):
    """The angle between two turns, rad."""
    return 2 * np.arccos(np.clip(abs(np.dot(p, q)), 0, 1))


@pytest.mark.parametrize(("make", "at"), [(angles_route, joints_at), (poses_route, pose_at)])
def test_a_route_passes_through_its_points_at_their_times(make, at) -> None:
    route = make(1)
    for time, value in zip(route.times, route.values, strict=True):
        np.testing.assert_allclose(at(route, time), value, atol=1e-15)


@pytest.mark.parametrize(("make", "at"), [(angles_route, joints_at), (poses_route, pose_at)])
def test_before_its_first_and_after_its_last_point_a_route_rests(make, at) -> None:
    route = make(2)
    for time in (0.0, 5.0, 9.999):
        np.testing.assert_allclose(at(route, time), route.values[0], atol=1e-15)
    for time in (90.0, 90.001, 1e4):
        np.testing.assert_allclose(at(route, time), route.values[-1], atol=1e-15)


@pytest.mark.parametrize(("make", "at", "columns"), [(angles_route, joints_at, 7), (poses_route, pose_at, 3)])
def test_between_its_points_a_route_is_straight(make, at, columns) -> None:
    route = make(3)
    for time in np.linspace(0, 100, 301):
        straight = [np.interp(time, TIMES, [value[k] for value in route.values]) for k in range(columns)]
        np.testing.assert_allclose(at(route, float(time))[:columns], straight, atol=1e-12)


def test_a_route_of_one_point_is_that_point() -> None:
    route = Route((5.0,), ((0.1,) * 7,))
    assert all(joints_at(route, time) == [0.1] * 7 for time in (0.0, 5.0, 6.0))


def test_a_fade_goes_from_all_to_nothing_without_a_jump_of_speed() -> None:
    route = Route((0.0,), ((0.0,) * 7,), begin=20, fading=50, left=(1.0,) * 7)
    weights = np.array([fade(route, t) for t in np.linspace(20, 70, 1001)])
    assert weights[0] == 1.0
    assert weights[-1] == 0.0
    assert weights[500] == pytest.approx(0.5)
    slopes = np.diff(weights)
    assert (slopes < 0).all()
    assert max(abs(slopes[0]), abs(slopes[-1])) < 0.01 * np.abs(slopes).max()
    assert all(fade(route, t) == 0.0 for t in (70.0, 70.5, 1e6))


def test_without_fading_nothing_is_left_at_once() -> None:
    route = Route((0.0,), ((0.5,) * 7,), begin=20, fading=0, left=(1.0,) * 7)
    assert joints_at(route, 20.0) == [0.5] * 7


@pytest.mark.parametrize("begin", [12, 30, 85])
def test_angles_are_taken_over_without_a_jump(begin) -> None:
    old, plain = angles_route(4), angles_route(5)
    left = tuple(a - b for a, b in zip(joints_at(old, begin), joints_at(plain, begin), strict=True))
    new = Route(plain.times, plain.values, begin, 40, left)
    np.testing.assert_allclose(joints_at(new, begin), joints_at(old, begin), atol=1e-15)
    steepest = max(
        np.abs(np.subtract(plain.values[i + 1], plain.values[i])).max() / (TIMES[i + 1] - TIMES[i]) for i in range(3)
    )
    path = np.array([joints_at(new, t) for t in np.arange(begin, begin + 60, 0.01)])
    assert np.abs(np.diff(path, axis=0)).max() <= 0.01 * (steepest + 1.5 * np.abs(left).max() / 40) * 1.001
    first = (path[1] - path[0]) / 0.01
    plains = np.subtract(joints_at(plain, begin + 0.01), joints_at(plain, begin)) / 0.01
    np.testing.assert_allclose(first, plains, atol=0.01 * np.abs(left).max())
    for time in (begin + 40.0, begin + 40.5, 200.0):
        assert joints_at(new, time) == joints_at(plain, time)


@pytest.mark.parametrize("begin", [12, 30, 85])
def test_poses_are_taken_over_without_a_jump(begin) -> None:
    plain = poses_route(6)
    was = np.array([0.05, -0.02, 0.1, *unit(np.array([0.9, 0.6, 0.1, -0.2]))])
    now = np.array(pose_at(plain, begin))
    turn = times(list(was[3:]), [now[3], *(-now[4:])])
    turn = [-x for x in turn] if turn[0] < 0 else turn
    new = Route(plain.times, plain.values, begin, 40, (*(was - now)[:3], *turn))
    start = pose_at(new, begin)
    np.testing.assert_allclose(start[:3], was[:3], atol=1e-15)
    assert between(start[3:], was[3:]) < 1e-7
    path = np.array([pose_at(new, t) for t in np.arange(begin, begin + 60, 0.01)])
    np.testing.assert_allclose(np.linalg.norm(path[:, 3:], axis=1), 1.0, atol=1e-12)
    assert np.abs(np.diff(path, axis=0)).max() < 0.01
    for time in (begin + 40.0, begin + 41.5, 200.0):
        np.testing.assert_allclose(pose_at(new, time), pose_at(plain, time), atol=1e-15)


def test_every_turn_on_the_way_is_a_unit_quaternion() -> None:
    for seed in range(20):
        route = poses_route(seed, spread=2.0)
        for time in np.linspace(0, 100, 101):
            assert np.linalg.norm(pose_at(route, float(time))[3:]) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_a_turn_goes_the_short_way_round(seed) -> None:
    rng = np.random.default_rng(seed)
    here, there = unit(rng.normal(size=(2, 4)))
    whole = between(here, there)
    for sign in (1, -1):
        path = [toward(list(here), list(sign * there), u) for u in np.linspace(0, 1, 101)]
        assert between(path[0], here) < 1e-7
        assert between(path[-1], there) < 1e-7
        assert sum(between(p, q) for p, q in pairwise(path)) == pytest.approx(whole, abs=1e-4)
        assert between(path[50], here) == pytest.approx(whole / 2, abs=1e-7)


def test_a_quaternion_and_its_negative_are_the_same_target() -> None:
    route = poses_route(7)
    signs = (1, -1, -1, 1)
    flipped = Route(
        TIMES, tuple((*v[:3], *(sign * x for x in v[3:])) for v, sign in zip(route.values, signs, strict=True))
    )
    for time in np.linspace(0, 100, 101):
        one, other = pose_at(route, float(time)), pose_at(flipped, float(time))
        np.testing.assert_allclose(one[:3], other[:3], atol=1e-15)
        np.testing.assert_allclose(kinematics.rotation(*one[3:]), kinematics.rotation(*other[3:]), atol=1e-12)


def test_a_turn_by_its_columns_is_found_in_every_quarter() -> None:
    for axis in range(3):
        for angle in (-3.1, -1.6, 0.0, 1e-5, 1.6, 3.1):
            q = [np.cos(angle / 2), 0.0, 0.0, 0.0]
            q[1 + axis] = np.sin(angle / 2)
            assert between(quaternion(kinematics.rotation(*q)), q) < 1e-7
