"""Few-step students of a world: what they learn from, how they are compared, and where they lie in a run."""

from w4rl_fast.distill.config import DistillConfig
from w4rl_fast.distill.student import make_student, resampled
from w4rl_fast.distill.train import distill_run

__all__ = ["DistillConfig", "distill_run", "make_student", "resampled"]
