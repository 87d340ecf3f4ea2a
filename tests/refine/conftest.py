"""Worlds that can be written down: actions move a point along a line, and a light says which end is wanted."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from w4rl_fast.fit import generator_at
from w4rl_fast.policy import GaussianPolicy, PolicyConfig
from w4rl_fast.policy.gaussian import log_probability
from w4rl_fast.refine import PPOConfig
from w4rl_fast.refine.samples import pictures

SIZE, REACH, TARGET, HORIZON = 8, 0.4, 0.5, 8


class Steps(NamedTuple):
    frames: Tensor
    proprio: Tensor
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    final_values: Tensor
    last_values: Tensor
    latents: Tensor


class Line:
    """Reward 1 and the end once the point is TARGET away from the middle, on the side whose half of the frame is lit.

    Whoever reads the frame gets there in two steps; who does not is right half the time.
    """

    def __init__(self, worlds: int) -> None:
        self.worlds, self.calls = worlds, 0

    def begin(self, generator: torch.Generator) -> None:
        self.side = torch.randint(0, 2, (self.worlds,), generator=generator) * 2 - 1
        self.place = 0.1 * torch.randn(self.worlds, generator=generator)
        self.age = torch.zeros(self.worlds, dtype=torch.long)

    def observe(self) -> tuple[Tensor, Tensor]:
        frames = torch.zeros(self.worlds, SIZE, SIZE, 3, dtype=torch.uint8)
        frames[self.side > 0, :, SIZE // 2 :] = 255
        frames[self.side < 0, :, : SIZE // 2] = 255
        return frames, self.place[:, None].clone()

    @torch.no_grad()
    def rollout(self, policy, value, steps: int, seed: int) -> Steps:
        self.calls += 1
        generator = generator_at(7, seed)
        self.begin(generator)
        history, rows = [self.observe()] * policy.config.history, []
        for _ in range(steps):
            frames, proprio = (torch.stack(each, 1) for each in zip(*history, strict=True))
            mean, std = policy(pictures(frames), proprio)
            actions = mean + std * torch.randn(mean.shape, generator=generator)
            values = value(pictures(frames), proprio)
            self.place = self.place + REACH * actions[:, 0].clamp(-1, 1)
            self.age += 1
            terminated = self.place * self.side >= TARGET
            truncated = (self.age >= HORIZON) & ~terminated
            final = [*history[1:], self.observe()]
            stacked, felt = (torch.stack(each, 1) for each in zip(*final, strict=True))
            final_values = value(pictures(stacked), felt)
            log_probs = log_probability(mean, std, actions)
            rows.append((frames, proprio, actions, log_probs, values, terminated.float(), terminated, truncated))
            rows[-1] += (torch.where(truncated, final_values, torch.nan),)
            history = self.reset(terminated | truncated, final, generator)
        stacked, felt = (torch.stack(each, 1) for each in zip(*history, strict=True))
        seen_by_nobody_else = torch.zeros(steps, self.worlds, 0)
        return Steps(*map(torch.stack, zip(*rows, strict=True)), value(pictures(stacked), felt), seen_by_nobody_else)

    def reset(self, done: Tensor, history: list, generator: torch.Generator) -> list:
        old = self.side, self.place, self.age
        self.begin(generator)
        fresh = self.side, self.place, self.age
        self.side, self.place, self.age = (torch.where(done, *each) for each in zip(fresh, old, strict=True))
        new, felt = self.observe()
        return [
            (torch.where(done[:, None, None, None], new, frames), torch.where(done[:, None], felt, proprio))
            for frames, proprio in history
        ]

    def success(self, policy) -> float:
        """Of the mean actions, on seeds that no refinement uses."""
        self.begin(generator_at(1, 10**9))
        history = [self.observe()] * policy.config.history
        won = torch.zeros(self.worlds, dtype=torch.bool)
        for _ in range(HORIZON):
            frames, proprio = (torch.stack(each, 1) for each in zip(*history, strict=True))
            with torch.no_grad():
                self.place = self.place + REACH * policy(pictures(frames), proprio)[0][:, 0].clamp(-1, 1)
            won |= self.place * self.side >= TARGET
            history = [*history[1:], self.observe()]
        return won.float().mean().item()


CONFIG = PPOConfig(
    worlds=32,
    steps=10,
    iterations=6,
    epochs=2,
    minibatches=2,
    learning_rate=3e-3,
    value_warm_up=1,
    precision="float32",
    score_every=2,
)


@pytest.fixture(scope="session", name="config")
def fixture_config() -> PPOConfig:
    """A short refinement in which the policy moves from the second iteration on."""
    return CONFIG


@pytest.fixture
def line():
    return Line(CONFIG.worlds)


@pytest.fixture(scope="session")
def make_line():
    return Line


@pytest.fixture(scope="session")
def make_policy():
    def make(history=1, seed=0, **settings):
        torch.manual_seed(seed)
        sizes = {"image_size": SIZE, "action_dim": 1, "proprio_dim": 1, "history": history}
        return GaussianPolicy(PolicyConfig(**sizes, widths=(8,), hidden=16, **settings)).eval()

    return make


@pytest.fixture
def clone(make_policy):
    return make_policy()
