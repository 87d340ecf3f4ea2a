"""Consistency distillation: what the student sees behind a noisy picture stays the same as the teacher takes noise off.

Shapes: B pictures; noisy pictures and clean targets (B, 3, S, S), noise levels (B,).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from w4rl_fast.data.windows import Batch
from w4rl_fast.distill.config import ConsistencyConfig, DistillConfig
from w4rl_fast.distill.shown import shown
from w4rl_fast.world.denoiser import spread
from w4rl_fast.world.losses import Disturbance
from w4rl_fast.world.model import WorldModel
from w4rl_fast.world.sampler import karras_sigmas

Denoise = Callable[[Tensor, Tensor], Tensor]
Lead = Callable[[Tensor, Tensor, Tensor], Tensor]
"""lead(x, sigma, after): the picture on the same path at another level."""


def consistency_loss(
    student: WorldModel,
    teacher: WorldModel,
    batch: Batch,
    config: DistillConfig,
    disturbance: Disturbance,
    generator: torch.Generator,
) -> Tensor:
    """Squared error between the targets that the student sees at two neighbouring levels of the teacher's path."""
    context, place = shown(student, batch, disturbance, generator)
    target = student.to_target(batch.frames[:, student.config.history], context)
    sigma, after = draw_levels(student, config.consistency, len(target), generator)
    noisy = target + spread(sigma) * torch.randn(target.shape, generator=generator)

    def seen_by(model: WorldModel) -> Denoise:
        return lambda x, level: model.denoise(x, level, context, place).float()

    error = inconsistency(seen_by(student), leading(seen_by(teacher)), noisy, sigma, after)
    return error.mean() / student.config.noise.sigma_data**2


def inconsistency(student: Denoise, lead: Lead, x: Tensor, sigma: Tensor, after: Tensor) -> Tensor:
    """Squared difference between what the student sees at `sigma` and, held fast, at `after`; where no noise is left,
    what is seen is what is there.
    """
    with torch.no_grad():
        led = lead(x, sigma, after)
        seen = student(led, torch.where(after > 0, after, sigma))
        wanted = torch.where(spread(after) > 0, seen, led)
    return (student(x, sigma) - wanted).square()


def leading(denoise: Denoise) -> Lead:
    """One Euler step along what a denoiser sees."""

    def lead(x: Tensor, sigma: Tensor, after: Tensor) -> Tensor:
        target = denoise(x, sigma)
        return target + (x - target) * spread(after / sigma)

    return lead


def draw_levels(
    student: WorldModel, config: ConsistencyConfig, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Levels (B,) and those that follow them."""
    levels = path_of(student, config.levels)
    own = torch.tensor([levels.index(sigma) for sigma in student.sigmas[:-1]])
    any_level = torch.randint(len(levels) - 1, (count,), generator=generator)
    its_own = own[torch.randint(len(own), (count,), generator=generator)]
    at = torch.where(torch.rand(count, generator=generator) < config.focus, its_own, any_level)
    table = torch.tensor(levels)
    return table[at], table[at + 1]


def path_of(student: WorldModel, levels: int) -> Sequence[float]:
    """Falling noise levels, the student's own among them, and 0."""
    sampling, own = student.config.sampling, student.sigmas
    even = karras_sigmas(levels, sigma_min=sampling.sigma_min, sigma_max=sampling.sigma_max)
    between = [sigma for sigma in even if not any(math.isclose(sigma, mine, rel_tol=1e-6) for mine in own)]
    return sorted([*between, *own], reverse=True)
