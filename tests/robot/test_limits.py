"""Laws of the limits: the makers' numbers load, and a user's file tightens them or is refused."""

import re
from dataclasses import fields
from importlib import resources
from math import nextafter, sqrt

import numpy as np
import pytest

from w4rl_fast.errors import UserError
from w4rl_fast.robot.limits import Limits, limits_of, makers_limits, read_toml, tightened
from w4rl_fast.robot.reference.tracker import TICK, Motion, follow, make_axis

ARMS = sorted(makers_limits())
KINDS = [field.name for field in fields(Limits)]
SEVEN = range(7)


def changed(limits, kind, joint, value):
    row = list(getattr(limits, kind))
    row[joint] = value
    return {kind: row}


def looser(kind, value, by):
    return value - by if kind == "low" else value + by


def test_the_makers_tables_are_whole() -> None:
    assert {"panda", "fr3"} <= set(ARMS)
    for arm in ARMS:
        limits = limits_of(arm)
        for kind in KINDS:
            assert len(getattr(limits, kind)) == 7
        assert all(low < high for low, high in zip(limits.low, limits.high, strict=True))


def test_the_pandas_numbers_are_frankas() -> None:
    limits = limits_of("panda")
    assert limits.high == (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
    assert limits.low == (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
    assert limits.speed == (2.175,) * 4 + (2.61,) * 3
    assert limits.acceleration == (15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0)
    assert limits.jerk == (7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0)
    assert limits.torque == (87.0,) * 4 + (12.0,) * 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arm", ARMS)
def test_no_number_can_be_loosened(arm, kind) -> None:
    limits = limits_of(arm)
    for joint, allowed in enumerate(getattr(limits, kind)):
        for value in (looser(kind, allowed, 0.01), looser(kind, allowed, 1e9)):
            with pytest.raises(UserError) as caught:
                tightened(limits, changed(limits, kind, joint, value), "mine.toml")
            text = str(caught.value)
            assert text.startswith(f"mine.toml: {kind} of joint {joint + 1} is {value:g}:")
            assert f"allows {allowed:g}" in text
        with pytest.raises(UserError, match=f"joint {joint + 1}"):
            tightened(limits, changed(limits, kind, joint, nextafter(allowed, looser(kind, allowed, 1.0))), "mine.toml")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arm", ARMS)
def test_every_number_can_be_tightened_alone(arm, kind) -> None:
    limits = limits_of(arm)
    for joint, allowed in enumerate(getattr(limits, kind)):
        value = looser(kind, allowed, -0.01)
        mine = tightened(limits, changed(limits, kind, joint, value), "mine.toml")
        for other in KINDS:
            expected = list(getattr(limits, other))
            if other == kind:
                expected[joint] = value
            assert getattr(mine, other) == tuple(expected)


def test_without_changes_the_makers_limits_are_kept() -> None:
    for arm in ARMS:
        assert tightened(limits_of(arm), {}, "mine.toml") == limits_of(arm)


@pytest.mark.parametrize("kind", ["speed", "acceleration", "jerk", "torque", "ending", "low", "high"])
def test_a_scale_tightens_a_whole_kind_and_never_loosens(kind) -> None:
    limits = limits_of("panda")
    with pytest.raises(UserError, match="can only be tightened"):
        tightened(limits, {"scale": {kind: 1.01}}, "mine.toml")
    if kind in {"low", "high"}:
        return
    mine = tightened(limits, {"scale": {kind: 0.5}}, "mine.toml")
    assert getattr(mine, kind) == tuple(0.5 * x for x in getattr(limits, kind))


def test_a_scale_cannot_loosen_a_range_that_lies_on_one_side_of_zero() -> None:
    with pytest.raises(UserError, match="high of joint 4"):
        tightened(limits_of("panda"), {"scale": {"high": 0.5}}, "mine.toml")
    with pytest.raises(UserError, match="low of joint 6"):
        tightened(limits_of("fr3"), {"scale": {"low": 0.5}}, "mine.toml")


@pytest.mark.parametrize("changes", [{"sped": [1.0] * 7}, {"scale": {"sped": 0.5}}])
def test_an_unknown_limit_is_named_with_the_nearest_one(changes) -> None:
    with pytest.raises(UserError, match=r"mine\.toml: sped: there is no such limit\. Did you mean speed"):
        tightened(limits_of("panda"), changes, "mine.toml")


def test_an_unknown_arm_is_named_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match=r"'pandas'.*Did you mean panda"):
        limits_of("pandas")


@pytest.mark.parametrize(
    "changes",
    [
        {"speed": [1.0] * 6},
        {"speed": [1.0] * 8},
        {"speed": [1.0] * 6 + [0.0]},
        {"jerk": [-1.0] * 7},
        {"low": [1.0] + [0.0] * 6, "high": [1.0] + [0.5] * 2 + [-0.07] + [0.5] * 3},
    ],
)
def test_limits_that_are_none_are_refused(changes) -> None:
    with pytest.raises(UserError, match=r"mine\.toml"):
        tightened(limits_of("panda"), changes, "mine.toml")


def test_a_file_that_is_missing_or_no_toml_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_toml(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("[limits\n")
    with pytest.raises(UserError, match=r"bad\.toml: it is not TOML.*line 1"):
        read_toml(bad)


def fr3_curve():
    """b and c of the FR3's speed limit, as the comment beside its table has them."""
    text = resources.files("w4rl_fast.robot").joinpath("limits.toml").read_text()
    b, c = (
        np.array([float(x) for x in re.search(rf"{name} = ((?:[\d.]+ ){{6}}[\d.]*\d)", text)[1].split()])
        for name in "bc"
    )
    return b, c


def test_the_fr3_may_go_slower_and_slower_towards_the_end_of_its_range_by_formula() -> None:
    limits, (b, c) = limits_of("fr3"), fr3_curve()
    ending = np.array(limits.ending)
    assert (ending <= np.minimum(0.4 * c, limits.acceleration) + 1e-12).all()
    for joint in SEVEN:
        for speed in np.linspace(0, limits.speed[joint], 200):
            braking = speed**2 / (2 * ending[joint])  # no stop is shorter
            allowed = -b[joint] + sqrt(c[joint] * (5 * b[joint] ** 2 / c[joint] + braking))
            assert speed <= allowed + 1e-12


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("joint", SEVEN)
def test_the_fr3_may_go_slower_and_slower_towards_the_end_of_its_range_by_simulation(joint, scale) -> None:
    limits, (b, c) = limits_of("fr3"), fr3_curve()
    low, high = limits.low[joint], limits.high[joint]
    axis = make_axis(
        low, high, scale * limits.speed[joint], limits.acceleration[joint], limits.jerk[joint], limits.ending[joint]
    )
    room = 5 * b[joint] ** 2 / c[joint]
    for up in (True, False):
        end, motion, way = (axis.high, Motion(axis.low), 1) if up else (axis.low, Motion(axis.high), -1)
        motions = [motion]
        while motions[-1] != Motion(end) and len(motions) < 20_000:
            motions.append(follow(motions[-1], end + way, 0.0, axis))
        assert motions[-1] == Motion(end)
        positions = np.array([m.position for m in motions])
        speeds = np.array([way * m.speed for m in motions])
        allowed = -b[joint] + np.sqrt(c[joint] * ((high - positions if up else positions - low) + room))
        assert (speeds <= allowed).all()
        assert (way * np.diff(positions) / TICK <= allowed[:-1]).all()  # as libfranka asks: where the arm was
        assert speeds.max() > 0.5 * axis.speed
