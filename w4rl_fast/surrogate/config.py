"""What a surrogate is made of."""

from dataclasses import dataclass
from typing import Literal

from w4rl_fast.policy.observer import felt_dim


@dataclass(frozen=True, kw_only=True, slots=True)
class SurrogateConfig:
    """Eyes over `history` observations that see `latent` numbers in them, to which is added what the robot feels, and
    recurrent dynamics of all these.

    The eyes (`widths`, `points`, `hidden`) are grounded: where the data have landmarks, the first numbers are these;
    otherwise a coarse picture of `coarse` x `coarse` pixels can be read out of all; and so can the reward. `cell` and
    `body` are the widths of the dynamics, which are conditioned on `actions` as they are or in two-hot bins.
    Log-variances of a step, in units of what a step usually changes, are softly kept within [log_variance_low,
    log_variance_high].
    """

    image_size: int
    action_dim: int
    proprio_dim: int
    landmark_dim: int = 0
    history: int = 2
    latent: int = 12
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
        if self.latent < self.landmark_dim:
            raise ValueError(f"latent={self.latent}: at least one for each of the {self.landmark_dim} landmarks")
        if self.log_variance_low >= self.log_variance_high:
            raise ValueError(
                f"log_variance_low={self.log_variance_low}, log_variance_high={self.log_variance_high}: in this order"
            )
        if self.image_size < 2 ** len(self.widths):
            raise ValueError(f"image_size={self.image_size}: at least {2 ** len(self.widths)} for {self.widths}")

    @property
    def size(self) -> int:
        """Numbers of a whole latent: what is seen, and what is felt."""
        return self.latent + felt_dim(self)
