import numpy as np
import pytest

pytest.importorskip("mujoco")

import mujoco

from w4rl_fast.tasks.franka import panda


@pytest.fixture(scope="module")
def model():
    return mujoco.MjModel.from_xml_string(panda.scene(""))


def transform(alpha, a, theta, d):
    """A link in the frame of the one before, after Craig: turn and go along x, then along the new z."""
    ca, sa, ct, st = np.cos(alpha), np.sin(alpha), np.cos(theta), np.sin(theta)
    return np.array([[ct, -st, 0, a], [st * ca, ct * ca, -sa, -sa * d], [st * sa, ct * sa, ca, ca * d], [0, 0, 0, 1]])


def forward(q):
    """The frames of links 1 to 7, of the hand and of the fingertips (9, 4, 4), from the published numbers alone."""
    table = [
        (0, 0, 0.333), (-np.pi / 2, 0, 0), (np.pi / 2, 0, 0.316), (np.pi / 2, 0.0825, 0),
        (-np.pi / 2, -0.0825, 0.384), (np.pi / 2, 0, 0), (np.pi / 2, 0.088, 0),
    ]  # fmt: skip
    frames = [np.eye(4)]
    for (alpha, a, d), theta in zip(table, q, strict=True):
        frames.append(frames[-1] @ transform(alpha, a, theta, d))
    frames.append(frames[-1] @ transform(0, 0, -np.pi / 4, 0.107))
    frames.append(frames[-1] @ transform(0, 0, 0, 0.1034))
    return np.array(frames[1:])


def test_every_frame_is_where_the_published_numbers_put_it(model):
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    for _ in range(50):
        q = rng.uniform(panda.LOWER, panda.UPPER)
        data.qpos[:7] = q
        mujoco.mj_kinematics(model, data)
        found = [*(data.body(f"link{i}") for i in range(1, 8)), data.body("hand")]
        expected = forward(q)
        for body, frame in zip(found, expected, strict=False):
            np.testing.assert_allclose(body.xpos, frame[:3, 3], rtol=0, atol=1e-9)
            np.testing.assert_allclose(body.xmat.reshape(3, 3), frame[:3, :3], rtol=0, atol=1e-9)
        np.testing.assert_allclose(data.site("tcp").xpos, expected[-1][:3, 3], rtol=0, atol=1e-9)


def test_at_home_the_fingers_point_down_and_open_across():
    frame = forward(panda.HOME)[-1]
    np.testing.assert_allclose(frame[:3, :3], np.diag([1.0, -1.0, -1.0]), atol=1e-12)


def test_joints_and_actuators_have_the_names_and_limits_of_the_robot(model):
    assert [model.joint(i).name for i in range(9)] == [*panda.JOINTS, "finger1", "finger2"]
    np.testing.assert_array_equal(model.jnt_range[:7], np.transpose([panda.LOWER, panda.UPPER]))
    np.testing.assert_array_equal(model.jnt_actfrcrange[:7, 1], panda.TORQUE)
    names = [*(f"position{i}" for i in range(1, 8)), *(f"velocity{i}" for i in range(1, 8)), "gripper"]
    assert [model.actuator(i).name for i in range(model.nu)] == names


def servo(model, data, q, dq, steps):
    data.ctrl[:7], data.ctrl[7:14] = q, dq
    for _ in range(steps):
        mujoco.mj_step(model, data)


def test_without_a_command_to_move_the_arm_stays(model):
    data = mujoco.MjData(model)
    data.qpos[:7] = panda.HOME
    servo(model, data, panda.HOME, 0.0, 500)
    np.testing.assert_allclose(data.qpos[:7], panda.HOME, atol=1e-4)


def test_a_moving_command_is_followed_without_lag(model):
    data, speed = mujoco.MjData(model), np.array([0.3, -0.2, 0.3, 0.2, 0.4, -0.3, 0.5])
    data.qpos[:7] = panda.HOME
    for step in range(500):
        servo(model, data, panda.HOME + speed * (step + 1) * model.opt.timestep, speed, 1)
        if step > 100:
            np.testing.assert_allclose(data.qpos[:7], data.ctrl[:7], atol=3e-3)


def test_no_servo_exceeds_the_torque_of_its_joint(model):
    data = mujoco.MjData(model)
    data.qpos[:7] = panda.HOME
    servo(model, data, panda.UPPER, 0.0, 5)
    assert (np.abs(data.qfrc_actuator[:7]) <= np.array(panda.TORQUE) + 1e-9).all()
    assert np.abs(data.qfrc_actuator[:4]).max() == pytest.approx(87)


@pytest.mark.parametrize("opening", [0.0, 0.03, 0.08])
def test_the_gripper_opens_as_wide_as_it_is_told_and_in_the_middle(model, opening):
    data = mujoco.MjData(model)
    data.qpos[:7] = data.ctrl[:7] = panda.HOME
    data.qpos[7:9] = 0.02
    data.ctrl[14] = opening
    for _ in range(500):
        mujoco.mj_step(model, data)
    assert data.qpos[7:9].sum() == pytest.approx(opening, abs=1e-3)
    assert data.qpos[7] == pytest.approx(data.qpos[8], abs=1e-4)
