"""Which episodes a world is judged on: those its training never saw, every source in turn."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.data.episode import EpisodeInfo
from w4rl_fast.data.store import Episodes
from w4rl_fast.data.windows import Batch, WindowConfig, Windows
from w4rl_fast.errors import UserError
from w4rl_fast.world.train import TrainWorldConfig, held_out_windows, require_fit

SLICE = 32
"""Episodes that are rolled out at once, so that memory does not grow with their number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """Windows of `chosen` held-out episodes (numbers on their side of the store), the present being row `start`."""

    windows: Windows
    chosen: NDArray[np.int64]
    start: int

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def infos(self) -> list[EpisodeInfo]:
        return [self.windows.store.infos[episode] for episode in self.windows.episodes[self.chosen]]

    def batches(self, size: int = SLICE) -> Iterator[Batch]:
        """All windows in order, `size` at a time."""
        for first in range(0, len(self.chosen), size):
            some = self.chosen[first : first + size]
            yield self.windows.gather(some, np.full(len(some), self.start, np.int64))


def held_out(
    store: Episodes, config: TrainWorldConfig, *, horizon: int, episodes: int, start: int | None = None
) -> HeldOut:
    """At most `episodes` that have `horizon` rows behind row `start`, by default the second row where there is room:
    behind the first the world has seen no change yet, and extrapolating is repeating.
    """
    require_fit(store, dataclasses.replace(config, horizon=1))
    longest = max(store.lengths)
    if horizon + (start or 0) >= longest:
        raise UserError(
            f"horizon {horizon} from row {start or 0}",
            rule=f"the longest episode of {store.path} has {longest} observations",
            remedy=f"Use --horizon {max(1, longest - 1 - (start or 0))} or less",
        )
    windows = held_out_windows(store, dataclasses.replace(config, horizon=horizon))
    if start is None:
        start = int((windows.counts[windows.counts > 0] > 1).all())
    long_enough = np.flatnonzero(windows.counts > start)
    if not len(long_enough):
        raise UserError(
            f"start {start}",
            rule=f"no held-out episode of {store.path} has {horizon} observations behind that row",
            remedy="Use a smaller --start or --horizon",
        )
    sources = [store.infos[episode].source for episode in windows.episodes[long_enough]]
    return HeldOut(windows=windows, chosen=long_enough[by_turns(sources)[:episodes]], start=start)


def chosen_episodes(
    store: Episodes, config: TrainWorldConfig, which: Callable[[EpisodeInfo], bool], *, horizon: int
) -> HeldOut:
    """The episodes that `which` chooses, from their first row; it has to choose none that was trained on."""
    window = WindowConfig(history=config.world.history, future=horizon, anchor=True, held_out=0.0)
    windows = Windows(store, window)
    fit = [which(store.infos[episode]) for episode in windows.episodes]
    chosen = np.flatnonzero(np.array(fit, np.bool_) & (windows.counts > 0))
    if not len(chosen):
        raise UserError(
            f"episodes of {store.path}", rule="none of those wanted is long enough", remedy="Collect some first"
        )
    return HeldOut(windows=windows, chosen=chosen, start=0)


def of_task(held: HeldOut, task: str) -> HeldOut:
    """Those of one task."""
    fit = np.array([info.task == task for info in held.infos], np.bool_)
    if not fit.any():
        raise UserError(
            f"held-out episodes of {held.windows.store.path}",
            rule=f"none is of {task}",
            remedy="Give a store of that task",
        )
    return dataclasses.replace(held, chosen=held.chosen[fit])


def by_turns(names: list[str]) -> NDArray[np.int64]:
    """An order of the indices of `names` in which every name has its turn until it is used up."""
    seen: dict[str, int] = {}
    turns = []
    for name in names:
        turns.append(seen.get(name, 0))
        seen[name] = turns[-1] + 1
    return np.argsort(np.array(turns), kind="stable")
