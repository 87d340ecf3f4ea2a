"""Episodes that were just played, imagined again from their start and their actions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from w4rl_fast.data.episode import Episode
from w4rl_fast.data.windows import Batch
from w4rl_fast.world.model import WorldModel
from w4rl_fast.world.rollout import roll_out


class Again(NamedTuple):
    """real (H + 1, 3, S, S) and imagined (H, 3, S, S) frames in [-1, 1]."""

    real: Tensor
    imagined: Tensor


def imagine_again(world: WorldModel, episodes: Sequence[Episode]) -> list[Again]:
    """What a world makes of the actions of episodes of one length, open loop from the first frame."""
    batch = batch_of(episodes, world.config.history)
    imagined = roll_out(world, batch).frames
    real = batch.frames[:, world.config.history - 1 :]
    return [Again(*pair) for pair in zip(real, imagined, strict=True)]


def batch_of(episodes: Sequence[Episode], history: int) -> Batch:
    """Whole episodes as windows whose present is the first row, repeated where there was nothing before it."""
    rows = np.maximum(np.arange(1 - history, len(episodes[0])), 0)
    taken = np.arange(1 - history, len(episodes[0]) - 1) >= 0
    pixels = torch.from_numpy(np.stack([episode.frames[rows] for episode in episodes]))
    frames = pixels.permute(0, 1, 4, 2, 3).float().div(127.5).sub(1.0)
    actions = np.stack([episode.actions[rows[:-1]] * taken[:, None] for episode in episodes])
    return Batch(
        frames=frames,
        anchor=frames[:, history - 1],
        actions=torch.from_numpy(actions),
        proprio=torch.from_numpy(np.stack([episode.proprio[rows] for episode in episodes])),
        success=torch.from_numpy(np.stack([episode.success[rows] for episode in episodes])),
        real=torch.from_numpy(np.tile(np.arange(1 - history, len(episodes[0])) >= 0, (len(episodes), 1))),
        episode=np.arange(len(episodes)),
        row=np.zeros(len(episodes), np.int64),
    )
