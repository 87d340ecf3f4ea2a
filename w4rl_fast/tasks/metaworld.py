"""Meta-World's fifty tasks: the Sawyer arm above a table, seen by one camera."""

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.errors import MissingExtra, UserError
from w4rl_fast.tasks.protocol import Frame, Observation, TaskConfig, Vector
from w4rl_fast.tasks.renderers import Marker, Renderer, make_renderer

GOAL_COLOUR = (1.0, 0.1, 0.75)
GOAL_RADIUS = 0.018
SIMULATOR_STEPS = 500
# What Meta-World writes into the model when it places an object; put back so that no episode sees the one before.
MOVED_AT_RESET = ("body_pos", "body_quat", "geom_pos", "geom_quat", "site_pos")


class MetaWorldTask:
    """One Meta-World environment. Actions move the hand (x, y, z) and close the gripper; proprioception is where
    the hand is (m), the opening of the gripper (0 to 1), and where the hand is commanded to be (m): each action moves
    the command, which runs ahead of a hand that is blocked, and nothing else would say how far.
    """

    action_low = (-1.0, -1.0, -1.0, -1.0)
    action_high = (1.0, 1.0, 1.0, 1.0)
    proprio_dim = 7
    landmark_dim = 0

    def __init__(self, config: TaskConfig, expert_gain: float = 1.0) -> None:
        steps = config.horizon * config.action_repeat
        if steps > SIMULATOR_STEPS:
            raise UserError(
                f"horizon {config.horizon} x action repeat {config.action_repeat} = {steps} simulator steps",
                rule=f"a Meta-World episode has at most {SIMULATOR_STEPS}",
                remedy="Lower one of the two",
            )
        self.config = config
        self._expert_gain = expert_gain
        self._short = config.name.removeprefix("metaworld/")
        self._env = make_environment(self._short)
        self._shows_goal = marks_goal(self._env)
        self._layout = {name: getattr(self._env.model, name).copy() for name in MOVED_AT_RESET}
        self._renderers: dict[int, Renderer] = {}
        self._row: NDArray[np.float64] | None = None
        self._succeeded = False

    @property
    def succeeded(self) -> bool:
        return self._succeeded

    @property
    def score(self) -> float:
        return float(self._succeeded)

    def reset(self, seed: int) -> Observation:
        for name, values in self._layout.items():
            getattr(self._env.model, name)[:] = values
        self._env.seed(seed)
        self._row, _ = self._env.reset()
        self._succeeded = False
        return self._observe(success=False)

    def step(self, action: Vector) -> Observation:
        if self._row is None:
            raise UserError("step before reset", rule="an episode starts with a seed", remedy="Call reset(seed) first")
        command = np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0)
        success = False
        for _ in range(self.config.action_repeat):
            self._row, _, _, _, info = self._env.step(command)
            success = bool(info["success"])
            self._succeeded |= success
        return self._observe(success=success)

    def render(self, size: int) -> Frame:
        if size not in self._renderers:
            self._renderers[size] = make_renderer(self.config.renderer, self._env.model, self.config.camera, size)
        return self._renderers[size].render(self._env.data, self._markers())

    def expert(self) -> Callable[[], Vector]:
        from metaworld.policies import ENV_POLICY_MAP

        warnings.filterwarnings("ignore", module=r"metaworld\.policies")  # they say that actions are clipped
        scripts: dict[str, Any] = ENV_POLICY_MAP
        policy = scripts[self._short]()

        def act() -> Vector:
            action = np.asarray(policy.get_action(self._row), dtype=np.float32)
            action[:3] *= self._expert_gain  # tuned for one step an action: held for several it would overshoot
            return np.clip(action, -1.0, 1.0)

        return act

    def player(self, rng: np.random.Generator) -> Callable[[], Vector]:
        raise UserError(
            f"play in {self.config.name}", rule="nobody plays in Meta-World", remedy="Use --noisy and --random instead"
        )

    def close(self) -> None:
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()
        self._env.close()

    def _observe(self, *, success: bool) -> Observation:
        assert self._row is not None
        proprio = np.concatenate([self._row[:4], self._env.data.mocap_pos[0]]).astype(np.float32)
        return Observation(self.render(self.config.image_size), proprio, success)

    def _markers(self) -> list[Marker]:
        if not self._shows_goal:
            return []
        return [Marker(np.array(self._env._target_pos, dtype=np.float64), GOAL_RADIUS, GOAL_COLOUR)]


def make_environment(short: str) -> Any:
    """A Meta-World environment whose resets obey its seed and whose expert sees the goal."""
    try:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    except ModuleNotFoundError as error:
        raise MissingExtra("metaworld", extra="sim") from error
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"MUJOCO_GL={os.environ.get('MUJOCO_GL', '')}",
            rule=f"mujoco loads this OpenGL stack when it is imported, and cannot: {error}",
            remedy="Unset MUJOCO_GL and use the ray renderer, or install EGL or OSMesa",
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = ALL_V3_ENVIRONMENTS[short]()
    env._freeze_rand_vec, env._set_task_called, env.seeded_rand_vec = False, True, True
    env._partially_observable = False
    env.__dict__.pop("sawyer_observation_space", None)  # made with the goal hidden: it would clip the goal to zero
    return env


def marks_goal(env: Any) -> bool:
    """Whether the task shows its goal as a site, so that nothing else in the scene says where it is."""
    names = (env.model.site(i) for i in range(env.model.nsite))
    return any("goal" in site.name and site.rgba[3] > 0 and site.size[0] >= 0.01 for site in names)
