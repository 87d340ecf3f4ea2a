"""Is one policy better than another? Both on the same seeds, counted seed by seed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from w4rl_fast.errors import UserError
from w4rl_fast.truth.intervals import wilson


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """Seeds that only the second policy solves (gained) and only the first (lost), McNemar's exact p of their balance,
    and by how much the rate of success grew, with its 95 % interval.
    """

    episodes: int
    gained: int
    lost: int
    p: float
    difference: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.difference:+.1%} (95 % interval {self.low:+.1%} to {self.high:+.1%}),"
            f" gained {self.gained} and lost {self.lost} of {self.episodes} seeds, p = {self.p:.2g}"
        )


def paired(before: Mapping[int, bool], after: Mapping[int, bool]) -> Paired:
    """Compare two policies by their success on each seed; the seeds have to be the same."""
    alone = sorted(before.keys() ^ after.keys())
    if alone or not before:
        raise UserError(
            f"{len(before)} seeds before, {len(after)} after",
            rule=f"a paired test needs the same seeds on both sides (only on one: {alone[:3]})",
            remedy="Judge both policies with the same first seed and number of episodes",
        )
    both = sum(before[seed] and after[seed] for seed in before)
    gained = sum(after[seed] and not before[seed] for seed in before)
    lost = sum(before[seed] and not after[seed] for seed in before)
    low, high = difference_interval(both, gained, lost, len(before))
    return Paired(
        episodes=len(before),
        gained=gained,
        lost=lost,
        p=mcnemar(gained, lost),
        difference=(gained - lost) / len(before),
        low=low,
        high=high,
    )


def mcnemar(gained: int, lost: int) -> float:
    """How likely so unequal counts are if a seed that changes sides is as likely to be gained as lost; two-sided.

    Whole numbers to the end, so that it is exact also where a float would have underflowed.
    """
    if gained < 0 or lost < 0:
        raise ValueError(f"gained={gained}, lost={lost}: counts")
    total = gained + lost
    tail: int = sum(math.comb(total, k) for k in range(min(gained, lost) + 1))
    return min(1.0, float(Fraction(2 * tail, 2**total)))


def difference_interval(both: int, gained: int, lost: int, episodes: int) -> tuple[float, float]:
    """Newcombe's 95 % interval of the difference of two paired rates (his tenth method, 1998).

    Wilson's intervals of the two rates, joined by their correlation: unlike Wald's it stays within -1 to 1 and does
    not shrink to a point where no seed changed sides.
    """
    neither = episodes - both - gained - lost
    first, second = wilson(both + lost, episodes), wilson(both + gained, episodes)
    rate, new_rate = first.successes / episodes, second.successes / episodes
    agreement = float(both * neither - gained * lost)
    if agreement > 0:
        agreement = max(agreement - episodes / 2, 0.0)  # his correction for continuity
    margins = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    correlation = agreement / math.sqrt(margins) if margins else 0.0
    difference = new_rate - rate
    return (
        difference - reach(new_rate - second.low, first.high - rate, correlation),
        difference + reach(second.high - new_rate, rate - first.low, correlation),
    )


def reach(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0.0))
