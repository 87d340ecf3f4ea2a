"""The small eyes that policy, value network and classifier have: strided convolutions, or points."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def strided(channels: int, widths: Sequence[int], size: int) -> tuple[nn.Sequential, int]:
    """Layers that halve pictures (B, channels, size, size) once for each width, and the numbers they leave of one."""
    layers = nn.Sequential()
    for before, after in itertools.pairwise((channels, *widths)):
        layers.extend([nn.Conv2d(before, after, 3, stride=2, padding=1), nn.SiLU()])
        size = (size + 1) // 2
    return layers, widths[-1] * size * size


class Points(nn.Module):
    """Pictures (B, channels, size, size) to where, in x and in y, each of some features is, and how sure it is there.

    An expected place over about SIDE x SIDE positions is far more exact than these, and moves as a thing does.
    """

    x: Tensor
    y: Tensor

    def __init__(self, channels: int, widths: Sequence[int], points: int, size: int) -> None:
        super().__init__()
        stride = max(1, round(size / SIDE))
        self.layers = nn.Sequential(nn.Conv2d(channels, widths[0], 2 * stride + 1, stride=stride, padding=stride))
        for before, after in itertools.pairwise((*widths, points)):
            self.layers.extend([nn.SiLU(), nn.Conv2d(before, after, 3, padding=1)])
        side = (size - 1) // stride + 1
        line = (torch.arange(side) + 0.5) * (2 / side) - 1
        self.register_buffer("x", line.repeat(side))
        self.register_buffer("y", line.repeat_interleave(side))
        self.outputs = 3 * points

    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.layers(pictures).flatten(2).float()
        shares = maps.softmax(2)
        return torch.cat([(shares * self.x).sum(2), (shares * self.y).sum(2), maps.amax(2)], dim=1)


SIDE = 16
"""Positions a side on which points are looked for."""
