"""Where the joints must be for the fingertips to be at a point while the gripper points down."""

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from w4rl_fast.tasks.franka.panda import HOME, LOWER, UPPER

Array = NDArray[np.float64]

DOWN = np.diag([1.0, -1.0, -1.0])
"""The hand's axes in the world: x away from the base, the fingers along y, the fingertips downwards."""
DAMPING = 0.02
HOMEWARD = 0.05
"""The share of the way to HOME that the elbow goes in one iteration, where the hand does not notice."""
ITERATIONS, ENOUGH = 60, 1e-6
LONGEST = 0.2
"""No joint turns by more in one iteration, rad."""


class Reach:
    """Solves for one model; keeps a state of its own and leaves the simulated one alone."""

    def __init__(self, model: Any) -> None:
        self._model, self._data = model, mujoco.MjData(model)
        self._site = model.site("tcp").id
        self._jacobian = np.zeros((6, model.nv))

    def solve(self, target: Array, start: Array) -> Array:
        """Joints (7,), rad, within their limits, for the fingertips at `target` (3,), m; searched from `start` (7,)."""
        q = start.copy()
        for _ in range(ITERATIONS):
            error, jacobian = self._miss(target, q)
            if float(np.abs(error).max()) < ENOUGH:
                break
            step = damped(jacobian, error) + homeward(jacobian, q)
            q = np.clip(q + np.clip(step, -LONGEST, LONGEST), LOWER, UPPER)
        return q

    def position(self, q: Array) -> Array:
        """Where the fingertips (3,) are, m, with the joints at q (7,)."""
        self._data.qpos[:7] = q
        mujoco.mj_kinematics(self._model, self._data)
        return np.array(self._data.site_xpos[self._site], dtype=np.float64)

    def _miss(self, target: Array, q: Array) -> tuple[Array, Array]:
        """The error (6,), m and rad, and the Jacobian (6, 7) that removes it."""
        position = self.position(q)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._site)
        axes = self._data.site_xmat[self._site].reshape(3, 3)
        turn = 0.5 * np.cross(axes.T, DOWN.T).sum(axis=0)
        return np.concatenate([target - position, turn]), self._jacobian[:, :7]


def damped(jacobian: Array, error: Array) -> Array:
    return np.asarray(jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + DAMPING**2 * np.eye(6), error))


def homeward(jacobian: Array, q: Array) -> Array:
    """A step (7,) towards HOME along which the hand stands still."""
    pull = HOMEWARD * (np.array(HOME) - q)
    return np.asarray(pull - np.linalg.pinv(jacobian) @ (jacobian @ pull))
