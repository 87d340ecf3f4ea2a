"""Where imagined episodes begin: moments of recorded ones, kept on the device that imagines.

Shapes: N starts, U different frames among them, T frames of history, A action and P proprioception dimensions.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from w4rl_fast.data.store import Store
from w4rl_fast.data.windows import Split, WindowConfig, Windows, open_arrays
from w4rl_fast.errors import UserError
from w4rl_fast.world.config import WorldConfig
from w4rl_kernels.noise import random_bits

START_STREAM = 2
"""The stream of noise that draws starts; frames and actions have others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StartConfig:
    """Which moments: the first row of each episode or any row, of one side of the store, at most `most` of them, and
    none that shows success already. Rollouts of a repair give none, so that a repair does not change where the worlds
    before it begin.

    `held_out` and `validation` are shares as in training, so that a start is on the side its episode was on then.
    """

    task: str
    split: Split = "train"
    rows: Literal["first", "any"] = "first"
    most: int = 4096
    held_out: float = 0.15
    validation: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Starts:
    """pixels (U, 3, S, S) uint8; rows (N, T) into them, oldest first, and anchors (N,), the first of each episode;
    proprio (N, T, P); actions (N, T, A) between those frames, the last of them zero, since it is still to be taken.
    """

    pixels: Tensor
    rows: Tensor
    anchors: Tensor
    proprio: Tensor
    actions: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device | str) -> "Starts":
        return Starts(
            self.pixels.to(device), self.rows.to(device), self.anchors.to(device), self.proprio.to(device),
            self.actions.to(device),
        )  # fmt: skip

    def draw(self, seeds: Tensor, episodes: Tensor) -> Tensor:
        """The start (B,) of each world's episode, from its own seed and the episode's number alone."""
        words = random_bits(seeds, episodes, torch.zeros_like(seeds), 1, stream=START_STREAM)[:, 0]
        return (words * len(self)) >> 32


def load_starts(store: Store, world: WorldConfig, config: StartConfig) -> Starts:
    """Read starts for a world from a store, or say why they are not for it."""
    require_same_kind(store, world, config.task)
    window = WindowConfig(
        history=world.history, future=1, anchor=True, tasks={config.task: 1.0}, held_out=config.held_out,
        validation=config.validation,
    )  # fmt: skip
    windows = Windows(store, window, config.split)
    episodes, present = windows.places()
    added = np.array([store.infos[episode].source == "repair" for episode in windows.episodes])
    fit = ~windows.successes() & ((present == 0) | (config.rows == "any")) & ~added[episodes]
    episodes, present = episodes[fit], present[fit]
    if not len(present):
        raise UserError(
            f"the {config.split} side of {store.path}",
            rule=f"every such row of {config.task} shows success already",
            remedy="Use rows='any', or collect more",
        )
    chosen = np.unique(np.linspace(0, len(present) - 1, min(config.most, len(present))).astype(np.int64))
    first, inside = windows.starts[episodes[chosen]], present[chosen, None] + np.arange(1 - world.history, 1)
    arrays = {name: mapped.array for name, mapped in open_arrays(store, window).items()}
    rows = first[:, None] + np.maximum(inside, 0)
    taken = (inside >= 0) & (inside < present[chosen, None])  # before the episode, and now, no action was taken
    used, places = np.unique(np.concatenate([rows, first[:, None]], axis=1), return_inverse=True)
    places = places.reshape(len(rows), -1)
    return Starts(
        pixels=torch.from_numpy(arrays["frames"][used]).permute(0, 3, 1, 2).contiguous(),
        rows=torch.from_numpy(places[:, :-1].copy()),
        anchors=torch.from_numpy(places[:, -1].copy()),
        proprio=torch.from_numpy(arrays["proprio"][rows]),
        actions=torch.from_numpy(arrays["actions"][rows] * taken[:, :, None]),
    )


def require_same_kind(store: Store, world: WorldConfig, task: str) -> None:
    """Refuse a store of another task, or of other sizes than the world's."""
    tasks = sorted({info.task for info in store.infos})
    if task not in tasks:
        raise UserError(
            f"start states of {', '.join(tasks) or 'no task'} ({store.path})",
            rule=f"this world imagines {task}",
            remedy="Give a store that records that task",
        )
    schema = store.schema
    there = (schema.image_size, schema.action_dim, schema.proprio_dim)
    wanted = (world.image_size, world.action_dim, world.proprio_dim)
    if there != wanted:
        raise UserError(
            f"start states of {store.path} with image size, action and proprioception dimensions {there}",
            rule=f"this world has {wanted}",
            remedy="Give the store that it was trained on, or one like it",
        )
