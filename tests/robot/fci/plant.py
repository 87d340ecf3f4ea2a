"""Arms for the server to move: an ideal one, and one in a MuJoCo scene."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from franky_sim.franka_robot_state import FrankaRobotState

from tests.robot.fci.checker import JOINTS, TICK_S
from w4rl_fast.robot.shared import SceneWriter as Writer
from w4rl_fast.robot.shared import vector

READY = (0.0, -0.785398, 0.0, -2.356194, 0.0, 1.570796, 0.785398)
WIDTH_MAX = 0.08
HAND_SPEED_MAX = 0.1  # of the width: both fingers, 0.05 m/s each


class Plant:
    """What the server needs of an arm: desired and measured joints (7,) in rad, a hand in m, one `step` per ms."""

    def __init__(self, q: tuple[float, ...], *, has_gripper: bool = False) -> None:
        """Rest at a pose with the hand open."""
        self.has_gripper, self.success_rate = has_gripper, 1.0
        self.q, self.dq, self.tau_J = np.array(q, float), np.zeros(JOINTS), np.zeros(JOINTS)
        self.joint_position_control(q)
        self._goal = self._ramp = WIDTH_MAX
        self._hand_step = HAND_SPEED_MAX * TICK_S
        self.frames: dict[str, Any] = {}
        self.O_T_EE = np.eye(4).ravel()

    def _set_server(self, server: object) -> None:
        """A hook of the server that no plant needs."""

    def joint_position_control(self, q, has_new_command: bool = True) -> None:
        """Hold a pose; it is rounded as states are on the wire, or a client could not start from what it read."""
        rest = np.array(q, np.float32).astype(float)
        self.follow(rest, np.zeros(JOINTS), np.zeros(JOINTS))

    def follow(self, q: np.ndarray, dq: np.ndarray, ddq: np.ndarray) -> None:
        """Track a point of a path: rad, rad/s and rad/s2, each (7,)."""
        self.q_d, self.dq_d, self.ddq_d = q, dq, ddq

    def hold(self, stiffness: np.ndarray) -> None:
        """Hold the joints with so much, (7,) Nm/rad; only a plant with torques can."""

    def step(self) -> None:
        """Go on by one ms."""
        self._ramp += max(-self._hand_step, min(self._hand_step, self._goal - self._ramp))

    @property
    def hand_width(self) -> float:
        """Distance between the fingers in m."""
        return self._ramp

    def set_hand_goal(self, width: float, speed: float, force: float) -> None:
        """Open or close to a width at a speed; the force is not modelled."""
        self._goal = min(max(width, 0.0), WIDTH_MAX)
        self._hand_step = min(max(speed, 0.0), HAND_SPEED_MAX) * TICK_S

    def set_load(self, mass: float, centre: tuple[float, ...], inertia: tuple[float, ...]) -> None:
        """Report a load; it does not weigh anything."""
        self.frames |= {"m_load": mass, "F_x_Cload": centre, "I_load": inertia}

    def set_EE_T_K(self, pose: tuple[float, ...]) -> None:  # noqa: N802 - named by the server
        """Report the stiffness frame."""
        self.frames["EE_T_K"] = pose

    def set_NE_T_EE(self, pose: tuple[float, ...]) -> None:  # noqa: N802 - named by the server
        """Report the tool frame."""
        self.frames["NE_T_EE"] = pose

    def close(self) -> None:
        """Give back what outlives the process."""

    @property
    def inner_state(self) -> SimpleNamespace:
        """What the server holds when a client comes or goes: the desired pose, so that the arm does not sag."""
        return SimpleNamespace(q=tuple(self.q_d.tolist()))

    @property
    def state(self) -> FrankaRobotState:
        """What the server asks for when a motion starts or stops."""
        return FrankaRobotState(q=tuple(self.q.tolist()), q_d=tuple(self.q_d.tolist()))


class IdealPlant(Plant):
    """Is where it was told to be one tick ago."""

    def __init__(self, q: tuple[float, ...] = READY, *, has_gripper: bool = False) -> None:
        super().__init__(q, has_gripper=has_gripper)
        self.q = self._next = self.q_d

    def step(self) -> None:
        super().step()
        self.dq = (self._next - self.q) / TICK_S
        self.q, self._next = self._next, self.q_d


class ScenePlant(Plant):
    """The arm of a MuJoCo scene, driven by position and velocity servos.

    The model has joints `joint1` to `joint7`, actuators `position1..7`, `velocity1..7` and, for the hand, `gripper`
    whose control is the width in m. A time step of n ms steps every nth tick. With a name, what a camera elsewhere
    needs to draw the scene goes to shared memory after every step (see `shared.draw`). `site` is reported as the end
    effector.
    """

    def __init__(
        self, model: Any, data: Any, *, has_gripper: bool | None = None, share: str = "", site: str = ""
    ) -> None:
        import mujoco

        self._mujoco, self._model, self._data = mujoco, model, data
        self._every = round(model.opt.timestep / TICK_S)
        if self._every < 1 or abs(self._every * TICK_S - model.opt.timestep) > 1e-9:
            raise ValueError(f"the model steps by {model.opt.timestep} s; give it a whole number of ms")
        joints = [model.joint(f"joint{number}") for number in range(1, JOINTS + 1)]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._dofs = np.array([joint.dofadr[0] for joint in joints])
        self._position, self._velocity = (
            np.array([model.actuator(f"{kind}{number}").id for number in range(1, JOINTS + 1)])
            for kind in ("position", "velocity")
        )
        names = [model.actuator(number).name for number in range(model.nu)]
        self._gripper = names.index("gripper") if "gripper" in names else None
        self._site = model.site(site).id if site else None
        self._share = Writer(share, len(vector(data))) if share else None
        self._tick = 0
        has_gripper = self._gripper is not None if has_gripper is None else has_gripper
        super().__init__(data.qpos[self._qpos], has_gripper=has_gripper)
        mujoco.mj_forward(model, data)
        if self._gripper is not None:
            self._goal = self._ramp = self.hand_width
        self._measure()

    def hold(self, stiffness: np.ndarray) -> None:
        self._model.actuator_gainprm[self._position, 0] = stiffness
        self._model.actuator_biasprm[self._position, 1] = -stiffness

    def step(self) -> None:
        super().step()
        self._tick += 1
        if self._tick % self._every:
            return
        control = self._data.ctrl
        control[self._position], control[self._velocity] = self.q_d, self.dq_d
        if self._gripper is not None:
            control[self._gripper] = self._ramp
        self._mujoco.mj_step(self._model, self._data)
        self._measure()

    def _measure(self) -> None:
        """Read the joints; torques are those of the motors."""
        data = self._data
        self.q, self.dq, self.tau_J = data.qpos[self._qpos], data.qvel[self._dofs], data.qfrc_actuator[self._dofs]
        if self._site is not None:
            pose = np.eye(4)
            pose[:3, :3], pose[:3, 3] = data.site_xmat[self._site].reshape(3, 3), data.site_xpos[self._site]
            self.O_T_EE = pose.T.ravel()
        if self._share is not None:
            self._share.write(self._tick, vector(data))

    @property
    def hand_width(self) -> float:
        """What the hand's actuator measures, in m."""
        return self._ramp if self._gripper is None else float(self._data.actuator_length[self._gripper])

    def close(self) -> None:
        """Give the shared memory back."""
        if self._share is not None:
            self._share.close()
