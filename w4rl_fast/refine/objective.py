"""The terms of the objective, each a pure function; Gaussians are diagonal, as mean and deviation (B, A)."""

import math

import torch
from torch import Tensor


def entropy(std: Tensor) -> Tensor:
    """(B,), in nats."""
    return (std.log() + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


def divergence(mean: Tensor, std: Tensor, other_mean: Tensor, other_std: Tensor) -> Tensor:
    """Kullback-Leibler divergence (B,) of the first Gaussian from the other, in nats."""
    ratio, shift = std / other_std, (mean - other_mean) / other_std
    return (0.5 * (ratio.square() + shift.square() - 1) - ratio.log()).sum(-1)


def clipped_objective(ratio: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """What PPO maximises, (B,): no reward for moving the ratio further than `clip` from 1 in the good direction."""
    return torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


def sampled_divergence(log_ratio: Tensor) -> Tensor:
    """Mean divergence of the policy that drew from the policy that is, by the draws alone; never negative."""
    return (log_ratio.expm1() - log_ratio).mean()


def scaled(advantages: Tensor, floor: float) -> Tensor:
    """Centred, and divided by their deviation or by the floor.

    Where success is certain, advantages are nothing but noise, which must not be blown up to the size of a lesson.
    """
    centred = advantages - advantages.mean()
    return centred / centred.square().mean().sqrt().clamp_min(floor)
