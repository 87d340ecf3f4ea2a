"""Imagined worlds as the vector environment of stable-baselines3, whose algorithms train in them as they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.errors import MissingExtra, UserError
from w4rl_fast.imagine.env import ImaginationEnv, Mapping

try:
    from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn
except ImportError as error:
    raise MissingExtra("stable-baselines3", extra="rl") from error


class StableBaselinesEnv(VecEnv):
    """B worlds for a MultiInputPolicy: frames (B, S, S, 3) uint8, whose channels the library moves itself, and proprio
    (B, P).

    Where an episode ends the info holds what was seen last, `terminal_observation`, whether time ran out,
    `TimeLimit.truncated`, and `is_success`. All worlds are one environment: attributes and methods are those of that
    one, whichever worlds are named.
    """

    def __init__(self, env: ImaginationEnv) -> None:
        if not (env.to_numpy and env.imagination.config.autoreset):
            raise UserError(
                f"an environment with to_numpy={env.to_numpy}, autoreset={env.imagination.config.autoreset}",
                rule="stable-baselines3 takes arrays, and worlds that begin anew by themselves",
                remedy="Leave both as they are by default",
            )
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> Mapping:
        """Begin in every world, with the seeds and options of the last call of `seed` and `set_options`, if any."""
        options, seeds = self._options[0], [seed for seed in self._seeds if seed is not None]
        seen, _ = self.env.reset(seed=seeds or None, options=options)
        self._reset_seeds()
        self._reset_options()
        return seen

    def step_async(self, actions: NDArray[np.float32]) -> None:
        self.actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Take the actions (B, A) that were given last."""
        seen, rewards, terminated, truncated, info = self.env.step(self.actions)
        ended = terminated | truncated
        infos: list[Mapping] = [
            {"success_probability": float(probability), "TimeLimit.truncated": bool(late)}
            for probability, late in zip(info["success_probability"], truncated & ~terminated, strict=True)
        ]
        for world in np.flatnonzero(ended):
            infos[world] |= {
                "terminal_observation": info["final_obs"][world],
                "is_success": bool(terminated[world]),
            }
        return seen, rewards, ended, infos

    def close(self) -> None:
        self.env.close()

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        return self.env.render()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return [getattr(self.env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        found = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [found for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        return [isinstance(self.env, wrapper_class) for _ in self._get_indices(indices)]
