"""What a surrogate is made of."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class SurrogateConfig:
    """Eyes over `history` observations that make `latent` numbers of them, and recurrent dynamics of these numbers.

    The eyes (`widths`, `points`, `hidden`) are grounded by what they can be read out to: landmarks, where the data have
    any, or else a coarse picture of `coarse` x `coarse` pixels; proprioception; and the reward. `cell` and `body` are
    the widths of the dynamics, which are conditioned on `actions` as they are or in two-hot bins. Log-variances of a
    step, in units of what a step usually changes, are softly kept within [log_variance_low, log_variance_high].
    """

    image_size: int
    action_dim: int
    proprio_dim: int
    landmark_dim: int = 0
    history: int = 2
    latent: int = 16
    widths: tuple[int, ...] = (32, 32, 32)
    points: int = 32
    hidden: int = 256
    coarse: int = 12
    cell: int = 64
    body: int = 128
    actions: Literal["raw", "two-hot"] = "raw"
    bins: int = 21
    log_variance_low: float = -10.0
    log_variance_high: float = 0.5

    def __post_init__(self) -> None:
        for name in ("history", "latent", "hidden", "coarse", "cell", "body"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: at least 1")
        if self.log_variance_low >= self.log_variance_high:
            raise ValueError(
                f"log_variance_low={self.log_variance_low}, log_variance_high={self.log_variance_high}: in this order"
            )
        if self.image_size < 2 ** len(self.widths):
            raise ValueError(f"image_size={self.image_size}: at least {2 ** len(self.widths)} for {self.widths}")
