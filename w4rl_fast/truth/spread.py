"""What a handful of seeds says: interquartile means and bootstrap intervals."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
Values = NDArray[np.float64]


class Spread(NamedTuple):
    """A statistic of some seeds, and the 95 % interval of it that resampling the seeds gives."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def interquartile_mean(values: Values, axis: int = 0) -> Values:
    """Mean of the middle half; the values at its edges count for the part of them that lies inside."""
    ordered = np.sort(values, axis=axis)
    count = ordered.shape[axis]
    edges = np.arange(count + 1) / count
    weights = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0.0, None)
    return np.asarray(np.tensordot(weights / weights.sum(), np.moveaxis(ordered, axis, 0), axes=1))


def spread(values: Sequence[float], seed: int = 0) -> Spread:
    """The interquartile mean of one value a seed."""
    return bootstrap(lambda rows: interquartile_mean(np.asarray(values)[rows]), len(values), seed)


def bootstrap(statistic: Callable[[NDArray[np.int64]], Values], seeds: int, seed: int = 0) -> Spread:
    """Of a statistic (N,) of N choices of seeds (S, N), with the interval of what it is where they are drawn again."""
    whole = statistic(np.arange(seeds)[:, None])
    drawn = np.random.default_rng(seed).integers(0, seeds, (seeds, DRAWS))
    low, high = np.quantile(statistic(drawn), (0.025, 0.975))
    return Spread(float(whole[0]), float(low), float(high))
