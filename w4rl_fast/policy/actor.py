"""A policy that moves a real robot or a real simulator."""

from collections import deque
from pathlib import Path

import numpy as np
import torch

from w4rl_fast.data.actors import Actor
from w4rl_fast.errors import UserError
from w4rl_fast.policy.checkpoint import load_policy
from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.tasks.protocol import Observation, Task, TaskConfig, Vector


class PolicyActor:
    """Plays the mean action of a policy, on one thread."""

    def __init__(self, policy: GaussianPolicy) -> None:
        self.policy = policy
        self._history: deque[Observation] = deque(maxlen=policy.config.history)

    def begin(self, task: Task, rng: np.random.Generator) -> None:
        config = self.policy.config
        if (config.action_dim, config.proprio_dim) != (len(task.action_low), task.proprio_dim):
            raise UserError(
                f"task {task.config.name} with {len(task.action_low)} actions, {task.proprio_dim} of proprioception",
                rule=f"the policy has {config.action_dim} and {config.proprio_dim}",
                remedy="Use a policy that was trained on such a task",
            )
        self._history.clear()

    @torch.inference_mode()
    def act(self, observation: Observation) -> Vector:
        while len(self._history) < self.policy.config.history:
            self._history.append(observation)
        self._history.append(observation)
        pixels = np.stack([seen.frame for seen in self._history]).transpose(0, 3, 1, 2)
        frames = torch.from_numpy(pixels).float().div(127.5).sub(1.0)
        proprio = torch.from_numpy(np.stack([seen.proprio for seen in self._history]))
        mean, _ = self.policy(frames[None], proprio[None])
        return np.asarray(mean[0].clamp(-1.0, 1.0))


def policy_actor(run: Path, task: TaskConfig) -> Actor:
    """The policy of a run as an actor for a task of its own image size."""
    torch.set_num_threads(1)
    policy = load_policy(run)
    if policy.config.image_size != task.image_size:
        raise UserError(
            f"task {task.name} at {task.image_size}x{task.image_size}",
            rule=f"the policy of {run} sees {policy.config.image_size}x{policy.config.image_size}",
            remedy=f"Use --size {policy.config.image_size}",
        )
    return PolicyActor(policy)
