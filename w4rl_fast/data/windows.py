"""Windows of episodes for training: history, the action between observations, future; any batch by its number."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.data.cache import Mapped, columns_of, decoded
from w4rl_fast.data.store import Episodes
from w4rl_fast.errors import UserError, near

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Split = Literal["train", "validation", "held-out"]
FITTING_ROUNDS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowConfig:
    """A window is `history` observations up to the present and `future` after it, and the first frame if `anchor`;
    without `pixels` that first frame is the only one.

    `most` keeps at most so many episodes of a task and source, those of the lowest seeds. With `succeeded` only those
    that succeeded are there.
    `sources` and `tasks` give the share of windows each gets; what is left out of a non-empty one gets none, and an
    empty one leaves the shares as they are in the store. `held_out` of the episodes are kept from training, chosen by
    their names, so that an episode never changes sides when others are added; `validation` of them are kept from it
    too, for choices that held-out ones must judge. `resident_mb` bounds the frames that this process holds in memory.
    """

    history: int = 4
    future: int = 1
    anchor: bool = False
    pixels: bool = True
    most: dict[str, int] = field(default_factory=dict)
    succeeded: bool = False
    sources: dict[str, float] = field(default_factory=dict)
    tasks: dict[str, float] = field(default_factory=dict)
    held_out: float = 0.15
    validation: float = 0.0
    split_seed: int = 0
    resident_mb: int = 256

    def __post_init__(self) -> None:
        if self.history < 1 or self.future < 0:
            raise ValueError(f"history={self.history}, future={self.future}: at least one and zero observations")
        if min(self.held_out, self.validation) < 0 or self.held_out + self.validation >= 1:
            raise ValueError(
                f"held_out={self.held_out}, validation={self.validation}: shares of the episodes, 0 or more, together "
                "below 1"
            )
        if self.resident_mb < 1:
            raise ValueError(f"resident_mb={self.resident_mb}: at least 1 MB")


@dataclass(frozen=True, slots=True)
class Batch:
    """B windows of T = history + future observations.

    frames (B, T, C, H, W) in [-1, 1], channels last in memory; anchor (B, C, H, W), the first frame of each episode,
    if it was asked for; actions (B, T - 1, A), the one between each
    observation and the next; proprio (B, T, P); success (B, T) bool; real (B, T) bool, False where an episode had not
    begun: its first observation is repeated there, with zero actions. episode, row (B,): where the present lies.
    landmarks (B, T, K), if the store has any.
    """

    frames: "Tensor"
    anchor: "Tensor | None"
    actions: "Tensor"
    proprio: "Tensor"
    success: "Tensor"
    real: "Tensor"
    episode: NDArray[np.int64]
    row: NDArray[np.int64]
    landmarks: "Tensor | None" = None


class Windows:
    """Random access to the windows of one side of a store; batch `k` depends on the seed and `k` alone."""

    def __init__(self, store: Episodes, config: WindowConfig, split: Split = "train", *, seed: int = 0) -> None:
        self.config, self.seed, self.store = config, seed, store
        lengths = np.array(store.lengths, dtype=np.int64)
        there = [e for e in kept(store, config) if side(store, e, config) == split]
        self.episodes = np.array(there, dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])[self.episodes]
        self.counts = np.maximum(lengths[self.episodes] - config.future, 0)
        if not self.counts.sum():
            raise UserError(
                f"the {split} side of {store.path} ({len(self.episodes)} of {len(store)} episodes)",
                rule=f"it holds no window with {config.future} future observation(s)",
                remedy="Collect more episodes, or change held_out, split_seed or future",
            )
        chances = fit_shares(store, self.episodes, self.counts, config)
        drawn = chances > 0
        self.episodes, self.starts, self.counts = self.episodes[drawn], self.starts[drawn], self.counts[drawn]
        self._chances = np.cumsum(chances[drawn])
        self._arrays = open_arrays(store, config)

    def __len__(self) -> int:
        """How many different windows there are."""
        return int(self.counts.sum())

    def batch(
        self, number: int, size: int, *, dtype: "torch.dtype | None" = None, out: "Tensor | None" = None
    ) -> Batch:
        """Batch `number`: `size` windows drawn with replacement by their shares."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, number]))
        chosen = np.searchsorted(self._chances, rng.random(size) * self._chances[-1], side="right")
        chosen = np.minimum(chosen, len(self._chances) - 1)
        present = np.floor(rng.random(size) * self.counts[chosen]).astype(np.int64)
        return self.gather(chosen, present, dtype=dtype, out=out)

    def in_order(self, size: int, *, dtype: "torch.dtype | None" = None) -> Iterator[Batch]:
        """Every window once, in the order of the store; the last batch may be smaller."""
        chosen, present = self.places()
        for first in range(0, len(self), size):
            yield self.gather(chosen[first : first + size], present[first : first + size], dtype=dtype)

    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What `gather` takes, for every window in the order of the store."""
        chosen = np.repeat(np.arange(len(self.episodes)), self.counts)
        return chosen, np.arange(len(self)) - np.repeat(np.cumsum(self.counts) - self.counts, self.counts)

    def by_source(self) -> dict[str, int]:
        """How many windows there are of each source."""
        sources = np.array([self.store.infos[episode].source for episode in self.episodes])
        return {str(source): int(self.counts[sources == source].sum()) for source in np.unique(sources)}

    def successes(self) -> NDArray[np.bool_]:
        """Whether the present of each window shows success, in the order of the store."""
        chosen, present = self.places()
        return np.asarray(self._arrays["success"].array[self.starts[chosen] + present])

    def gather(
        self,
        chosen: NDArray[np.int64],
        present: NDArray[np.int64],
        *,
        dtype: "torch.dtype | None" = None,
        out: "Tensor | None" = None,
    ) -> Batch:
        """The windows whose present is row `present` of the `chosen` episodes of this side."""
        import torch

        from w4rl_kernels.window_gather import gather_windows

        if self.config.anchor and out is not None:
            raise ValueError("out with anchor: the first frames lie beside the windows. Leave out=... away")
        offsets = np.arange(1 - self.config.history, self.config.future + 1)
        inside = present[:, None] + offsets
        real = inside >= 0
        rows = self.starts[chosen][:, None] + np.maximum(inside, 0)
        pixels = torch.from_numpy(self._arrays["frames"].array)
        shown = rows if self.config.pixels else rows[:, :0]
        if self.config.anchor:
            shown = np.concatenate([self.starts[chosen][:, None], shown], axis=1)
        frames = gather_windows(pixels, torch.from_numpy(shown), dtype=dtype or torch.float32, out=out)
        actions = self._arrays["actions"].array[rows[:, :-1]] * real[:, :-1, None]
        for mapped in self._arrays.values():
            mapped.touch(rows.size)
        return Batch(
            frames[:, 1:] if self.config.anchor else frames,
            frames[:, 0] if self.config.anchor else None,
            torch.from_numpy(actions),
            torch.from_numpy(self._arrays["proprio"].array[rows]),
            torch.from_numpy(self._arrays["success"].array[rows]),
            torch.from_numpy(real),
            self.episodes[chosen],
            present,
            torch.from_numpy(self._arrays["landmarks"].array[rows]) if "landmarks" in self._arrays else None,
        )


def kept(store: Episodes, config: WindowConfig) -> list[int]:
    """The episodes that `most` leaves; asking for more than there are is an error."""
    groups: dict[tuple[str, str], list[int]] = {}
    for episode, info in enumerate(store.infos):
        if config.succeeded and not info.succeeded:
            continue
        groups.setdefault((info.source, info.task), []).append(episode)
    for source, most in config.most.items():
        for group in [group for group in groups if group[0] == source] or [(source, "any task")]:
            there = sorted(groups.get(group, []), key=lambda episode: store.infos[episode].seed)
            if most < 1 or len(there) < most:
                raise UserError(
                    f"{most} {source} episodes of {group[1]}",
                    rule=f"{store.path} holds {len(there)}",
                    remedy="Ask for one or more, and no more than that, or collect more",
                )
            groups[group] = there[:most]
    return sorted(episode for group in groups.values() for episode in group)


def side(store: Episodes, episode: int, config: WindowConfig) -> Split:
    """The side of an episode, from its name alone."""
    name = f"{config.split_seed}/{store.keys[episode]}".encode()
    draw = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()) / 2**64
    if draw < config.held_out:
        return "held-out"
    return "validation" if draw < config.held_out + config.validation else "train"


def fit_shares(
    store: Episodes, episodes: NDArray[np.int64], counts: NDArray[np.int64], config: WindowConfig
) -> NDArray[np.float64]:
    """Chance of each episode: in proportion to its windows, scaled until sources and tasks have their shares."""
    chances = counts / counts.sum()
    infos = [store.infos[episode] for episode in episodes]
    sources = np.array([info.source for info in infos])
    tasks = np.array([info.task for info in infos])
    require_known("source", config.sources, sources)
    require_known("task", config.tasks, tasks)
    for _ in range(FITTING_ROUNDS if config.sources and config.tasks else 1):
        chances = scale(scale(chances, tasks, config.tasks), sources, config.sources)
    return np.asarray(chances)


def require_known(kind: str, shares: Mapping[str, float], names: NDArray[Any]) -> None:
    known = sorted(set(names.tolist()))
    for name, share in shares.items():
        if name not in known or share < 0:
            raise UserError(
                f"share {share} of {kind} {name!r}",
                rule=f"shares are zero or more, for a {kind} of this side of the store",
                remedy=near(name, known),
            )
    if shares and not sum(shares.values()) > 0:
        raise UserError(f"shares of {kind}s {dict(shares)}", rule="their sum is above zero", remedy="Raise one")


def scale(chances: NDArray[np.float64], names: NDArray[Any], shares: Mapping[str, float]) -> NDArray[np.float64]:
    """Chances whose sums over equal names are in proportion to the shares."""
    if not shares:
        return chances
    scaled = np.zeros_like(chances)
    for name, share in shares.items():
        group = names == name
        total = chances[group].sum()
        if share and not total:
            raise UserError(
                f"share {share} of {name!r}",
                rule="no window of it is left: its episodes are too short, or the other shares leave it out",
                remedy="Set it to zero, or change the other shares or future",
            )
        if total:
            scaled[group] = chances[group] * (share / total)
    return np.asarray(scaled / scaled.sum())


def open_arrays(store: Episodes, config: WindowConfig) -> dict[str, Mapped]:
    folder, schema, rows = decoded(store), store.schema, sum(store.lengths)
    size = schema.image_size
    shapes = {
        "frames": (np.uint8, (rows, size, size, 3)),
        "actions": (np.float32, (rows, schema.action_dim)),
        "proprio": (np.float32, (rows, schema.proprio_dim)),
        "success": (np.bool_, (rows,)),
        "landmarks": (np.float32, (rows, schema.landmark_dim)),
    }
    budget = config.resident_mb << 20
    return {name: Mapped(folder / f"{name}.raw", *shapes[name], budget) for name in columns_of(store)}
