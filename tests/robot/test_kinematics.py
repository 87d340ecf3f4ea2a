"""Laws of the arm's geometry: held to a textbook's matrices, to MuJoCo and to finite differences."""

import numpy as np
import pytest

from bench.storm import tool_of
from w4rl_fast.robot.limits import limits_of
from w4rl_fast.robot.reference import kinematics, route
from w4rl_fast.robot.reference.kinematics import place, reach, rotation, solve
from w4rl_fast.robot.reference.servo import DAMPING, LEVER, parts
from w4rl_fast.robot.setup import READY

STILL = [0.0] * 7


def postures(count, seed=1, spread=1.0):
    """Angles (count, 7) over part of the Panda's range, around the middle of it."""
    limits = limits_of("panda")
    low, high = np.array(limits.low), np.array(limits.high)
    share = np.random.default_rng(seed).uniform(0.5 - spread / 2, 0.5 + spread / 2, (count, 7))
    return low + share * (high - low)


def turn_of(arm):
    """The rotation of the tool as a matrix whose columns are its axes."""
    return np.array(arm.turn).T


def jacobian(angles):
    """How the tool moves (m) and turns (rad) with each joint (6, 7), by central differences."""
    columns = []
    for joint in np.eye(7) * 1e-6:
        up, down = place(list(angles + joint)), place(list(angles - joint))
        move = (tool_of((angles + joint)[None]) - tool_of((angles - joint)[None]))[0] / 2e-6
        spin = (turn_of(up) - turn_of(down)) / 2e-6 @ turn_of(place(list(angles))).T
        columns.append([*move, spin[2, 1], spin[0, 2], spin[1, 0]])
    return np.array(columns).T


def turned(turn, about):
    """A rotation turned by a vector (rad) in the base's frame, as columns."""
    angle = np.linalg.norm(about)
    w, (x, y, z) = np.cos(angle / 2), np.sin(angle / 2) * about / angle
    return rotation(*route.times([w, x, y, z], route.quaternion(turn)))


def test_the_tool_is_where_the_textbook_says() -> None:
    angles = postures(200)
    tools = np.array([place(list(row)).tool for row in angles])
    np.testing.assert_allclose(tools, tool_of(angles), rtol=0, atol=1e-12)


def test_the_ready_posture_points_straight_down_in_front_of_the_base() -> None:
    arm = place(list(READY))
    np.testing.assert_allclose(arm.tool, (0.3069, 0.0, 0.4869), atol=1e-4)
    np.testing.assert_allclose(turn_of(arm), np.diag([1.0, -1.0, -1.0]), atol=1e-9)


def test_the_arm_is_that_of_the_simulator() -> None:
    mujoco = pytest.importorskip("mujoco")
    panda = pytest.importorskip("w4rl_fast.tasks.franka.panda")
    model = mujoco.MjModel.from_xml_string(panda.scene(""))
    data = mujoco.MjData(model)
    for angles in postures(50, seed=2):
        data.qpos[:7] = angles
        mujoco.mj_kinematics(model, data)
        arm = place(list(angles))
        np.testing.assert_allclose(arm.tool, data.site("tcp").xpos, atol=1e-9)
        np.testing.assert_allclose(turn_of(arm), data.site("tcp").xmat.reshape(3, 3), atol=1e-9)
        np.testing.assert_allclose(arm.flange, data.body("hand").xpos, atol=1e-9)
        for i in range(7):
            np.testing.assert_allclose(arm.origins[i], data.body(f"link{i + 1}").xpos, atol=1e-9)
            np.testing.assert_allclose(arm.axes[i], data.body(f"link{i + 1}").xmat.reshape(3, 3)[:, 2], atol=1e-9)


def test_the_tools_axes_stay_a_rotation() -> None:
    for angles in postures(50, seed=3):
        turn = turn_of(place(list(angles)))
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(turn) == pytest.approx(1.0)


@pytest.mark.parametrize("size", [1e-3, 1e-4])
def test_an_undamped_step_moves_the_tool_as_asked_to_first_order(size) -> None:
    rng = np.random.default_rng(4)
    for angles in READY + rng.uniform(-0.4, 0.4, (30, 7)):
        arm = place(list(angles))
        ask = rng.normal(size=6)
        ask *= size / np.linalg.norm(ask)
        turn = turned(arm.turn, ask[3:])
        step = np.array(reach(arm, tuple(arm.tool + ask[:3]), turn, STILL, 0.0))
        np.testing.assert_allclose(jacobian(angles) @ step, ask, atol=1e-6 * size + size**3)
        there = place(list(angles + step))
        assert np.linalg.norm(np.array(there.tool) - arm.tool - ask[:3]) < 20 * size**2
        assert np.abs(turn_of(there) - np.array(turn).T).max() < 20 * size**2


def test_an_undamped_step_is_the_smallest_that_does() -> None:
    rng = np.random.default_rng(5)
    for angles in READY + rng.uniform(-0.4, 0.4, (10, 7)):
        arm = place(list(angles))
        ask = rng.normal(0, 1e-4, 6)
        step = reach(arm, tuple(arm.tool + ask[:3]), turned(arm.turn, ask[3:]), STILL, 0.0)
        np.testing.assert_allclose(step, np.linalg.pinv(jacobian(angles)) @ ask, atol=1e-9)


@pytest.mark.parametrize("damping", [0.0, DAMPING])
def test_step_by_step_a_pose_is_reached(damping) -> None:
    rng = np.random.default_rng(6)
    for start in READY + rng.uniform(-0.3, 0.3, (10, 7)):
        goal = place(list(start + rng.uniform(-0.1, 0.1, 7)))
        angles = np.array(start)
        for _ in range(200):
            angles = angles + reach(place(list(angles)), goal.tool, goal.turn, STILL, damping)
        arm = place(list(angles))
        np.testing.assert_allclose(arm.tool, goal.tool, atol=1e-6)
        np.testing.assert_allclose(arm.turn, goal.turn, atol=1e-6)


