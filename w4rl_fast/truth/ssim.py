"""Structural similarity of pictures, as Wang et al. (2004) define it."""

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03


def ssim(a: Tensor, b: Tensor, *, span: float = 2.0) -> Tensor:
    """Mean similarity (...) of two pictures (..., C, S, S) whose values span `span`; 1 for equal ones.

    Windows lie wholly inside the picture; one smaller than 11 pixels is seen through the largest odd window that fits.
    """
    lead = a.shape[:-3]
    x, y = (picture.double().reshape(-1, 1, *picture.shape[-2:]) for picture in (a, b))
    mean_x, mean_y, square_x, square_y, product = blur(torch.cat([x, y, x * x, y * y, x * y])).chunk(5)
    variance_x, variance_y = square_x - mean_x**2, square_y - mean_y**2
    c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
    light = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * (product - mean_x * mean_y) + c2) / (variance_x + variance_y + c2)
    return (light * structure).mean((1, 2, 3)).view(*lead, -1).mean(-1)


def blur(x: Tensor) -> Tensor:
    """Pictures (N, 1, S, S) averaged under a Gaussian window, where it fits."""
    smaller = min(x.shape[-2:])
    side = min(SIDE, smaller - 1 + smaller % 2)
    at = torch.arange(side, dtype=x.dtype) - side // 2
    weights = (-(at**2) / (2 * SIGMA**2)).exp()
    weights = weights / weights.sum()
    return F.conv2d(F.conv2d(x, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))
