"""The checking server against the real libfranka."""

import json
import os
import re
import time

import numpy as np
import pytest

pylibfranka = pytest.importorskip("pylibfranka", reason="pip install pylibfranka==0.21.3")
pytest.importorskip("franky_sim", reason="pip install franky-sim==1.0.4")

from tests.robot.fci.client import connect, drive, integrate, minimum_jerk, send  # noqa: E402 - may be missing
from tests.robot.fci.errors import ACCELERATION, COMMUNICATION, JERK, POSITION, START, TORQUE, VELOCITY  # noqa: E402
from tests.robot.fci.flywheels import flywheels  # noqa: E402
from tests.robot.fci.process import running  # noqa: E402
from w4rl_fast.robot.shared import SceneReader as Reader  # noqa: E402

MOVE = np.array([0.3, 0.2, -0.2, 0.3, 0.2, 0.2, -0.2])
MODE = pylibfranka.ControllerMode.JointImpedance
PATIENT = ("--wait-ms", 100)  # the machine's stalls are not what is tested
HOSTILE = {"lose_commands": 0.05, "lose_states": 0.05, "delay_commands_ms": 2, "delay_states_ms": 2}


def pulse(jerk, ticks, coast=0):
    """A path whose first joint has a jerk for some ticks, coasts, and takes it back."""
    jerks = np.zeros((4 * ticks + 2 * coast + 50, 7))
    for start, sign in ((0, 1), (ticks + coast, -1), (2 * ticks + coast, -1), (3 * ticks + 2 * coast, 1)):
        jerks[start : start + ticks, 0] = sign * jerk
    return integrate(jerks)


def refused(robot, path, at=None, fault=lambda: None):
    """The errors that libfranka names (one of them with a capital J) when a path is driven into a fault."""
    with pytest.raises(pylibfranka.ControlException) as caught:
        for _, tick in drive(robot, path):
            if at is not None and tick >= at:
                fault()
                at = None
    return set(re.findall(r'"(\w+)"', str(caught.value).lower()))


@pytest.fixture(scope="module", autouse=True)
def ordinary_again():
    """libfranka gives the thread that starts a motion the highest priority; the tests that follow shall not have it."""
    yield
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture(scope="module")
def server():
    with running(*PATIENT) as server:
        yield server


@pytest.fixture(scope="module")
def robot(server):
    return connect(server.host)


@pytest.fixture(autouse=True)
def recovered(request):
    """Leave each test of the shared server able to move again, on the same connection."""
    yield
    if "robot" in request.fixturenames:
        robot = request.getfixturevalue("robot")
        robot.automatic_error_recovery()
        send(robot, minimum_jerk(np.full(7, 0.001), 50))


