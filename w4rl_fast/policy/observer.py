"""What a policy and a value network see with."""

from typing import Protocol

import torch
from torch import Tensor, nn

from w4rl_fast.convolutions import Points, strided
from w4rl_fast.hub import HubModel


class ObserverConfig(Protocol):
    """The sizes of an observer, in the config of whatever sees with it."""

    @property
    def image_size(self) -> int: ...

    @property
    def proprio_dim(self) -> int: ...

    @property
    def history(self) -> int: ...

    @property
    def widths(self) -> tuple[int, ...]: ...

    @property
    def points(self) -> int:
        """Features whose places are looked for; 0 looks at all pixels alike."""
        ...

    @property
    def hidden(self) -> int: ...


class Observer(HubModel):
    """Frames (B, H, 3, S, S) in [-1, 1] and proprioception (B, H, P) to (B, outputs).

    With `felt` the last of these outputs are no guess: the newest proprioception and, of more than one moment, how it
    changed, both in deviations.
    """

    proprio_mean: Tensor
    proprio_std: Tensor
    change_std: Tensor

    def __init__(self, config: ObserverConfig, outputs: int, *, felt: bool = False) -> None:
        super().__init__()
        self.felt = felt
        said = outputs - felt_dim(config) if felt else outputs
        self.convolutions: nn.Sequential | Points
        if config.points:
            self.convolutions = Points(3 * config.history, config.widths, config.points, config.image_size)
            seen = self.convolutions.outputs
        else:
            self.convolutions, seen = strided(3 * config.history, config.widths, config.image_size)
        self.head = nn.Sequential(
            nn.Linear(seen + config.proprio_dim * config.history, config.hidden),
            nn.LayerNorm(config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, said),
        )
        self.register_buffer("proprio_mean", torch.zeros(config.proprio_dim))
        self.register_buffer("proprio_std", torch.ones(config.proprio_dim))
        if felt:
            self.register_buffer("change_std", torch.ones(config.proprio_dim))

    def observe(self, frames: Tensor, proprio: Tensor) -> Tensor:
        # Channels last, the first convolution alone is several times faster.
        pictures = frames.flatten(1, 2).contiguous(memory_format=torch.channels_last)
        pixels = self._look(pictures)
        body = (proprio - self.proprio_mean) / self.proprio_std
        numbers: Tensor = self.head(torch.cat([pixels, body.flatten(1)], dim=1))
        if not self.felt:
            return numbers
        changes = proprio[:, -2:].diff(dim=1) / self.change_std
        return torch.cat([numbers, body[:, -1], changes.flatten(1)], dim=1)

    def _look(self, pictures: Tensor) -> Tensor:
        if isinstance(self.convolutions, Points):
            return self.convolutions(pictures)
        # Flattened before the last activation, whose gradient is slow where the layouts of two tensors meet.
        return self.convolutions[-1](self.convolutions[:-1](pictures).flatten(1))


def felt_dim(config: ObserverConfig) -> int:
    """Numbers that are felt rather than seen."""
    return config.proprio_dim * min(2, config.history)
