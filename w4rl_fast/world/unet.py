"""The backbone: a U-Net of residual blocks whose norms are set by a condition vector.

Shapes: B pictures, C channels, H x W positions, E condition features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from w4rl_fast.world.config import BackboneConfig
from w4rl_kernels.attention import attention
from w4rl_kernels.norm_act import group_norm

GROUP, HEAD = 32, 8


def groups(channels: int) -> int:
    return max(1, channels // GROUP)


class AdaptiveNorm(nn.Module):
    """Group norm whose scale and shift come from the condition, then SiLU."""

    def __init__(self, channels: int, condition_dim: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups(channels), channels, affine=False)
        self.scale_shift = nn.Linear(condition_dim, 2 * channels)
        nn.init.zeros_(self.scale_shift.weight)
        nn.init.zeros_(self.scale_shift.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.scale_shift(condition).chunk(2, dim=1)
        return group_norm(x, self.norm.num_groups, scale, shift, eps=self.norm.eps, act=True)


class Attention(nn.Module):
    """Self-attention over all positions of a picture, added to its input (or, as in DIAMOND, to its normed input)."""

    def __init__(self, channels: int, *, onto_normed: bool) -> None:
        super().__init__()
        self.onto_normed = onto_normed
        self.heads = max(1, channels // HEAD)
        self.norm = nn.GroupNorm(groups(channels), channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        normed = plain_norm(self.norm, x)
        # (B, 3C, H, W) in channels_last is (B, HW, 3, heads, C / heads) as it lies.
        tokens = self.qkv(normed).permute(0, 2, 3, 1).flatten(1, 2)
        mixed = attention(tokens.unflatten(2, (3, self.heads, -1)).contiguous())
        mixed = mixed.view(x.shape[0], *x.shape[2:], -1).permute(0, 3, 1, 2)
        return (normed if self.onto_normed else x) + self.out(mixed)


def plain_norm(norm: nn.GroupNorm, x: Tensor, *, act: bool = False) -> Tensor:
    """A group norm with weights of its own, then SiLU if `act`."""
    return group_norm(x, norm.num_groups, weight=norm.weight, bias=norm.bias, eps=norm.eps, act=act)


class Block(nn.Module):
    """A residual block, and attention behind it if there is any."""

    def __init__(self, before: int, after: int, condition_dim: int, attention: nn.Module | None) -> None:
        super().__init__()
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        self.norm1 = AdaptiveNorm(before, condition_dim)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.norm2 = AdaptiveNorm(after, condition_dim)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]
        self.attention = attention or nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        hidden = self.conv1(self.norm1(x, condition))
        hidden = self.conv2(self.norm2(hidden, condition))
        return self.attention(self.skip(x) + hidden)


class Level(nn.Module):
    """Blocks at one resolution: the widths that enter and leave each."""

    def __init__(self, config: BackboneConfig, before: list[int], after: list[int], *, attention: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for b, a in zip(before, after, strict=True):
            mixer = Attention(a, onto_normed=config.attention_onto_normed) if attention else None
            self.blocks.append(Block(b, a, config.condition_dim, mixer))

    def forward(self, x: Tensor, condition: Tensor, skips: list[Tensor] | None = None) -> list[Tensor]:
        """What enters and what leaves each block; a block takes one skip beside its input if there are any."""
        passed = [x]
        for number, block in enumerate(self.blocks):
            x = block(x if skips is None else torch.cat([x, skips[number]], dim=1), condition)
            passed.append(x)
        return passed


class UNet(nn.Module):
    """Pictures (B, inputs, S, S), maps (B, M, S / patch, S / patch) and conditions (B, E) to (B, outputs, S, S).

    With patch 1 and no maps this is the shape of DIAMOND's network.
    """

    def __init__(self, config: BackboneConfig, inputs: int, outputs: int, maps: int = 0) -> None:
        super().__init__()
        self.patch = config.patch
        widths = config.widths
        cells = config.patch**2
        above = (widths[0], *widths[:-1])
        levels = list(zip(above, widths, config.depths, config.attention, strict=True))
        self.enter = nn.Conv2d(inputs * cells + maps, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            Level(config, [a] + [w] * (depth - 1), [w] * depth, attention=attention)
            for a, w, depth, attention in levels
        )
        self.up = nn.ModuleList(
            Level(config, [2 * w] * depth + [a + w], [w] * depth + [a], attention=attention)
            for a, w, depth, attention in levels
        )
        self.shrink = nn.ModuleList(nn.Conv2d(width, width, 3, 2, 1) for width in widths[:-1])
        self.grow = nn.ModuleList(nn.Conv2d(width, width, 3, 1, 1) for width in widths[:-1])
        self.middle = Level(config, [widths[-1]] * 2, [widths[-1]] * 2, attention=config.middle_attention)
        self.leave_norm = nn.GroupNorm(groups(widths[0]), widths[0])
        self.leave = nn.Conv2d(widths[0], outputs * cells, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, condition: Tensor, maps: Tensor | None = None) -> Tensor:
        x = F.pixel_unshuffle(x, self.patch)
        x = self.enter(x if maps is None else torch.cat([x, maps], dim=1))
        kept: list[list[Tensor]] = []
        for number, level in enumerate(self.down):
            kept.append(level(self.shrink[number - 1](x) if number else x, condition))
            x = kept[-1][-1]
        x = self.middle(x, condition)[-1]
        for number in reversed(range(len(self.up))):
            x = self.up[number](x, condition, kept[number][::-1])[-1]
            if number:
                x = self.grow[number - 1](F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return F.pixel_shuffle(self.leave(plain_norm(self.leave_norm, x, act=True)), self.patch)
