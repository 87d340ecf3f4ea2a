"""The value network."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from w4rl_fast.convolutions import strided
from w4rl_fast.hub import HubModel
from w4rl_fast.policy.gaussian import GaussianPolicy


@dataclass(frozen=True, kw_only=True, slots=True)
class ValueConfig:
    """A small convolutional network over the observations that the policy sees."""

    image_size: int
    proprio_dim: int
    history: int = 1
    widths: tuple[int, ...] = (32, 64, 64)
    hidden: int = 256

    def __post_init__(self) -> None:
        if self.history < 1 or self.image_size < 2 ** len(self.widths):
            raise ValueError(
                f"history={self.history}, image_size={self.image_size}: at least 1 and {2 ** len(self.widths)}"
            )


class ValueNetwork(HubModel, tags=["robotics", "value"]):
    """Frames (B, H, 3, S, S) in [-1, 1] and proprioception (B, H, P) to the return (B,) that is still to come."""

    config: ValueConfig
    config_class = ValueConfig
    weights_file = "value.safetensors"
    proprio_mean: Tensor
    proprio_std: Tensor

    def __init__(self, config: ValueConfig) -> None:
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
        )
        self.out = nn.Linear(config.hidden, 1)
        nn.init.zeros_(self.out.weight)  # nothing is expected before anything was seen
        nn.init.zeros_(self.out.bias)
        self.register_buffer("proprio_mean", torch.zeros(config.proprio_dim))
        self.register_buffer("proprio_std", torch.ones(config.proprio_dim))

    @classmethod
    def beside(cls, policy: GaussianPolicy, config: ValueConfig | None = None) -> Self:
        """A network of the policy's size, or of another; where the convolutions fit, it begins with the policy's."""
        of = policy.config
        sizes = {"image_size": of.image_size, "proprio_dim": of.proprio_dim, "history": of.history}
        value = cls(config or ValueConfig(**sizes, widths=of.widths, hidden=of.hidden))
        value.to(policy.proprio_mean.device)
        if shapes(value.convolutions) == shapes(policy.convolutions):
            value.convolutions.load_state_dict(policy.convolutions.state_dict())
        value.proprio_mean.copy_(policy.proprio_mean)
        value.proprio_std.copy_(policy.proprio_std)
        return value

    def forward(self, frames: Tensor, proprio: Tensor) -> Tensor:
        pixels = self.convolutions(frames.flatten(1, 2)).flatten(1)
        body = ((proprio - self.proprio_mean) / self.proprio_std).flatten(1)
        value: Tensor = self.out(self.head(torch.cat([pixels, body], dim=1)))
        return value[:, 0]


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}
