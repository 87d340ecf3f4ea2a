"""The Gaussian policy."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from w4rl_fast.convolutions import strided
from w4rl_fast.hub import HubModel


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyConfig:
    """A small convolutional policy over `history` observations.

    The standard deviation is learnt per action dimension within [std_low, std_high]; actions live in [-1, 1], so an
    upper bound of 1 already covers them: it is what keeps exploration inside a learnt world conservative.
    """

    image_size: int
    action_dim: int
    proprio_dim: int
    history: int = 1
    widths: tuple[int, ...] = (32, 64, 64)
    hidden: int = 256
    std_low: float = 0.05
    std_high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.std_low < self.std_high:
            raise ValueError(f"std_low={self.std_low}, std_high={self.std_high}: 0 < std_low < std_high")
        if self.history < 1 or self.image_size < 2 ** len(self.widths):
            raise ValueError(
                f"history={self.history}, image_size={self.image_size}: at least 1 and {2 ** len(self.widths)}"
            )


class GaussianPolicy(HubModel, tags=["robotics", "policy"]):
    """Frames (B, T, 3, H, W) in [-1, 1] and proprioception (B, T, P) to mean and deviation (B, A) of the action."""

    config: PolicyConfig
    config_class = PolicyConfig
    weights_file = "policy.safetensors"
    proprio_mean: Tensor
    proprio_std: Tensor

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.convolutions, seen = strided(3 * config.history, config.widths, config.image_size)
        features = seen + config.proprio_dim * config.history
        self.head = nn.Sequential(
            nn.Linear(features, config.hidden),
            nn.LayerNorm(config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.action_dim),
        )
        self.log_std = nn.Parameter(torch.full((config.action_dim,), math.log(0.3)))
        self.register_buffer("proprio_mean", torch.zeros(config.proprio_dim))
        self.register_buffer("proprio_std", torch.ones(config.proprio_dim))

    def forward(self, frames: Tensor, proprio: Tensor) -> tuple[Tensor, Tensor]:
        pixels = self.convolutions(frames.flatten(1, 2)).flatten(1)
        body = ((proprio - self.proprio_mean) / self.proprio_std).flatten(1)
        mean = self.head(torch.cat([pixels, body], dim=1))
        std = self.log_std.clamp(math.log(self.config.std_low), math.log(self.config.std_high)).exp()
        return mean, std.expand_as(mean)
