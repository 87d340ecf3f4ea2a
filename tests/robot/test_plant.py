"""A scene as an arm: held as stiffly as it is told."""

import numpy as np
import pytest

pytest.importorskip("mujoco")

from w4rl_fast.errors import UserError
from w4rl_fast.robot.plant import Scene
from w4rl_fast.robot.protocol import TICK
from w4rl_fast.robot.setup import READY, Setup
from w4rl_fast.tasks.franka.place import scene_xml

XML = scene_xml("franka/push-button")


def pull_of(stiffness, error=0.01):
    """The torque (7,) at once, Nm, where every joint is sent so far from where it rests (rad)."""
    scene = Scene(XML, stiffness=stiffness)
    scene.step(np.array(READY) + error, np.zeros(7), -1.0)
    return np.array(scene.data.qfrc_actuator[:7])


def test_it_pulls_by_its_stiffness_and_that_of_a_setup_is_its_own() -> None:
    usual = Setup().stiffness
    np.testing.assert_allclose(pull_of(None), pull_of(usual), rtol=1e-12)
    np.testing.assert_allclose(pull_of(usual), 0.01 * np.array(usual), rtol=0.2)
    np.testing.assert_allclose(pull_of(tuple(0.5 * k for k in usual)), 0.5 * pull_of(usual), rtol=0.2)


def test_a_scene_without_a_panda_is_refused() -> None:
    with pytest.raises(UserError, match="its first joints are joint1"):
        Scene("<mujoco><worldbody><body><joint name='hinge'/><geom size='1'/></body></worldbody></mujoco>")


def test_it_goes_on_by_a_tick_a_step() -> None:
    scene = Scene(XML)
    for _ in range(10):
        scene.step(np.array(READY), np.zeros(7), -1.0)
    assert scene.data.time == pytest.approx(10 * TICK)
