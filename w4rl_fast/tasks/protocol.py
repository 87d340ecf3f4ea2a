"""What every real task offers: the contract between a simulator (or a robot) and everything that learns from it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.tasks.camera import Camera
from w4rl_fast.tasks.push_t.config import PushTConfig

Frame = NDArray[np.uint8]
Vector = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskConfig:
    """A task as it is set up: `horizon` actions an episode, each held for `action_repeat` simulator steps.

    `camera` and `renderer` are of tasks in space; `push_t` is Push-T's own.
    """

    name: str
    image_size: int = 64
    action_repeat: int = 5
    horizon: int = 40
    camera: Camera = field(default_factory=Camera)
    renderer: Literal["ray", "gl"] = "ray"
    push_t: PushTConfig | None = None

    def __post_init__(self) -> None:
        for name, low, high in (("image_size", 8, 1024), ("action_repeat", 1, 100), ("horizon", 1, 10_000)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name}={value}: it lies between {low} and {high}")


@dataclass(frozen=True, slots=True)
class Observation:
    """frame (H, W, 3) uint8; proprio (P,) float32, never the state of an object; success: does this moment show it?

    landmarks (K,) float32 say where the things of the task are, about -1 to 1; no policy is ever given them, they teach
    and judge what looks at pictures. None where the task has none.
    """

    frame: Frame
    proprio: Vector
    success: bool
    landmarks: Vector | None = None


class Task(Protocol):
    """A real task. Actions are (A,) float32 in [-1, 1]; the same seed gives the same episode bit for bit."""

    config: TaskConfig

    @property
    def action_low(self) -> tuple[float, ...]:
        """What -1 means for each action dimension, in the robot's own units."""
        ...

    @property
    def action_high(self) -> tuple[float, ...]:
        """What +1 means for each action dimension, in the robot's own units."""
        ...

    @property
    def proprio_dim(self) -> int: ...

    @property
    def landmark_dim(self) -> int:
        """Numbers of `Observation.landmarks`, 0 for none."""
        ...

    @property
    def succeeded(self) -> bool:
        """The task's verdict on this episode so far, latched over every simulator step."""
        ...

    @property
    def score(self) -> float:
        """How much of the task is done at this moment, 0 to 1."""
        ...

    def reset(self, seed: int) -> Observation: ...

    def step(self, action: Vector) -> Observation: ...

    def render(self, size: int) -> Frame: ...

    def expert(self) -> Callable[[], Vector]:
        """A scripted expert for the running episode; each call gives the action for the present moment."""
        ...

    def player(self, rng: np.random.Generator) -> Callable[[], Vector]:
        """Somebody who plays with the things of the running episode without a purpose; called as an expert is."""
        ...

    def close(self) -> None: ...
