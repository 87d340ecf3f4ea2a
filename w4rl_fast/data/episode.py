"""One episode, as it is handed from collectors and importers to the store and back."""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.errors import UserError

SOURCES = ("expert", "noisy", "policy", "random", "imported", "repair", "play")
DEMONSTRATIONS = ("expert", "noisy", "imported")
PLAYED = ("policy", "repair")
"""Rollouts of a learnt policy: of a cloned one, and of a refined one that showed where a world is wrong."""

ON_AN_ARM = "-robot"
"""Ends the origin of an episode that a policy did on an arm: the digest of its weights, and this."""


def episode_key(task: str, source: str, seed: int, origin: str = "") -> str:
    """The name of an episode in its store, fit for a file name."""
    tail = f"-{zlib.crc32(origin.encode()):08x}" if origin else ""
    return f"{task.replace('/', '.')}-{source}-{seed}{tail}"


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeInfo:
    """Where an episode comes from and how it ended; task, source, seed and origin together name it in its store.

    `succeeded` is the task's own verdict, latched over every simulator step; the per-row `success` of an Episode
    says whether the observation of that row shows success. `origin` says what made the actions where the source alone
    does not: the noise of an expert, the weights of a policy.
    """

    task: str
    source: str
    seed: int
    succeeded: bool
    origin: str = ""

    @property
    def key(self) -> str:
        return episode_key(self.task, self.source, self.seed, self.origin)


@dataclass(frozen=True, kw_only=True, slots=True)
class Schema:
    """What every episode of a store has in common: frames of one square size, widths of actions, proprioception and
    landmarks.

    Actions are stored in [-1, 1]; `action_low` and `action_high` say what -1 and +1 mean in the robot's own units.
    """

    image_size: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    proprio_dim: int
    landmark_dim: int = 0

    @property
    def action_dim(self) -> int:
        return len(self.action_low)


@dataclass(frozen=True, slots=True)
class Episode:
    """L observations and the L - 1 actions between them.

    frames (L, H, W, 3) uint8; actions (L, A) float32 in [-1, 1], the last row zero since no action follows the last
    observation; proprio (L, P) float32; success (L,) bool; landmarks (L, K) float32, where the things of the task are,
    or None where nobody said.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    proprio: NDArray[np.float32]
    success: NDArray[np.bool_]
    info: EpisodeInfo
    landmarks: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def check(self, schema: Schema) -> None:
        """Refuse an episode that does not fit the schema."""
        length = len(self.frames)
        size = schema.image_size
        expected = {
            "frames": (np.uint8, (length, size, size, 3)),
            "actions": (np.float32, (length, schema.action_dim)),
            "proprio": (np.float32, (length, schema.proprio_dim)),
            "success": (np.bool_, (length,)),
            "landmarks": (np.float32, (length, schema.landmark_dim)),
        }
        for name, (dtype, shape) in expected.items():
            array = getattr(self, name)
            if array is None and not schema.landmark_dim:
                continue
            if array is None or array.dtype != dtype or array.shape != shape:
                there = "missing" if array is None else f"{array.dtype} {array.shape}"
                raise UserError(
                    f"{name} of episode {self.info.key} is {there}",
                    rule=f"this store holds {np.dtype(dtype).name} {shape}",
                    remedy="Use another store for data of another shape, or convert the episode first",
                )
        if length < 2:
            raise UserError(
                f"episode {self.info.key} has {length} row(s)",
                rule="an episode has at least two observations and the action between them",
                remedy="Leave it out",
            )
        if self.info.source not in SOURCES:
            raise UserError(
                f"source {self.info.source!r} of episode {self.info.key}",
                rule=f"a source is one of {', '.join(SOURCES)}",
                remedy="Choose one of these",
            )
        numbers = [each for each in (self.actions, self.proprio, self.landmarks) if each is not None]
        if not all(np.isfinite(each).all() for each in numbers) or np.abs(self.actions).max() > 1.0:
            raise UserError(
                f"actions, proprioception or landmarks of episode {self.info.key}",
                rule="actions are finite and within [-1, 1], proprioception and landmarks are finite",
                remedy="Normalise the actions by the robot's limits before storing them",
            )
