"""The Gaussian policy."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from w4rl_fast.policy.sighted import Sighted, require_latent


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyConfig:
    """A small convolutional policy over `history` observations.

    The standard deviation is learnt per action dimension within [std_low, std_high]; actions live in [-1, 1], so an
    upper bound of 1 already covers them: it is what keeps exploration inside a learnt world conservative.

    With `points` it looks for where so many features are, rather than at all pixels alike. With `latent` it acts on so
    many numbers that frozen eyes, those of a surrogate, see and feel; `hidden` is then the width of these eyes, and
    `latent_hidden` that of the two layers that act.
    """

    image_size: int
    action_dim: int
    proprio_dim: int
    history: int = 1
    widths: tuple[int, ...] = (32, 64, 64)
    points: int = 0
    hidden: int = 256
    std_low: float = 0.05
    std_high: float = 1.0
    latent: int | None = None
    latent_hidden: int = 256

    def __post_init__(self) -> None:
        require_latent(self)
        if not 0 < self.std_low < self.std_high:
            raise ValueError(f"std_low={self.std_low}, std_high={self.std_high}: 0 < std_low < std_high")
        if self.history < 1 or self.image_size < 2 ** len(self.widths):
            raise ValueError(
                f"history={self.history}, image_size={self.image_size}: at least 1 and {2 ** len(self.widths)}"
            )


class GaussianPolicy(Sighted, tags=["robotics", "policy"]):
    """Frames (B, T, 3, H, W) in [-1, 1] and proprioception (B, T, P) to mean and deviation (B, A) of the action."""

    config: PolicyConfig
    config_class = PolicyConfig
    weights_file = "policy.safetensors"

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__(config, config.action_dim)
        self.config = config
        self.log_std = nn.Parameter(torch.full((config.action_dim,), math.log(0.3)))

    def forward(self, frames: Tensor, proprio: Tensor) -> tuple[Tensor, Tensor]:
        return self.decide(self.observe(frames, proprio))

    def decide(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation (B, A) from what `observe` makes of an observation."""
        mean = self.decision(seen)
        std = self.log_std.clamp(math.log(self.config.std_low), math.log(self.config.std_high)).exp()
        return mean, std.expand_as(mean)


def log_probability(mean: Tensor, std: Tensor, actions: Tensor) -> Tensor:
    """Of actions (B, A) under diagonal Gaussians of mean and deviation (B, A): (B,)."""
    return -(0.5 * ((actions - mean) / std).square() + std.log() + 0.5 * math.log(2 * math.pi)).sum(-1)
