"""Imagined worlds as a `gymnasium.vector.VectorEnv`, so that other people's reinforcement learning runs in them."""

from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box, Dict
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from w4rl_fast.errors import UserError
from w4rl_fast.imagine.engine import Imagination
from w4rl_fast.imagine.worlds import Observation

Mapping = dict[str, Any]
SEEDS = 2**62
"""Seeds that gymnasium draws itself are larger than ours."""


class ImaginationEnv(VectorEnv[Mapping, Any, Any]):
    """B worlds. Observations are frames (B, S, S, 3) uint8 and proprio (B, P) float32, actions (B, A) in [-1, 1].

    Numpy arrays by default; with `to_numpy=False` tensors on the device of the imagination, and nothing in a step waits
    for it. Worlds that ended begin anew in the same step: as in gymnasium, `final_obs` in the info is an array of
    observations with None where nothing ended; as tensors it is dense, the observation of every world before any began
    anew. `success_probability` (B,) is the classifier's, of what the actions led to.

    World i has seed + i, or seed[i] of a list. A reset without a seed begins the next episode of every world.
    """

    metadata: Mapping = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": ["rgb_array"]}  # noqa: RUF012
    render_modes: ClassVar[tuple[str | None, ...]] = (None, "rgb_array")

    def __init__(self, imagination: Imagination, *, to_numpy: bool = True, render_mode: str | None = None) -> None:
        if render_mode not in self.render_modes:
            raise UserError(f"render_mode {render_mode!r}", rule="there is rgb_array, or None", remedy="Use rgb_array")
        self.imagination, self.to_numpy, self.render_mode = imagination, to_numpy, render_mode
        self.num_envs = imagination.num_worlds
        of = imagination.world_config
        self.single_observation_space = Dict(
            frames=Box(0, 255, (of.image_size, of.image_size, 3), np.uint8),
            proprio=Box(-np.inf, np.inf, (of.proprio_dim,), np.float32),
        )
        self.single_action_space = Box(-1.0, 1.0, (of.action_dim,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        if not imagination.config.autoreset:
            self.metadata = {**self.metadata, "autoreset_mode": AutoresetMode.DISABLED}

    def reset(self, *, seed: int | list[int] | None = None, options: Mapping | None = None) -> tuple[Mapping, Mapping]:
        """Begin in every world, or in those of options["reset_mask"] (B,) bool."""
        given = (options or {}).get("reset_mask")
        mask = None if given is None else torch.as_tensor(given)
        if mask is not None and (mask.dtype is not torch.bool or mask.shape != (self.num_envs,)):
            raise UserError(
                f"reset_mask {tuple(mask.shape)} of {mask.dtype}",
                rule=f"it is bool ({self.num_envs},)",
                remedy="Convert it",
            )
        if isinstance(seed, int):
            super().reset(seed=seed)
        if seed is not None or not self.imagination.begun:
            base = (self.np_random_seed or 0) % SEEDS if seed is None else seed
            seen = self.imagination.reset(base if isinstance(base, int) else torch.tensor(base), mask=mask)
        else:
            self.imagination.restart(torch.ones(self.num_envs, dtype=torch.bool) if mask is None else mask)
            seen = self.imagination.observe()
        return self._shown(seen), {}

    def step(self, actions: Any) -> tuple[Mapping, Any, Any, Any, Mapping]:
        """Act in every world."""
        if not isinstance(actions, Tensor):
            require_finite(actions)
        acting = torch.as_tensor(actions, dtype=torch.float32, device=self.imagination.device)
        seen, outcome, final = self.imagination.step(acting)
        reward, terminated, truncated, probability = (self._out(each) for each in outcome)
        info: Mapping = {"success_probability": probability}
        if not self.to_numpy:
            info["final_obs"] = self._shown(final)
            return self._shown(seen), reward, terminated, truncated, info
        info["_success_probability"] = np.ones(self.num_envs, np.bool_)
        ended = terminated | truncated
        if self.imagination.config.autoreset and ended.any():
            info |= {"final_obs": one_by_one(self._shown(final), ended), "_final_obs": ended}
            info |= {
                "final_info": {"success_probability": probability, "_success_probability": ended},
                "_final_info": ended,
            }
        return self._shown(seen), reward, terminated, truncated, info

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        """The newest frame of every world (S, S, 3)."""
        return tuple(np.asarray(self.imagination.observe().frames.movedim(1, -1).cpu()).copy())

    def _shown(self, seen: Observation) -> Mapping:
        frames, proprio = seen.frames.movedim(1, -1), seen.proprio
        return {"frames": self._out(frames), "proprio": self._out(proprio)}

    def _out(self, tensor: Tensor) -> Any:
        """A copy, so that a caller may keep it."""
        copied = tensor.clone(memory_format=torch.contiguous_format)
        return copied.cpu().numpy() if self.to_numpy else copied


def one_by_one(seen: Mapping, there: NDArray[np.bool_]) -> NDArray[np.object_]:
    """The observations of the worlds of a mask (B,), each as one; None for the others."""
    out = np.full(len(there), None, dtype=object)
    for world in np.flatnonzero(there):
        out[world] = {name: values[world] for name, values in seen.items()}
    return out


def require_finite(actions: Any) -> None:
    values = np.asarray(actions, np.float32)
    if not np.isfinite(values).all():
        first = np.argwhere(~np.isfinite(values))[0].tolist()
        raise UserError(
            f"action {values[tuple(first)]} at {first}", rule="actions are finite", remedy="Look at the policy"
        )
