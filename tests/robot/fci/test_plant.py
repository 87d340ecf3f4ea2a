"""The scene that the checking server moves."""

import numpy as np
import pytest

pytest.importorskip("mujoco")
pytest.importorskip("franky_sim", reason="pip install franky-sim==1.0.4")

from tests.robot.fci.checker import TICK_S
from tests.robot.fci.plant import ScenePlant
from tests.robot.fci.scenes import load


def test_a_scene_of_a_task_is_held_every_millisecond_and_as_stiffly_as_a_client_asks() -> None:
    """At 2 ms the same servos hammer on a table until their torque ends in a reflex."""
    pulls = []
    for stiffness in (100.0, 700.0):
        model, data = load("franka/push-button", 0)
        assert model.opt.timestep == TICK_S
        plant = ScenePlant(model, data)
        plant.hold(np.full(7, stiffness))
        plant.follow(plant.q + 1e-3, np.zeros(7), np.zeros(7))
        plant.step()
        pulls.append(plant.tau_J.copy())
    np.testing.assert_allclose((pulls[1] - pulls[0]) / 600.0, 1e-3, rtol=0.1)
