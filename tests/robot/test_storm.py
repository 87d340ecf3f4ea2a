"""The native servo under hundreds of thousands of ticks of bad targets, seen by an independent checker."""

from dataclasses import replace

import numpy as np
import pytest

from bench.storm import inspect, storm
from tests.native import needs_native
from w4rl_fast.robot.protocol import REFUSED, Flag, Mode
from w4rl_fast.robot.servo import NativeServo
from w4rl_fast.robot.setup import READY, Workspace, make_setup, settings_of

pytestmark = needs_native
TIGHT = Workspace(low=(0.2, -0.25, 0.3), high=(0.55, 0.25, 0.7), keep_out=(((0.4, -0.1, 0.2), (0.6, 0.1, 0.4)),))
WEATHER = {"panda": ("panda", Workspace()), "fr3": ("fr3", Workspace()), "walls": ("panda", TIGHT)}


def weathered(name, ticks, seed):
    arm, workspace = WEATHER[name]
    setup = replace(make_setup(arm), workspace=workspace)
    walls = np.array([workspace.low, workspace.high])
    return inspect(storm(NativeServo(settings_of(setup)), ticks, seed), setup.limits, walls)


def assert_calm(found, ticks):
    assert found.ticks == ticks
    assert found.violations == 0
    assert found.outside <= 0.0
    assert max(found.worst[name] for name in ("speed", "acceleration", "jerk")) <= 1.0
    assert min(found.worst[name] for name in ("speed", "acceleration")) > 0.9, (
        "a storm that asks for little shows little"
    )
    assert set(found.modes) == {mode.name for mode in Mode if mode != Mode.OFF}
    assert found.faults > 0


@pytest.mark.parametrize("name", WEATHER)
def test_a_storm_finds_no_command_beyond_a_limit(name) -> None:
    found = weathered(name, 100_000, seed=7)
    assert_calm(found, 100_000)
    assert found.flags["WALL"] > 0
    assert found.flags["BRAKED"] > 1000 or name != "walls"


def test_a_storm_has_every_kind_of_bad_target() -> None:
    flags = set(weathered("walls", 60_000, seed=1).flags)
    assert flags >= {str(flag.name) for flag in REFUSED | Flag.TAKEN | Flag.WALL | Flag.BRAKED if flag != Flag.LATCHED}


@pytest.mark.parametrize(
    ("name", "break_it"),
    [
        ("range", lambda rows: np.add(rows, [0.0, 0.0, 0.0, 2.4, 0.0, 0.0, 0.0])),
        ("speed", lambda rows: rows + 2e-3 * np.arange(len(rows))[:, None]),
        ("acceleration", lambda rows: rows + 5e-6 * np.arange(len(rows))[:, None] ** 2),
        ("jerk", lambda rows: rows + 1e-6 * (np.arange(len(rows)) % 2)[:, None]),
        ("nothing", lambda rows: rows * np.nan),
    ],
)
def test_the_checker_sees_what_is_beyond_a_limit(name, break_it) -> None:
    rows, states = np.tile(READY, (50, 1)), np.zeros((50, 3), dtype=np.int64)
    limits = make_setup("panda").limits
    assert inspect(iter([(rows, states)]), limits).violations == 0
    found = inspect(iter([(break_it(rows), states)]), limits)
    assert found.violations > 0
    if name in found.worst:
        assert found.worst[name] > (0.0 if name == "range" else 1.0)


def test_the_checker_sees_a_violation_across_two_blocks() -> None:
    rows, states = np.tile(READY, (50, 1)), np.zeros((50, 3), dtype=np.int64)
    found = inspect(iter([(rows, states), (rows + 0.01, states)]), make_setup("panda").limits)
    assert 1 <= found.violations <= 3
    assert found.ticks == 100


def test_the_checker_sees_a_tool_outside() -> None:
    rows, states = np.tile(READY, (50, 1)), np.zeros((50, 3), dtype=np.int64)
    walls = np.array([(-0.9, -0.9, 0.5), (0.9, 0.9, 1.3)])
    assert inspect(iter([(rows, states)]), make_setup("panda").limits, walls).outside == pytest.approx(0.0131, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", WEATHER)
def test_a_long_storm_finds_no_command_beyond_a_limit(name) -> None:
    assert_calm(weathered(name, 10_000_000, seed=11), 10_000_000)
