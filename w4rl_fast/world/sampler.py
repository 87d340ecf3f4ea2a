"""Samplers as pure functions: f(denoise, x, sigmas) -> x, for any denoise(x, sigma) -> the clean picture.

Sigmas are Python floats, so that a loop over them is unrolled when it is compiled, and nothing waits for the host.
"""

import itertools
from collections.abc import Callable, Sequence

from torch import Tensor

Denoise = Callable[[Tensor, float], Tensor]
Sampler = Callable[[Denoise, Tensor, Sequence[float]], Tensor]


def karras_sigmas(steps: int, *, sigma_min: float, sigma_max: float, rho: float = 7.0) -> tuple[float, ...]:
    """`steps` noise levels from sigma_max down to sigma_min, then 0."""
    if steps == 1:
        return (sigma_max, 0.0)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return (*((high + i / (steps - 1) * (low - high)) ** rho for i in range(steps)), 0.0)


def euler(denoise: Denoise, x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """First order: along the slope at the start of each interval. x has the noise of sigmas[0]."""
    for sigma, after in itertools.pairwise(sigmas):
        x = x + (x - denoise(x, sigma)) / sigma * (after - sigma)
    return x


def heun(denoise: Denoise, x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Second order: along the mean of the slopes at both ends of each interval, except the last."""
    for sigma, after in itertools.pairwise(sigmas):
        slope = (x - denoise(x, sigma)) / sigma
        ahead = x + slope * (after - sigma)
        if after > 0:
            slope = (slope + (ahead - denoise(ahead, after)) / after) / 2
            ahead = x + slope * (after - sigma)
        x = ahead
    return x


SAMPLERS: dict[str, Sampler] = {"euler": euler, "heun": heun}
