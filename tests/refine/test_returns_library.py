"""Advantages against those of stable-baselines3, which was written by others."""

import numpy as np
import pytest
import torch

from w4rl_fast.refine.returns import gae

pytest.importorskip("stable_baselines3")

from gymnasium.spaces import Box
from stable_baselines3.common.buffers import RolloutBuffer

STEPS, WORLDS = 40, 7
ZERO = Box(0.0, 1.0, (1,), np.float32)


def made_up(seed: int, terminations: float, truncations: float) -> dict[str, torch.Tensor]:
    """A rollout whose episodes end at these rates, in either way; values that may not be read are not numbers."""
    generator = torch.Generator().manual_seed(seed)
    rewards, values, finals = torch.randn(3, STEPS, WORLDS, generator=generator)
    ends = torch.rand(STEPS, WORLDS, generator=generator)
    truncated = (ends >= terminations) & (ends < terminations + truncations)
    return {
        "rewards": rewards,
        "values": values,
        "final_values": torch.where(truncated, finals, torch.nan),
        "last_values": torch.randn(WORLDS, generator=generator),
        "terminated": ends < terminations,
        "truncated": truncated,
    }


def theirs(given: dict[str, torch.Tensor], gamma: float, lam: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Their advantages and returns. What was seen when time ran out is paid with the last reward, as their algorithms
    do; the episode then ends for them.
    """
    late = given["truncated"]
    rewards = given["rewards"] + gamma * torch.where(late, given["final_values"], 0.0)
    done = given["terminated"] | late
    buffer = RolloutBuffer(STEPS, ZERO, ZERO, "cpu", gae_lambda=lam, gamma=gamma, n_envs=WORLDS)
    begins, nothing = torch.ones(WORLDS, dtype=torch.bool), np.zeros((WORLDS, 1), np.float32)
    for t in range(STEPS):
        buffer.add(nothing, nothing, rewards[t].numpy(), begins.numpy(), given["values"][t], torch.zeros(WORLDS))
        begins = done[t]
    buffer.compute_returns_and_advantage(given["last_values"], begins.numpy())
    return torch.from_numpy(buffer.advantages), torch.from_numpy(buffer.returns)


@pytest.mark.parametrize(("gamma", "lam"), [(0.97, 0.95), (1.0, 1.0), (0.9, 0.0), (0.99, 0.5)])
@pytest.mark.parametrize(("terminations", "truncations"), [(0, 0), (0.15, 0), (0, 0.15), (0.1, 0.1), (0.5, 0.5)])
def test_advantages_and_returns_are_theirs(gamma, lam, terminations, truncations) -> None:
    for seed in range(3):
        given = made_up(seed, terminations, truncations)
        advantages, returns = theirs(given, gamma, lam)
        ours = gae(**given, gamma=gamma, lam=lam)
        torch.testing.assert_close(ours, advantages, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(ours + given["values"], returns, atol=1e-4, rtol=1e-5)


def test_the_comparison_tells_the_two_ends_apart() -> None:
    given = made_up(0, 0.1, 0.1)
    swapped = {**given, "terminated": given["truncated"], "truncated": given["terminated"]}
    swapped["final_values"] = torch.nan_to_num(given["final_values"])
    advantages, _ = theirs(given, 0.97, 0.95)
    assert (gae(**swapped, gamma=0.97, lam=0.95) - advantages).abs().max() > 0.1
