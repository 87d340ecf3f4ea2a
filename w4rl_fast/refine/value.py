"""The value network."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.policy.observer import Observer


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


class ValueNetwork(Observer, tags=["robotics", "value"]):
    """Frames (B, H, 3, S, S) in [-1, 1] and proprioception (B, H, P) to the return (B,) that is still to come."""

    config: ValueConfig
    config_class = ValueConfig
    weights_file = "value.safetensors"

    def __init__(self, config: ValueConfig) -> None:
        super().__init__(config, 1)
        self.config = config
        for weight in self.head[-1].parameters():
            nn.init.zeros_(weight)  # nothing is expected before anything was seen

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
        return self.observe(frames, proprio)[:, 0]


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}
