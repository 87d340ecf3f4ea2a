"""The small eye that policy, value network and classifier have: strided convolutions."""

import itertools
from collections.abc import Sequence

from torch import nn


def strided(channels: int, widths: Sequence[int], size: int) -> tuple[nn.Sequential, int]:
    """Layers that halve pictures (B, channels, size, size) once for each width, and the numbers they leave of one."""
    layers = nn.Sequential()
    for before, after in itertools.pairwise((channels, *widths)):
        layers.extend([nn.Conv2d(before, after, 3, stride=2, padding=1), nn.SiLU()])
        size = (size + 1) // 2
    return layers, widths[-1] * size * size
