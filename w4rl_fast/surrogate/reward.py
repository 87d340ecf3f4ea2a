"""The dense reward that a surrogate learns to read off its latent."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from w4rl_fast.data.windows import Batch
from w4rl_fast.reward import load_reward
from w4rl_fast.surrogate.config import SurrogateConfig
from w4rl_fast.tasks import TaskConfig
from w4rl_fast.tasks.reward import Closeness, closeness_of


class Moment(NamedTuple):
    """B moments: the newest two frames (B, 2, 3, S, S) in [-1, 1] and the first one (B, 3, S, S) of their episodes,
    proprioception (B, P), and landmarks (B, K), where there are any.
    """

    frames: Tensor
    anchor: Tensor
    proprio: Tensor
    landmarks: Tensor | None


Paid = Callable[[Moment], Tensor]
"""The dense reward (B,) of being there."""
SHARPEST = 6.0
"""Log-odds beyond which a classifier is sure, one way or the other."""


def moment_of(batch: Batch, t: int) -> Moment:
    """Observation t of the windows of a batch, which have their first frames beside them."""
    assert batch.anchor is not None, "windows are made with anchor=True"
    frames = torch.stack([batch.frames[:, max(t - 1, 0)], batch.frames[:, t]], 1)
    landmarks = None if batch.landmarks is None else batch.landmarks[:, t]
    return Moment(frames, batch.anchor, batch.proprio[:, t], landmarks)


def paid_by(run: Path, task: TaskConfig, config: SurrogateConfig) -> Paid:
    """By the task's landmarks, if the surrogate knows any; otherwise by the run's classifier, which is then needed."""
    closeness = closeness_of(task) if config.landmark_dim else None
    return by_landmarks(closeness) if closeness is not None else by_classifier(run)


def by_landmarks(closeness: Closeness) -> Paid:
    def paid(moment: Moment) -> Tensor:
        assert moment.landmarks is not None
        return closeness(moment.landmarks, moment.proprio)

    return paid


def by_classifier(run: Path) -> Paid:
    """Log-odds of success from -1 to 1: they have a slope where probabilities have none any more."""
    model, _ = load_reward(run)

    @torch.no_grad()
    def paid(moment: Moment) -> Tensor:
        logits: Tensor = model(moment.frames[:, -model.config.frames :], moment.anchor)
        return logits.clamp(-SHARPEST, SHARPEST) / SHARPEST

    return paid
