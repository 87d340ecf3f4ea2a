"""What a classifier says of many rows."""

import numpy as np
import torch
from numpy.typing import NDArray

from w4rl_fast.reward.model import RewardModel
from w4rl_fast.reward.rows import Rows, by_episode
from w4rl_fast.reward.rule import sigmoid

SLICE = 256


@torch.inference_mode()
def logits_of(model: RewardModel, rows: Rows) -> NDArray[np.float64]:
    """What the network says of every row (N,), before calibration."""
    parts = []
    for first in range(0, len(rows.success), SLICE):
        batch = rows.gather(np.arange(first, min(first + SLICE, len(rows.success))))
        parts.append(model.raw(batch.frames, batch.anchor))
    return np.asarray(torch.cat(parts).double())


def probabilities_of(model: RewardModel, rows: Rows) -> NDArray[np.float64]:
    """Probability of success of every row, episode by episode (E, longest), zero behind shorter ones."""
    said = logits_of(model, rows) * float(model.scale) + float(model.shift)
    return by_episode(sigmoid(said), rows)
