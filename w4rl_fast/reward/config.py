"""What a success classifier is made of, and when it says success."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardConfig:
    """A classifier of one frame, or of two that follow each other.

    `anchor`: it also sees the difference to the episode's first frame, as the world does; the same assumption.
    """

    image_size: int
    network: Literal["small", "resnet18"] = "small"
    frames: int = 1
    anchor: bool = True
    widths: tuple[int, ...] = (32, 64, 64)
    hidden: int = 128

    def __post_init__(self) -> None:
        if self.frames not in (1, 2):
            raise ValueError(f"frames={self.frames}: one frame, or two that follow each other")
        if self.image_size < 2 ** len(self.widths):
            raise ValueError(f"image_size={self.image_size}: at least {2 ** len(self.widths)} for {self.widths}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """An episode succeeds when `hits` frames in a row have a probability of at least `threshold`."""

    threshold: float = 0.5
    hits: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1 or self.hits < 1:
            raise ValueError(f"threshold={self.threshold}, hits={self.hits}: between 0 and 1, and at least 1")
