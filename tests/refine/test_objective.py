"""The terms of the objective, against torch's own distributions and by hand."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from w4rl_fast.policy.gaussian import log_probability
from w4rl_fast.refine.objective import (
    clipped_objective,
    divergence,
    entropy,
    sampled_divergence,
    scaled,
)


def gaussian(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(7, 3, generator=generator), 0.1 + torch.rand(7, 3, generator=generator)


def test_they_equal_those_of_torch() -> None:
    (mean, std), (other, other_std), (actions, _) = gaussian(0), gaussian(1), gaussian(2)
    one, two = (Independent(Normal(*each), 1) for each in ((mean, std), (other, other_std)))
    torch.testing.assert_close(log_probability(mean, std, actions), one.log_prob(actions))
    torch.testing.assert_close(entropy(std), one.entropy())
    torch.testing.assert_close(divergence(mean, std, other, other_std), kl_divergence(one, two))


def test_the_divergence_of_a_policy_from_itself_is_zero() -> None:
    assert divergence(*gaussian(0), *gaussian(0)).abs().max() < 1e-6
    assert sampled_divergence(torch.zeros(5)) == 0


def test_the_sampled_divergence_estimates_the_divergence() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, std, moved = torch.zeros(1, 2), torch.full((1, 2), 0.3), torch.full((1, 2), 0.05)
    draws = mean + std * torch.randn(200_000, 2, generator=generator)
    log_ratio = log_probability(moved, std, draws) - log_probability(mean, std, draws)
    expected = divergence(mean, std, moved, std).item()
    assert sampled_divergence(log_ratio).item() == pytest.approx(expected, rel=0.03)
    assert sampled_divergence(torch.tensor([-1.0])) > 0
    assert sampled_divergence(torch.tensor([1.0])) > 0


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "slope"),
    [
        (1.0, 2.0, 2.0, 2.0),
        (1.1, 2.0, 2.2, 2.0),
        (1.5, 2.0, 2.4, 0.0),  # a good action is likely enough
        (0.5, 2.0, 1.0, 2.0),  # a good action became unlikely: back
        (0.5, -2.0, -1.6, 0.0),  # a bad action is unlikely enough
        (1.5, -2.0, -3.0, -2.0),  # a bad action became likely: back
        (0.9, -2.0, -1.8, -2.0),
    ],
)
def test_outside_the_clip_there_is_no_gradient_on_the_good_side_only(ratio, advantage, value, slope) -> None:
    at = torch.tensor(ratio, requires_grad=True)
    objective = clipped_objective(at, torch.tensor(advantage), 0.2)
    assert objective.item() == pytest.approx(value)
    assert torch.autograd.grad(objective, at)[0].item() == pytest.approx(slope)


def test_advantages_are_centred_and_of_deviation_one() -> None:
    advantages = scaled(5 + 3 * torch.randn(1000, generator=torch.Generator().manual_seed(0)), 0.1)
    assert advantages.mean().item() == pytest.approx(0, abs=1e-5)
    assert advantages.std(correction=0).item() == pytest.approx(1, rel=1e-4)


def test_small_advantages_stay_small() -> None:
    noise = 1e-3 * torch.randn(1000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(scaled(noise, 0.1), (noise - noise.mean()) / 0.1)
    assert scaled(torch.full((10,), 0.3), 0.1).abs().max() < 1e-6


def test_the_entropy_of_a_unit_gaussian() -> None:
    assert entropy(torch.ones(1)).item() == pytest.approx(0.5 * math.log(2 * math.pi * math.e))