BROKEN = {
    "jerk": (pulse(7700, 1), {JERK}),
    "acceleration": (pulse(7400, 3), {ACCELERATION}),
    "velocity": (pulse(7400, 2, 155), {VELOCITY}),
    "position": (minimum_jerk(np.eye(7)[3] * -0.9, 1200), {POSITION}),
    "start": (np.full((20, 7), 1e-3), {START}),
    "jump": (np.repeat([[0.0], [0.3]], 20, 0) * np.ones(7), {VELOCITY, ACCELERATION, JERK}),
    "end": (minimum_jerk(MOVE, 1000)[:500], {ACCELERATION, JERK}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_limit_is_named(robot, name):
    path, errors = BROKEN[name]
    assert refused(robot, path) == errors


def test_the_same_pulses_within_limits_pass(robot):
    for path in (pulse(7400, 1), pulse(7400, 2), pulse(7400, 2, 130)):
        send(robot, path)


def test_smooth_motion_ends_where_it_should(robot):
    before = np.array(robot.read_once().q_d)
    for turn in (1, -1):
        send(robot, minimum_jerk(MOVE * turn, 700))
    state = robot.read_once()
    np.testing.assert_allclose(state.q_d, before, atol=2e-6)
    assert state.robot_mode == pylibfranka.RobotMode.Idle


@pytest.mark.parametrize("way", ["drop_commands", "drop_states"])
def test_twenty_missed_commands_are_too_many(server, robot, way):
    path = minimum_jerk(MOVE, 1000)
    assert refused(robot, path, 300, lambda: server.inject(**{way: 25})) == {COMMUNICATION}
    robot.automatic_error_recovery()
    for _, tick in drive(robot, path):
        if tick == 300:
            server.inject(**{way: 18})


def test_a_reflex_refuses_motion_until_recovery(robot):
    refused(robot, BROKEN["jump"][0])
    state = robot.read_once()
    assert state.robot_mode == pylibfranka.RobotMode.Reflex
    assert state.current_errors.joint_motion_generator_velocity_limits_violation
    assert state.last_motion_errors.joint_motion_generator_velocity_limits_violation
    with pytest.raises(pylibfranka.CommandException, match="Reflex"):
        send(robot, np.zeros((5, 7)))


def test_modes_that_are_not_checked_are_refused(robot):
    for start in (lambda: robot.start_joint_velocity_control(MODE), robot.start_torque_control):
        with pytest.raises(pylibfranka.CommandException, match="rejected"):
            start()


def test_losses_and_delays_alone_raise_nothing(tmp_path):
    log = tmp_path / "log"
    with running(*PATIENT, "--faults", json.dumps(HOSTILE), "--seed", 2, "--json-log", log) as server:
        send(connect(server.host), minimum_jerk(MOVE, 1500))
        summary = server.stop()
    assert summary["reflexes"] == []
    assert summary["lost_commands"] > 30 < summary["lost_states"]
    assert summary["missed"] > 60 > 20 > summary["longest_missed"] > 1
    assert max(summary["velocity"], summary["acceleration"], summary["jerk"]) <= 1 + 1e-6
    assert json.loads(log.read_text().splitlines()[-1]) == summary


def test_stalls_freezes_and_death():
    with running() as server:
        robot, path = connect(server.host), minimum_jerk(MOVE, 1000)
        assert refused(robot, path, 300, lambda: time.sleep(0.3)) == {COMMUNICATION}
        server.inject(lose_commands=2)  # refused on stderr, and the server lives
        server.inject(freeze_ms=300)
        time.sleep(0.1)
        robot.automatic_error_recovery()
        with pytest.raises(pylibfranka.NetworkException):
            for _, tick in drive(robot, path):
                if tick >= 100:
                    server.inject(die=True)
        summary = server.stop()
    assert [reflex["errors"] for reflex in summary["reflexes"]] == [[COMMUNICATION]]
    assert summary["stalls"] >= 1


def wide(**limits):
    """Limits of an arm whose joints may all be at zero."""
    return "--limits", json.dumps({"position_min": [-3] * 7, "position_max": [3] * 7, **limits})


def test_a_scene_follows_shows_itself_and_grips(tmp_path):
    share = f"fci-{tmp_path.parent.name}-{tmp_path.name}"
    with running(*PATIENT, *flywheels(tmp_path), *wide(), "--share", share, "--gripper") as server:
        robot, reader = connect(server.host), Reader(share)
        send(robot, minimum_jerk(MOVE, 1000))
        time.sleep(0.5)
        np.testing.assert_allclose(robot.read_once().q, MOVE, atol=1e-3)
        tick, qpos = reader.read()
        assert tick > 1000
        np.testing.assert_allclose(qpos[:7], MOVE, atol=1e-3)
        gripper = pylibfranka.Gripper(server.host)
        assert gripper.move(0.03, 0.05)
        assert gripper.read_once().width == pytest.approx(0.03, abs=1e-3)
        assert server.stop()["reflexes"] == []


def test_torque_at_its_limit_for_long_is_named(tmp_path):
    with running(*PATIENT, *flywheels(tmp_path), *wide(torque=[0.3] * 7)) as server:
        assert refused(connect(server.host), minimum_jerk(MOVE * 3, 2000)) == {TORQUE}


@pytest.mark.slow
def test_a_long_hostile_session_raises_nothing():
    faults = {"lose_commands": 0.15, "lose_states": 0.15, "delay_commands_ms": 1, "jitter_ms": 3}
    with running(*PATIENT, "--faults", json.dumps(faults)) as server:
        robot = connect(server.host)
        for turn in range(10):
            send(robot, minimum_jerk(MOVE * (-1) ** turn, 600 + 100 * turn))
        summary = server.stop()
    assert summary["reflexes"] == []
    assert summary["overtaken"] > 0 < summary["delayed_states"]
