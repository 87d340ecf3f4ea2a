"""EDM around a backbone: preconditioning, training noise and loss (Karras et al. 2022, as the ancestor uses it)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from w4rl_fast.world.config import NoiseConfig


class Scales(NamedTuple):
    """D(x) = skip * x + out * F(into * x, noise)."""

    skip: Tensor
    out: Tensor
    into: Tensor
    noise: Tensor


def scales(sigma: Tensor, config: NoiseConfig) -> Scales:
    """Preconditioning at noise level sigma (B,), each (B,); offset noise counts as noise."""
    total = (sigma**2 + config.offset**2).sqrt()
    data = config.sigma_data
    variance = total**2 + data**2
    if not config.skip:
        return Scales(torch.zeros_like(total), torch.full_like(total, data), variance.rsqrt(), total.log() / 4)
    return Scales(data**2 / variance, total * data / variance.sqrt(), variance.rsqrt(), total.log() / 4)


class Level(NamedTuple):
    """A noise level, and what `scales` makes of it: numbers that float32 holds."""

    sigma: float
    skip: float
    out: float
    into: float
    noise: float


def level_of(sigma: float, config: NoiseConfig) -> Level:
    made = scales(torch.full((1,), sigma, device="cpu"), config)  # even where a model is built without memory
    return Level(sigma, *(float(each) for each in made))


def draw_sigma(uniform: Tensor, config: NoiseConfig) -> Tensor:
    """Training noise levels from uniform numbers (B,) in (0, 1): log-normal, clipped."""
    normal = math.sqrt(2) * torch.erfinv(2 * uniform.clamp(1e-6, 1 - 1e-6) - 1)
    return (config.mean_log + config.std_log * normal).exp().clamp(config.sigma_min, config.sigma_max)


def spread(values: Tensor) -> Tensor:
    return values[:, None, None, None]


class NoiseEmbedding(nn.Module):
    """Fourier features of the noise level (B,) to (B, dim)."""

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("frequencies", torch.randn(dim // 2, generator=generator))

    def forward(self, noise: Tensor) -> Tensor:
        angles = 2 * math.pi * noise[:, None] * self.frequencies
        return torch.cat([angles.cos(), angles.sin()], dim=1)
