"""The surrogate: eyes, recurrent latent dynamics, and what a latent can be read out to.

Shapes: B worlds, H observations of history, D latent, C cell, A action, P proprioception and K landmark dimensions.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from w4rl_fast.hub import HubModel
from w4rl_fast.policy.gaussian import GaussianPolicy, PolicyConfig
from w4rl_fast.policy.observer import Observer
from w4rl_fast.surrogate.config import SurrogateConfig
from w4rl_kernels.two_hot import embed


class Predicted(NamedTuple):
    """The next latent: mean and log-variance (B, D), and the cell (B, C) behind them."""

    mean: Tensor
    log_variance: Tensor
    cell: Tensor


class Surrogate(HubModel, tags=["robotics", "world-model"]):
    """Eyes that are frozen once they are trained, and dynamics that go on learning."""

    config: SurrogateConfig
    config_class = SurrogateConfig
    weights_file = "surrogate.safetensors"

    def __init__(self, config: SurrogateConfig) -> None:
        super().__init__()
        self.config = config
        self.eyes = Observer(config, config.size, felt=True)
        self.reads = Readouts(config)
        self.dynamics = Dynamics(config)

    def encode(self, frames: Tensor, proprio: Tensor) -> Tensor:
        """Frames (B, H, 3, S, S) in [-1, 1] and proprio (B, H, P) to the latent (B, D); never with a gradient."""
        with torch.no_grad():
            return self.eyes.observe(frames, proprio)

    def step(self, latent: Tensor, action: Tensor, cell: Tensor) -> Predicted:
        """What follows a latent (B, D) and an action (B, A), given the cell (B, C) of all that was before."""
        return self.dynamics(latent, action, cell)

    def first_cell(self, count: int) -> Tensor:
        """The cell (count, C) at the beginning of an episode."""
        return torch.zeros(count, self.config.cell, device=self.eyes.proprio_mean.device)

    def reward(self, latent: Tensor) -> Tensor:
        """The dense reward (B,) of being at a latent (B, D)."""
        return self.reads.reward(latent)[..., 0]

    def policy(self, *, hidden: int = 256, std: float = 0.3) -> GaussianPolicy:
        """A policy that sees with these eyes and has learnt nothing yet."""
        of = self.config
        made = GaussianPolicy(
            PolicyConfig(
                image_size=of.image_size, action_dim=of.action_dim, proprio_dim=of.proprio_dim, history=of.history,
                widths=of.widths, points=of.points, hidden=of.hidden, latent=of.size, latent_hidden=hidden,
            )
        )  # fmt: skip
        made.load_state_dict(made.state_dict() | self.eyes.state_dict())
        with torch.no_grad():
            made.log_std.fill_(std).log_()
        return made.to(self.eyes.proprio_mean.device)


class Readouts(nn.Module):
    """What a latent says of the scene and of the reward."""

    def __init__(self, config: SurrogateConfig) -> None:
        super().__init__()
        d, k = config.size, config.landmark_dim
        self.scene: nn.Module = First(k) if k else layers(d, 128, 3 * config.coarse**2)
        self.reward = layers(d, 128, 1)


class First(nn.Module):
    """The first `count` numbers of a latent, on the scale that they have in the world."""

    mean: Tensor
    std: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("std", torch.ones(count))

    def forward(self, latent: Tensor) -> Tensor:
        return latent[..., : len(self.mean)] * self.std + self.mean


class Dynamics(nn.Module):
    """A gated cell, and a Gaussian for the next latent: the present one plus a change in units of usual changes."""

    step_std: Tensor

    def __init__(self, config: SurrogateConfig) -> None:
        super().__init__()
        self.config = config
        acted = config.action_dim
        if config.actions == "two-hot":
            acted = 4 * config.action_dim
            self.table = nn.Parameter(0.1 * torch.randn(config.action_dim, config.bins, acted))
        self.cell = nn.GRUCell(config.size + acted, config.cell)
        self.body = layers(config.cell + config.size + acted, config.body, 2 * config.size)
        self.register_buffer("step_std", torch.ones(config.size))

    def forward(self, latent: Tensor, action: Tensor, cell: Tensor) -> Predicted:
        config = self.config
        acted = embed(action, self.table, low=-1.0, high=1.0) if config.actions == "two-hot" else action
        seen = torch.cat([latent, acted], dim=-1)
        cell = self.cell(seen, cell)
        change, log_variance = self.body(torch.cat([cell, seen], dim=-1)).chunk(2, dim=-1)
        bounded = softly(log_variance, config.log_variance_low, config.log_variance_high)
        return Predicted(latent + change * self.step_std, bounded, cell)


def softly(x: Tensor, low: float, high: float) -> Tensor:
    """Kept within bounds by curves that still have a slope beyond them."""
    x = high - F.softplus(high - x)
    return low + F.softplus(x - low)


def layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, outputs)
    )
