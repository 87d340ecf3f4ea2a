"""The published way to roll a world out, written from its description: what a user would otherwise run.

One batch in float32, eager torch, three Euler steps with rounding after each, a history that is rolled, fresh tensors,
and a look at every step from the host: has any world ended?
"""

import torch
from torch import Tensor

from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.imagine.starts import Starts
from w4rl_fast.imagine.worlds import ACTION_STREAM, FRAME_STREAM
from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.reward.config import Rule
from w4rl_fast.reward.model import RewardModel
from w4rl_fast.world.model import Context, WorldModel, shifted
from w4rl_kernels.noise import normal_noise

STEPS = 3


class Baseline:
    """`worlds` of a run for `horizon` steps; what it imagines is what an Imagination does from the same starts."""

    def __init__(self, run: LoadedRun, worlds: int, horizon: int, *, sampling_steps: int = STEPS) -> None:
        starts = run.imagination(num_worlds=worlds, engine="eager").starts
        reward, rule = run.judge
        self.loop = Loop(run.world, reward, rule, run.policy, starts, worlds, sampling_steps)
        self.horizon = horizon

    def rollout(self) -> Tensor:
        return self.loop.rollout(self.horizon)


class Loop:
    """The loop itself, on parts that need not be of a run."""

    def __init__(
        self, world: WorldModel, reward: RewardModel, rule: Rule, policy: GaussianPolicy, starts: Starts, worlds: int,
        sampling_steps: int,
    ) -> None:  # fmt: skip
        self.world, self.reward, self.rule, self.policy, self.starts = world, reward, rule, policy, starts
        self.levels = world.levels_in(sampling_steps)
        self.seeds = torch.arange(worlds)

    @torch.no_grad()
    def rollout(self, horizon: int, seed: int = 0) -> Tensor:
        """Act and imagine; returns the frames (B, 3, S, S) of the first step."""
        seeds, zeros = self.seeds + seed, torch.zeros_like(self.seeds)
        history = self.policy.config.history
        context, first = self.begin(self.starts.draw(seeds, zeros)), torch.empty(0)
        for step in range(horizon):
            mean, std = self.policy(context.frames[:, -history:], context.proprio[:, -history:])
            where = (seeds, torch.full_like(seeds, step), zeros)
            taken = (mean + std * normal_noise(*where, mean.shape[1:], stream=ACTION_STREAM)).clamp(-1, 1)
            context = context._replace(actions=torch.cat([context.actions[:, :-1], taken[:, None]], 1))
            noise = normal_noise(*where, context.anchor.shape[1:], stream=FRAME_STREAM)
            frame, place = self.world(context, noise, levels=self.levels)
            seen = torch.stack([context.frames[:, -1], frame], 1) if self.reward.config.frames == 2 else frame[:, None]
            said = self.reward(seen, context.anchor).sigmoid() >= self.rule.threshold
            context = shifted(context, frame, place)._replace(actions=context.actions.roll(-1, 1))
            if said.any():
                fresh = self.begin(torch.randint(len(self.starts), (int(said.sum()),)))
                for old, new in zip(context, fresh, strict=True):
                    old[said] = new
            first = frame if step == 0 else first
        return first

    def begin(self, chosen: Tensor) -> Context:
        starts = self.starts
        pixels = starts.pixels[starts.rows[chosen]].float() / 127.5 - 1
        anchor = starts.pixels[starts.anchors[chosen]].float() / 127.5 - 1
        return Context(pixels, starts.proprio[chosen], starts.actions[chosen], anchor)
