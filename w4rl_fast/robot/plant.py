"""A simulated arm: a MuJoCo scene whose Panda is driven by position and speed, at the servo's rate."""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.errors import MissingExtra, UserError
from w4rl_fast.robot.protocol import JOINTS, TICK
from w4rl_fast.robot.servo import require_native
from w4rl_fast.robot.setup import READY

Numbers = NDArray[np.float64]
GRIPPER = 2 * JOINTS


def require_mujoco() -> Any:
    try:
        import mujoco
    except ModuleNotFoundError as error:
        raise MissingExtra("mujoco", extra="sim") from error
    return mujoco


class Scene:
    """A scene by its MJCF, with the joints `joint1` to `joint7`, two fingers, and the servos of a Panda before all
    else.

    `stiffness` (Nm/rad) is what its joints are held with, the model's own if None, as a Franka is told its own.
    `start` is the whole state of the scene as MuJoCo keeps it (mjSTATE_INTEGRATION); None: the arm in its READY
    posture.
    """

    def __init__(self, xml: str, start: Numbers | None = None, stiffness: tuple[float, ...] | None = None) -> None:
        self.mujoco = mujoco = require_mujoco()
        self.model = mujoco.MjModel.from_xml_string(xml)
        self.model.opt.timestep = TICK
        self.data = mujoco.MjData(self.model)
        self._check()
        if stiffness is not None:
            self.model.actuator_gainprm[:JOINTS, 0] = stiffness
            self.model.actuator_biasprm[:JOINTS, 1] = -np.array(stiffness)
        if start is None:
            self.data.qpos[:JOINTS] = self.data.ctrl[:JOINTS] = READY
        else:
            mujoco.mj_setState(self.model, self.data, start, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(self.model, self.data)

    def _check(self) -> None:
        model = self.model
        names = [model.joint(i).name for i in range(min(model.njnt, JOINTS + 2))]
        wanted = [*(f"joint{i}" for i in range(1, JOINTS + 1)), "finger1", "finger2"]
        if names != wanted or model.nu <= GRIPPER or model.actuator(GRIPPER).name != "gripper":
            raise UserError(
                f"a scene with the joints {', '.join(names)}",
                rule=f"its first joints are {', '.join(wanted)}, and its actuators theirs and the gripper's",
                remedy="Build it around the Panda of w4rl_fast.tasks.franka.panda",
            )

    @property
    def joints(self) -> Numbers:
        return np.array(self.data.qpos[:JOINTS])

    @property
    def speed(self) -> Numbers:
        return np.array(self.data.qvel[:JOINTS])

    @property
    def opening(self) -> float:
        """How far the fingers are apart, m."""
        return float(self.data.qpos[JOINTS] + self.data.qpos[JOINTS + 1])

    def step(self, joints: Numbers, speed: Numbers, width: float) -> None:
        """Go on by a tick towards angles (7,) rad at a speed (7,) rad/s, with the fingers so far apart (m), or as they
        are."""
        self.data.ctrl[:JOINTS] = joints
        self.data.ctrl[JOINTS:GRIPPER] = speed
        if width >= 0:
            self.data.ctrl[GRIPPER] = width
        self.mujoco.mj_step(self.model, self.data)

    def native(self) -> Any:
        """The same scene for the native servo, which steps it without Python in between."""
        library = next(Path(self.mujoco.__file__).parent.glob("libmujoco.so*"), None)
        step = ctypes.cast(ctypes.CDLL(str(library)).mj_step, ctypes.c_void_p).value if library else None
        if step is None:
            raise UserError("mujoco", rule="its library was not found beside it", remedy="Install the wheel of mujoco")
        model, data = self.model._address, self.data._address
        return require_native().Plant(step, model, data, self.data.qpos, self.data.qvel, self.data.ctrl)
