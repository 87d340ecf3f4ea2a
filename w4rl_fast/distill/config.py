"""How a student is distilled."""

from dataclasses import dataclass
from typing import Literal, get_args

from w4rl_fast.fit import FitConfig
from w4rl_fast.world.config import WorldConfig

MethodName = Literal["consistency", "own-rollout"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsistencyConfig:
    """The teacher leads from one of `levels` noise levels to the next; `focus` is the share of draws from the levels
    that the student itself is drawn from, the rest are spread evenly over all.
    """

    levels: int = 8
    focus: float = 0.5

    def __post_init__(self) -> None:
        if self.levels < 2 or not 0 <= self.focus <= 1:
            raise ValueError(f"levels={self.levels}, focus={self.focus}: at least two levels, and a share")


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnRolloutConfig:
    """The student goes on from its own frames for `length` steps, each penalised against what really followed, or
    against what the teacher makes of the same past and the same noise.

    The last step weighs 1 + `ramp` times as much as the first.
    """

    length: int = 3
    ramp: float = 1.0
    against: Literal["data", "teacher"] = "data"

    def __post_init__(self) -> None:
        if self.length < 1 or self.ramp < 0:
            raise ValueError(f"length={self.length}, ramp={self.ramp}: at least one step, and a ramp of 0 or more")
        if self.against not in ("data", "teacher"):
            raise ValueError(f"against={self.against!r}: data or teacher")


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillConfig:
    """A `student`, whose `sampling.steps` are the steps it is to be drawn in, and the method that makes it.

    `teacher_steps` are those that the teacher is drawn in for targets: by default its own.
    """

    student: WorldConfig
    method: MethodName = "own-rollout"
    fit: FitConfig = FitConfig(steps=500, batch=32, learning_rate=5e-4, ema=0.995, bf16=True)  # noqa: RUF009
    teacher_steps: int | None = None
    consistency: ConsistencyConfig = ConsistencyConfig()
    own: OwnRolloutConfig = OwnRolloutConfig()

    def __post_init__(self) -> None:
        if self.method not in get_args(MethodName):
            raise ValueError(f"method={self.method!r}: one of {', '.join(get_args(MethodName))}")
        if self.teacher_steps is not None and self.teacher_steps < 1:
            raise ValueError(f"teacher_steps={self.teacher_steps}: at least one")

    @classmethod
    def from_new_weights(cls, student: WorldConfig) -> "DistillConfig":
        """For a student of another shape than its teacher, which begins with weights that know nothing."""
        fit = FitConfig(steps=3000, batch=32, learning_rate=1e-3, ema=0.995, bf16=True)
        return cls(student=student, fit=fit, own=OwnRolloutConfig(length=2))

    @property
    def future(self) -> int:
        """Observations that a window needs behind its present."""
        return self.own.length if self.method == "own-rollout" else 1
