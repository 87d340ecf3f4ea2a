"""What an action is and where it may lead: the same in a simulator and on a robot, and known without either."""

import numpy as np

from w4rl_fast.tasks.franka.panda import TIMESTEP
from w4rl_fast.tasks.protocol import TaskConfig

SPEED = 0.25
"""How fast a whole action moves the command along an axis, m/s."""
LOW, HIGH = np.array([0.32, -0.28, 0.02]), np.array([0.70, 0.28, 0.36])
"""The corners of the box that the command stays in, m."""
START, ABOUT = (0.42, 0.0, 0.28), 0.03
"""Where the fingertips begin, m, and by how much that varies each way."""


def rate_of(config: TaskConfig) -> float:
    """Actions a second."""
    return 1.0 / (config.action_repeat * TIMESTEP)


def reach_of(rate: float) -> float:
    """How far a whole action moves the command along an axis, m."""
    return SPEED / rate
