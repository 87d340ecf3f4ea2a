"""How sure a count is."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """Successes of episodes, with the 95 % Wilson interval of the true rate."""

    successes: int
    episodes: int
    low: float
    high: float

    def __str__(self) -> str:
        rate = self.successes / self.episodes
        return f"{self.successes} of {self.episodes} ({rate:.1%}, 95 % interval {self.low:.1%} to {self.high:.1%})"


def wilson(successes: int, episodes: int, z: float = 1.959964) -> Share:
    """The Wilson score interval; it stays inside 0 to 1 and is honest about 0 of n."""
    if not 0 <= successes <= episodes or episodes < 1:
        raise ValueError(f"{successes} of {episodes}: successes lie between 0 and a positive number of episodes")
    rate, slack = successes / episodes, z**2 / episodes
    middle = (rate + slack / 2) / (1 + slack)
    reach = z / (1 + slack) * math.sqrt(rate * (1 - rate) / episodes + slack / (4 * episodes))
    low = 0.0 if successes == 0 else max(0.0, middle - reach)  # exactly so; floats would miss it by a hair
    high = 1.0 if successes == episodes else min(1.0, middle + reach)
    return Share(successes=successes, episodes=episodes, low=low, high=high)
