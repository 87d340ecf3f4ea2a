"""The Franka tasks: an action moves the point at which the fingertips are to be, and the arm follows."""

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from w4rl_fast.errors import UserError
from w4rl_fast.tasks.franka.panda import GRIPPER, OPEN, POSITION, PUSH, TORQUE, VELOCITY
from w4rl_fast.tasks.franka.place import place, scene_of, scene_xml
from w4rl_fast.tasks.franka.reach import Array, Reach
from w4rl_fast.tasks.franka.scene import hand_of, opening_of
from w4rl_fast.tasks.franka.space import HIGH, LOW, rate_of, reach_of
from w4rl_fast.tasks.protocol import Frame, Observation, TaskConfig, Vector
from w4rl_fast.tasks.renderers import Renderer, make_renderer


class FrankaTask:
    """One scene before a Panda. Actions move the commanded hand (x, y, z) and close the gripper when above 0;
    proprioception is where the hand is (m), the opening of the gripper (0 to 1), and where it is commanded to be (m).
    """

    proprio_dim = 7
    landmark_dim = 0

    def __init__(self, config: TaskConfig) -> None:
        self.config = config
        self._scene = scene_of(config.name)
        self._model = mujoco.MjModel.from_xml_string(scene_xml(config.name))
        self._model.jnt_actfrcrange[:7] = PUSH * np.array(TORQUE)[:, None] * (-1.0, 1.0)
        self._data = mujoco.MjData(self._model)
        self._reach = Reach(self._model)
        self._renderers: dict[int, Renderer] = {}
        self._command: Array | None = None
        self._score = 0.0
        self._succeeded = False

    @property
    def model(self) -> Any:
        """MuJoCo's model of the scene."""
        return self._model

    @property
    def data(self) -> Any:
        """MuJoCo's state of the scene."""
        return self._data

    @property
    def rate(self) -> float:
        """Actions a second."""
        return rate_of(self.config)

    @property
    def action_low(self) -> tuple[float, ...]:
        return (-reach_of(self.rate),) * 3 + (-1.0,)

    @property
    def action_high(self) -> tuple[float, ...]:
        return (reach_of(self.rate),) * 3 + (1.0,)

    @property
    def succeeded(self) -> bool:
        return self._succeeded

    @property
    def score(self) -> float:
        return self._score

    def reset(self, seed: int) -> Observation:
        place(self.config.name, self._model, self._data, seed)
        self._command = hand_of(self._data)
        self._score = self._scene.score(self._data)
        self._succeeded = self._score >= 1.0
        return self._observe(self._command)

    def step(self, action: Vector) -> Observation:
        moved = np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0)
        command = np.clip(self._running() + moved[:3] * reach_of(self.rate), LOW, HIGH)
        self._data.ctrl[GRIPPER] = 0.0 if moved[3] > 0 else OPEN
        self._move(command)
        self._command = command
        return self._observe(command)

    def render(self, size: int) -> Frame:
        if size not in self._renderers:
            self._renderers[size] = make_renderer(self.config.renderer, self._model, self.config.camera, size)
        return self._renderers[size].render(self._data)

    def expert(self) -> Callable[[], Vector]:
        def act() -> Vector:
            wish = self._scene.wish(self._data)
            way = (np.clip(wish.hand, LOW, HIGH) - self._running()) / reach_of(self.rate)
            action = np.array([*way, 1.0 if wish.closed else -1.0], dtype=np.float32)
            return np.clip(action, -1.0, 1.0)

        return act

    def player(self, rng: np.random.Generator) -> Callable[[], Vector]:
        raise UserError(
            f"play in {self.config.name}",
            rule="nobody plays with a Franka here",
            remedy="Use --noisy and --random instead",
        )

    def close(self) -> None:
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _move(self, command: Array) -> None:
        """Turn every joint evenly, over the time of one action, to where the hand is at its command (3,), m."""
        data, repeat = self._data, self.config.action_repeat
        begin = data.ctrl[POSITION].copy()
        turn = self._reach.solve(command, begin) - begin
        data.ctrl[VELOCITY] = turn * self.rate
        for i in range(1, repeat + 1):
            data.ctrl[POSITION] = begin + turn * (i / repeat)
            mujoco.mj_step(self._model, data)
            self._score = self._scene.score(data)
            self._succeeded |= self._score >= 1.0

    def _running(self) -> Array:
        if self._command is None:
            raise UserError("step before reset", rule="an episode starts with a seed", remedy="Call reset(seed) first")
        return self._command

    def _observe(self, command: Array) -> Observation:
        data = self._data
        opening = np.clip(opening_of(data) / OPEN, 0.0, 1.0)
        proprio = np.array([*hand_of(data), opening, *command], dtype=np.float32)
        return Observation(self.render(self.config.image_size), proprio, self._score >= 1.0)
