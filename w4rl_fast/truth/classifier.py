"""How well a classifier reads real frames it never saw."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.reward import RewardModel, Rule
from w4rl_fast.reward.read import probabilities_of
from w4rl_fast.reward.rows import Rows, outcomes
from w4rl_fast.reward.rule import says_success
from w4rl_fast.truth.intervals import Share, wilson

BINS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Frames by tenths of what the classifier said: how many, what it said on average, how many were successes."""

    frames: list[int]
    said: list[float | None]
    true: list[float | None]
    error: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadingQuality:
    """Precision and recall of frames called success at one half; false positives and recall of episodes by the rule."""

    frames: int
    precision: float
    recall: float
    false_positives: Share
    found: Share
    calibration: Calibration


def judge_reading(model: RewardModel, rule: Rule, rows: Rows) -> ReadingQuality:
    """Read every row, frame by frame and episode by episode; there are both successes and failures among them."""
    said, real = probabilities_of(model, rows), outcomes(rows)
    inside = np.arange(said.shape[1]) < rows.lengths[:, None]
    frames, labels = said[inside], rows.success
    hit = frames >= 0.5
    verdicts = says_success(said, rule)
    return ReadingQuality(
        frames=len(frames),
        precision=float((hit & labels).sum() / max(hit.sum(), 1)),
        recall=float((hit & labels).sum() / max(labels.sum(), 1)),
        false_positives=wilson(int(verdicts[~real].sum()), int((~real).sum())),
        found=wilson(int(verdicts[real].sum()), int(real.sum())),
        calibration=measure_calibration(frames, labels),
    )


def measure_calibration(said: NDArray[np.float64], real: NDArray[np.bool_]) -> Calibration:
    """Of probabilities (N,) against what was true (N,); `error` is the expected calibration error."""
    tenth = np.minimum((said * BINS).astype(np.int64), BINS - 1)
    groups = [tenth == number for number in range(BINS)]
    sizes = [int(group.sum()) for group in groups]
    means = [float(said[group].mean()) if group.any() else None for group in groups]
    shares = [float(real[group].mean()) if group.any() else None for group in groups]
    gaps = [
        size * abs(mean - share)
        for size, mean, share in zip(sizes, means, shares, strict=True)
        if mean is not None and share is not None
    ]
    return Calibration(frames=sizes, said=means, true=shares, error=sum(gaps) / len(said))
