"""The other backbone: a transformer over patches, whose norms and gates are set by a condition vector.

Shapes: B pictures, N tokens of width W, E condition features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from w4rl_fast.world.config import TransformerConfig
from w4rl_kernels.attention import attention
from w4rl_kernels.norm_act import layer_norm


class Modulation(nn.Module):
    """`count` vectors (B, 1, W) from a condition (B, E), all zero before training."""

    def __init__(self, condition_dim: int, width: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.linear = nn.Linear(condition_dim, count * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, condition: Tensor) -> tuple[Tensor, ...]:
        return self.linear(F.silu(condition))[:, None].chunk(self.count, dim=2)


class Block(nn.Module):
    """Attention among all tokens, then two layers on each; both are gated, and closed before training."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.modulation = Modulation(config.condition_dim, width, 6)
        # Without bias: one of the keys shifts all scores of a query alike, one of the values is one of `mix`.
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width)
        self.grow = nn.Linear(width, config.expansion * width)
        self.shrink = nn.Linear(config.expansion * width, width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(condition)
        x = torch.addcmul(x, gate1, self.attend(layer_norm(x, scale1, shift1)))
        grown = F.gelu(self.grow(layer_norm(x, scale2, shift2)), approximate="tanh")
        return torch.addcmul(x, gate2, self.shrink(grown))

    def attend(self, x: Tensor) -> Tensor:
        return self.mix(attention(self.qkv(x).unflatten(2, (3, self.heads, -1))).flatten(2))


class DiT(nn.Module):
    """Pictures (B, inputs, S, S), maps (B, M, S / patch, S / patch) and conditions (B, E) to (B, outputs, S, S).

    `side` is S / patch. All pictures are stacked on channels: side * side tokens, however long the history is.
    """

    def __init__(self, config: TransformerConfig, side: int, inputs: int, outputs: int, maps: int = 0) -> None:
        super().__init__()
        self.patch, self.side = config.patch, side
        cells = config.patch**2
        self.enter = nn.Conv2d(inputs * cells + maps, config.width, 1)
        self.places = nn.Parameter(torch.randn(config.width, side, side) * 0.02)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.leave_modulation = Modulation(config.condition_dim, config.width, 2)
        self.leave = nn.Linear(config.width, outputs * cells)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, condition: Tensor, maps: Tensor | None = None) -> Tensor:
        x = F.pixel_unshuffle(x, self.patch)
        x = self.enter(x if maps is None else torch.cat([x, maps], dim=1)) + self.places
        x = x.flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x, condition)
        painted = self.leave(layer_norm(x, *self.leave_modulation(condition)))
        return F.pixel_shuffle(painted.transpose(1, 2).unflatten(2, (self.side, self.side)), self.patch)
