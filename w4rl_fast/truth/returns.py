"""What a policy earns in the real simulator, on seeds it never saw: for rewards that success alone does not tell."""

from typing import NamedTuple

import torch
from torch import Tensor

from w4rl_fast.data.record import JUDGING_SEED, TUNING_SEED
from w4rl_fast.errors import UserError
from w4rl_fast.imagine.rollout import Sight
from w4rl_fast.imagine.simulated import Simulated
from w4rl_fast.imagine.worlds import ImaginationConfig
from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.tasks import TaskConfig
from w4rl_fast.tasks.reward import closeness_of

AT_ONCE = 128


class Earned(NamedTuple):
    """Of each episode (E,): the sum of the dense reward, the task's score at its end, and whether it succeeded."""

    returns: Tensor
    scores: Tensor
    succeeded: Tensor


class Returns:
    """The task's simulators on `episodes` fixed seeds, kept between policies."""

    def __init__(self, task: TaskConfig, *, episodes: int, first_seed: int = JUDGING_SEED, history: int = 4) -> None:
        if first_seed < TUNING_SEED:
            raise UserError(
                f"seed {first_seed}",
                rule=f"policies are judged on seeds from {JUDGING_SEED} on, and tuned on those from {TUNING_SEED} on",
                remedy="Use one of these",
            )
        self.task, self.near, self.worlds = task, closeness_of(task), []
        for first in range(0, episodes, AT_ONCE):
            config = ImaginationConfig(
                num_worlds=min(AT_ONCE, episodes - first), horizon=task.horizon, autoreset=False, ends=False
            )
            self.worlds.append(Simulated(task, config, history=history, first_seed=first_seed + first))

    @torch.no_grad()
    def __call__(self, policy: GaussianPolicy) -> Earned:
        """What the policy earns when it acts by its mean."""
        parts = [self._play(policy, worlds) for worlds in self.worlds]
        return Earned(*(torch.cat(each) for each in zip(*parts, strict=True)))

    def _play(self, policy: GaussianPolicy, worlds: Simulated) -> Earned:
        worlds.reset(0)
        sight, returns = Sight(worlds, policy.config.history), torch.zeros(worlds.num_worlds)
        for _ in range(self.task.horizon):
            mean, _ = policy(*sight.look(worlds))
            worlds.advance(mean)
            returns += worlds.scores if self.near is None else self.near(worlds.landmarks, worlds.proprio)
        return Earned(returns, worlds.scores, worlds.succeeded)
