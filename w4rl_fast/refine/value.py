"""The value network."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.policy.sighted import Sighted, require_latent


@dataclass(frozen=True, kw_only=True, slots=True)
class ValueConfig:
    """A small network over the observations that the policy sees, or over the latent that frozen eyes make of them."""

    image_size: int
    proprio_dim: int
    history: int = 1
    widths: tuple[int, ...] = (32, 64, 64)
    points: int = 0
    hidden: int = 256
    latent: int | None = None
    latent_hidden: int = 256

    def __post_init__(self) -> None:
        require_latent(self)
        if self.history < 1 or self.image_size < 2 ** len(self.widths):
            raise ValueError(
                f"history={self.history}, image_size={self.image_size}: at least 1 and {2 ** len(self.widths)}"
            )


class ValueNetwork(Sighted, tags=["robotics", "value"]):
    """Frames (B, H, 3, S, S) in [-1, 1] and proprioception (B, H, P) to the return (B,) that is still to come."""

    config: ValueConfig
    config_class = ValueConfig
    weights_file = "value.safetensors"

    def __init__(self, config: ValueConfig) -> None:
        super().__init__(config, 1)
        self.config = config
        deciding = self.head if config.latent is None else self.decision
        for weight in list(deciding.parameters())[-2:]:
            nn.init.zeros_(weight)  # nothing is expected before anything was seen

    @classmethod
    def beside(cls, policy: GaussianPolicy, config: ValueConfig | None = None) -> Self:
        """A network of the policy's size, or of another; where the convolutions fit, it begins with the policy's. One
        beside a policy with frozen eyes has the same.
        """
        of = policy.config
        eyes: dict[str, Any] = {name: getattr(of, name) for name in ValueConfig.__dataclass_fields__}
        value = cls(config or ValueConfig(**eyes))
        value.to(policy.proprio_mean.device)
        if of.latent is not None and config is None:
            there = {name: each for name, each in policy.state_dict().items() if name in eyes_of(value)}
            value.load_state_dict(value.state_dict() | there)
            return value
        if shapes(value.convolutions) == shapes(policy.convolutions):
            value.convolutions.load_state_dict(policy.convolutions.state_dict())
        value.proprio_mean.copy_(policy.proprio_mean)
        value.proprio_std.copy_(policy.proprio_std)
        return value

    def forward(self, *seen: Tensor) -> Tensor:
        """From frames and proprioception, or from the latent (B, D) that frozen eyes made of them before."""
        return self.judge(self.observe(*seen) if len(seen) > 1 else seen[0])

    def judge(self, seen: Tensor) -> Tensor:
        """The return (B,) from what `observe` makes of an observation."""
        worth: Tensor = self.decision(seen)
        return worth[:, 0]


def eyes_of(network: Sighted) -> list[str]:
    """The names of what a network sees with."""
    return [name for name in network.state_dict() if not name.startswith("decision.")]


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}
