"""How often a time was how long: counts to three per cent, from nanoseconds to minutes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PARTS = 32
QUANTILES = (50.0, 90.0, 99.0, 99.9, 99.99, 100.0)


@dataclass(frozen=True, slots=True)
class Histogram:
    """counts (N,) int64: the first 32 of one nanosecond each, then 32 parts of every power of two from there on."""

    counts: NDArray[np.int64]

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def edges(self) -> NDArray[np.float64]:
        """The longest time (ns) that falls into each place (N,)."""
        place = np.arange(len(self.counts))
        power = np.maximum(0, place // PARTS - 1)
        return np.asarray((place - power * PARTS + 1) * 2.0**power - 1)

    def quantile(self, per_cent: float) -> float:
        """The time (us) that this share of all stayed within; nan if there were none."""
        if not self.total:
            return float("nan")
        wanted = max(1, int(np.ceil(self.total * per_cent / 100)))
        return float(self.edges[int(np.searchsorted(np.cumsum(self.counts), wanted))]) / 1000

    def quantiles(self) -> dict[str, float]:
        return {
            f"p{per_cent:g}" if per_cent < 100 else "most": round(self.quantile(per_cent), 3) for per_cent in QUANTILES
        }

    def above(self, microseconds: float) -> int:
        """How many took longer."""
        return int(self.counts[self.edges > microseconds * 1000].sum())

    def picture(self, width: int = 40) -> list[str]:
        """One line for every power of two that occurred: its time, a bar whose length is logarithmic, its count."""
        if not self.total:
            return []
        rows = self.counts.reshape(-1, PARTS).sum(axis=1)
        first, last = (int(x) for x in np.flatnonzero(rows)[[0, -1]])
        most = np.log1p(rows.max())
        edges = self.edges.reshape(-1, PARTS)[:, -1] / 1000
        return [
            f"{edges[row]:>12,.1f} us  {'#' * int(np.ceil(width * np.log1p(rows[row]) / most)):<{width}}  {rows[row]:,}"
            for row in range(first, last + 1)
        ]