def test_a_drift_takes_the_elbow_along_and_leaves_the_tool() -> None:
    rng = np.random.default_rng(7)
    for angles in READY + rng.uniform(-0.4, 0.4, (20, 7)):
        arm, drift = place(list(angles)), rng.normal(0, 1e-4, 7)
        step = np.array(reach(arm, arm.tool, arm.turn, list(drift), 0.0))
        free = np.linalg.svd(jacobian(angles))[2][6]
        np.testing.assert_allclose(step, free * (free @ drift), atol=1e-9)
        there = place(list(angles + step))
        np.testing.assert_allclose(there.tool, arm.tool, atol=1e-7)
        np.testing.assert_allclose(there.turn, arm.turn, atol=1e-7)


def test_where_nothing_is_asked_nothing_is_done() -> None:
    for angles in postures(20, seed=8):
        arm = place(list(angles))
        np.testing.assert_allclose(reach(arm, arm.tool, arm.turn, STILL, DAMPING), 0.0, atol=1e-12)


def test_a_damped_step_is_that_of_damped_least_squares() -> None:
    rng = np.random.default_rng(15)
    for angles in [*postures(20, seed=16), np.array([1.0, 0.0, 0.5, -0.07, 0.0, 0.2, 0.0])]:
        arm, ask, drift = place(list(angles)), rng.normal(0, 1e-4, 6), rng.normal(0, 1e-4, 7)
        step = reach(arm, tuple(arm.tool + ask[:3]), turned(arm.turn, ask[3:]), list(drift), 0.05)
        moves = jacobian(angles)
        rest = np.linalg.solve(moves @ moves.T + 0.05**2 * np.eye(6), ask - moves @ drift)
        np.testing.assert_allclose(step, drift + moves.T @ rest, atol=1e-9)


@pytest.mark.parametrize(
    "angles",
    [
        STILL,
        [1.0, 0.0, 0.5, -0.07, 0.0, 0.2, 0.0],
        [0.5, 0.0, 1.57, -1.5, 1.57, 1.0, 0.0],
        [-0.947, -1.306, 2.065, -0.406, 1.537, 2.555, 0.155],
        [-2.342, 0.051, -1.883, -0.451, 0.055, 2.091, 1.089],
    ],
)
def test_a_step_near_a_singular_pose_is_bounded_by_the_damping(angles) -> None:
    rng = np.random.default_rng(9)
    arm = place(angles)
    directions, shares, _ = np.linalg.svd(jacobian(np.array(angles)))
    assert shares[5] < 0.01
    for ask in [directions[:, 5], *rng.normal(size=(50, 6))]:
        ask = 0.2 * ask / np.linalg.norm(ask)
        step = reach(arm, tuple(arm.tool + ask[:3]), turned(arm.turn, ask[3:]), STILL, DAMPING)
        assert np.linalg.norm(step) <= 0.2 / (2 * DAMPING) * (1 + 1e-9)


def test_quaternions_and_rotations_are_the_same_turn() -> None:
    rng = np.random.default_rng(10)
    special = [*np.eye(4), *(np.array(q) / 2 for q in ((1, 1, 1, 1), (1, -1, 1, -1), (-1, 1, 1, 1)))]
    close = [np.eye(4)[k] + rng.normal(0, 1e-3, 4) for k in range(4)]
    for raw in [*special, *close, *rng.normal(size=(200, 4))]:
        q = raw / np.linalg.norm(raw)
        turn = rotation(*q)
        matrix = np.array(turn).T
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1.0)
        back = np.array(route.quaternion(turn))
        assert np.linalg.norm(back) == pytest.approx(1.0, abs=1e-12)
        assert abs(back @ q) == pytest.approx(1.0, abs=1e-12)


def test_a_rotation_turns_about_its_axis_by_its_angle() -> None:
    turn = np.array(rotation(np.cos(0.2), 0.0, 0.0, np.sin(0.2))).T
    np.testing.assert_allclose(turn @ [1.0, 0.0, 0.0], [np.cos(0.4), np.sin(0.4), 0.0], atol=1e-12)


def test_a_product_of_quaternions_turns_by_the_right_one_first() -> None:
    rng = np.random.default_rng(11)
    for p, q in rng.normal(size=(20, 2, 4)):
        p, q = p / np.linalg.norm(p), q / np.linalg.norm(q)
        both = np.array(rotation(*route.times(list(p), list(q)))).T
        np.testing.assert_allclose(both, np.array(rotation(*p)).T @ np.array(rotation(*q)).T, atol=1e-12)


def test_equations_are_solved_in_place() -> None:
    rng = np.random.default_rng(12)
    for _ in range(20):
        half = rng.normal(size=(6, 9))
        square, right = half @ half.T, rng.normal(size=6)
        rows, found = np.tril(square).tolist(), right.tolist()
        solve(rows, found)
        np.testing.assert_allclose(square @ found, right, atol=1e-9)


def test_no_point_of_the_arm_moves_further_than_its_lever_with_one_joint() -> None:
    for angles in [*postures(300, seed=13), *postures(100, seed=14, spread=0.3), np.zeros(7)]:
        arm = place(list(angles))
        for point in parts(arm):
            for axis, origin in zip(arm.axes, arm.origins, strict=True):
                assert np.linalg.norm(kinematics.cross(axis, tuple(np.subtract(point, origin)))) <= LEVER
