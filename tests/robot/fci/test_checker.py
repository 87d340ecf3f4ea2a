"""The checker on samples with gaps, without a socket and without libfranka."""

import numpy as np
import pytest

from tests.robot.fci.checker import JOINTS, TICK_S, Checker, Limits
from tests.robot.fci.client import integrate, minimum_jerk
from tests.robot.fci.errors import ACCELERATION, FLAGS, JERK, POSITION, START, VELOCITY, flags

LIMITS = Limits(position_min=(-1e9,) * JOINTS, position_max=(1e9,) * JOINTS)
NAMES, ERRORS = ("velocity", "acceleration", "jerk"), (VELOCITY, ACCELERATION, JERK)
RATES = [getattr(LIMITS, name) for name in NAMES]


def parts(path):
    """The largest velocity, acceleration and jerk at any tick of a path from rest, as parts of their limits."""
    path = np.concatenate([np.zeros((3, JOINTS)), path])
    return [(np.abs(np.diff(path, n + 1, axis=0)) / TICK_S ** (n + 1) / RATES[n]).max() for n in range(3)]


def wild(rng, ticks):
    """A path from rest that reaches one of its bounds and stays within the others."""
    hold = int(rng.integers(1, 60))
    jerk = np.repeat(rng.choice([-1.0, 1.0], (ticks // hold + 1, JOINTS)), hold, 0)[:ticks] * LIMITS.jerk
    path = integrate(jerk)
    return path / max(parts(path))


def arrivals(rng, ticks, chance):
    """Ticks whose command arrives: each is lost by chance, but never twenty in a row."""
    kept, run = [], 0
    for tick in range(ticks):
        run = run + 1 if rng.random() < chance and run < 19 else 0
        if not run:
            kept.append(tick)
    return kept


def judge(path, ticks, limits=LIMITS):
    """What a checker says about those rows of a path; the first tick follows rest."""
    checker = Checker(limits)
    for tick in ticks:
        if errors := checker.command(path[tick], tick + 1):
            return errors, checker
    return (), checker


@pytest.mark.parametrize("chance", [0.0, 0.05, 0.5, 0.95])
def test_a_path_within_limits_passes_whatever_is_lost(chance):
    rng = np.random.default_rng(3)
    for _ in range(40):
        path = wild(rng, 400)
        errors, checker = judge(path, arrivals(rng, len(path), chance))
        assert not errors
        assert (checker.peaks <= 1 + 1e-6).all()


def test_peaks_are_those_of_the_path_when_nothing_is_lost():
    path = wild(np.random.default_rng(0), 300)
    _, checker = judge(path, range(len(path)))
    np.testing.assert_allclose(checker.peaks, parts(path), rtol=1e-6)


def only(order):
    """Limits on nothing but the velocity (1), the acceleration (2) or the jerk (3)."""
    free = {name: (1e9,) * JOINTS for name in NAMES if name != NAMES[order - 1]}
    return Limits(position_min=LIMITS.position_min, position_max=LIMITS.position_max, **free)


@pytest.mark.parametrize(("over", "found"), [(0.999, False), (1.001, True), (-1.001, True)])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("joint", [0, 6])
def test_a_breach_at_a_single_tick_is_found_and_named(order, joint, over, found):
    path = np.zeros((60, JOINTS))
    path[30, joint] = over * RATES[order - 1][joint] * TICK_S**order
    for _ in range(order):
        path = path.cumsum(0)  # its difference of that order is the one breach
    errors, _ = judge(path, range(60), only(order))
    assert errors == ((ERRORS[order - 1],) if found else ())


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_lasting_breach_is_found_in_spite_of_losses(order):
    path = minimum_jerk(np.ones(JOINTS), 400)
    path *= 1.3 / parts(path)[order - 1]
    errors, _ = judge(path, arrivals(np.random.default_rng(5), len(path), 0.5), only(order))
    assert errors == (ERRORS[order - 1],)


def test_a_client_that_counts_packets_instead_of_time_is_caught():
    path = minimum_jerk(np.full(JOINTS, 0.3), 500)
    checker = Checker(LIMITS)
    errors = [checker.command(row, tick + 1 + (tick > 200)) for tick, row in enumerate(path[:210])]
    assert JERK in errors[201]


@pytest.mark.parametrize("late", [1, 5, 19])
def test_the_first_command_must_be_within_reach_from_rest(late):
    reach = LIMITS.jerk[1] * TICK_S**3 * late * (late + 1) * (late + 2) / 6
    for part, expected in ((0.999, ()), (1.001, (START,))):
        assert Checker(only(3)).command(np.eye(JOINTS)[1] * reach * part, late) == expected


def test_positions_and_nan_are_refused():
    checker = Checker(Limits())
    checker.start(np.array(Limits().position_max) - 1e-9, 0)
    assert checker.command(np.array(Limits().position_max) - 1e-9, 1) == ()
    assert checker.command(np.array(Limits().position_max) + 1e-9, 2) == (POSITION,)
    assert Checker(LIMITS).command(np.full(JOINTS, np.nan), 1) == (START,)


def test_a_motion_must_end_at_rest():
    path = minimum_jerk(np.full(JOINTS, 0.3), 500)
    assert judge(path, range(501))[1].finish() == ()
    assert ACCELERATION in judge(path, range(250))[1].finish()
    brakes = np.array([7500.0] * 2 + [0] * 9 + [-7500] * 2 + [-5000] * 3 + [0] * 8)  # one tick before it would stand
    path = integrate(brakes[:, None] * np.eye(JOINTS)[6])
    errors, checker = judge(path, range(len(path)), only(3))
    assert errors == ()
    assert checker.finish() == (JERK,)


def test_a_lost_command_is_replaced_at_constant_acceleration():
    tick = np.arange(40.0)[:, None] * TICK_S
    path = 2.0 * tick**2 * np.ones(JOINTS)  # 4 rad/s2
    _, checker = judge(path, range(20))
    q, dq, ddq = checker.predict(7)
    np.testing.assert_allclose(q, path[26], rtol=1e-9)
    np.testing.assert_allclose(dq, (path[26] - path[25]) / TICK_S, rtol=1e-6)
    np.testing.assert_allclose(ddq, 4.0, rtol=1e-6)
    _, gappy = judge(path, [0, 1, 2, 9, 13])
    np.testing.assert_allclose(gappy.predict(3)[0], path[16], rtol=1e-9)


def test_limits_of_the_wrong_length_are_refused():
    with pytest.raises(ValueError, match="jerk has 2 values"):
        Limits(jerk=(1.0, 2.0))


def test_flags_are_41_and_unknown_ones_are_refused():
    assert len(set(FLAGS)) == 41
    assert [FLAGS[at] for at, set_ in enumerate(flags((JERK, START))) if set_] == [START, JERK]
    with pytest.raises(ValueError, match="no errors of libfranka"):
        flags(("tired",))
