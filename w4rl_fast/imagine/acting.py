"""Policy, world and classifier as one unit: what is done, what happens then, and whether that shows success.

Shapes: B worlds, H frames that the policy sees, T frames of history, A action and P proprioception dimensions, S x S
pixels.
"""

import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from w4rl_fast.errors import UserError
from w4rl_fast.imagine.engine import Imagination
from w4rl_fast.imagine.step import WorldStep
from w4rl_fast.imagine.worlds import ACTION_STREAM, Outcome
from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_kernels.noise import normal_noise


class ActingStep(nn.Module):
    """A world step in which the policy itself, not a copy of it, draws the action."""

    def __init__(self, policy: GaussianPolicy, step: WorldStep) -> None:
        super().__init__()
        self.policy, self.step = policy, step

    def forward(
        self,
        frames: Tensor,
        proprio: Tensor,
        actions: Tensor,
        anchor: Tensor,
        scene: Tensor,
        noise: Tensor,
        chance: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What a world step returns, then the actions (B, A) as drawn and their log-probabilities (B,).

        It is given the same too, but that the last of `actions` is still to be taken; chance (B, A) is standard normal.
        """
        seen = self.policy.config.history
        mean, std = self.policy(frames[:, -seen:], proprio[:, -seen:])
        drawn, log_probs = draw(mean, std, chance)
        taken = torch.cat([actions[:, :-1], drawn.clamp(-1, 1)[:, None]], 1)
        return *self.step(frames, proprio, taken, anchor, scene, noise), drawn, log_probs


Unit = Callable[..., tuple[Tensor, ...]]
"""Runs an acting step: that module, compiled, or an engine of it."""


class Acting:
    """A unit of a policy and a world step, and the imagination that it leads on."""

    def __init__(self, policy: GaussianPolicy, imagination: Imagination, unit: Unit) -> None:
        self.policy, self.imagination, self.unit = policy, imagination, unit

    @classmethod
    def compiled(cls, policy: GaussianPolicy, imagination: Imagination) -> Self:
        """An acting step compiled whole; the policy may learn between two calls."""
        if imagination.engine not in ("eager", "compiled"):
            raise UserError(
                f"a compiled policy beside the engine {imagination.engine}",
                rule="policy and world step are one unit only where torch.compile sees both",
                remedy="Imagine with engine='eager', or leave compiled=True away",
            )
        unit = torch.compile(ActingStep(policy, imagination.module), fullgraph=True, dynamic=False)
        return cls(policy, imagination, unit)

    @torch.no_grad()
    def advance(self, actions: Tensor, log_probs: Tensor) -> Outcome:
        """Draw actions (B, A) and their log-probabilities (B,) into these tensors, and lead every world on by them."""
        worlds = self.imagination
        where = (worlds.seeds, worlds.clock, worlds.episodes)
        chance = normal_noise(*where, actions.shape[1:], stream=ACTION_STREAM)

        def run(part: slice) -> tuple[Tensor, Tensor]:
            inputs = worlds.past.gather(part)
            frames, proprio, logit, drawn, said = self.unit(*inputs, worlds.noise_of(part), chance[part])
            worlds.past.act(drawn.clamp(-1, 1), part)
            real = len(actions[part])  # the last slice is filled with worlds that nobody asked for
            actions[part].copy_(drawn[:real])
            log_probs[part].copy_(said[:real])
            worlds.land(part, frames)
            return proprio, logit

        return worlds.lead_on(run)


def draw(mean: Tensor, std: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
    """Actions (B, A) from standard normal numbers, and their log-probabilities (B,)."""
    log_probs = -(0.5 * chance.square() + std.log() + 0.5 * math.log(2 * math.pi)).sum(-1)
    return mean + std * chance, log_probs
