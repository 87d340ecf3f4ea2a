"""A network that decides on what it sees with its own eyes, or on the latent of frozen ones."""

from typing import Protocol

import torch
from torch import nn

from w4rl_fast.policy.observer import Observer, ObserverConfig, felt_dim


class SightedConfig(ObserverConfig, Protocol):
    """An observer's sizes, and those of what decides on its latent, if the eyes are somebody else's."""

    @property
    def latent(self) -> int | None: ...

    @property
    def latent_hidden(self) -> int: ...


class Sighted(Observer):
    """Frames (B, H, 3, S, S) and proprioception (B, H, P) to (B, outputs), in one piece or by way of a latent."""

    def __init__(self, config: SightedConfig, outputs: int) -> None:
        super().__init__(config, config.latent or outputs, felt=config.latent is not None)
        self.decision: nn.Module = nn.Identity()
        if config.latent is not None:
            self.requires_grad_(False)
            self.decision = deciding(config.latent, config.latent_hidden, outputs)


def deciding(latent: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two smooth layers from a latent (B, latent) to (B, outputs), which begin near zero."""
    layers = nn.Sequential(
        nn.Linear(latent, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, outputs)
    )
    with torch.no_grad():
        for weight in layers[-1].parameters():
            weight.mul_(0.01)
    return layers


def require_latent(config: SightedConfig) -> None:
    """Raise a ValueError for sizes that cannot be."""
    latent, hidden, felt = config.latent, config.latent_hidden, felt_dim(config)
    if latent is not None and (latent < max(1, felt) or hidden < 1):
        raise ValueError(f"latent={latent}, latent_hidden={hidden}: at least {max(1, felt)}, which are felt, and 1")
