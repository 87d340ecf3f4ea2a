"""What is learnt from: the moments of a rollout, in no order."""

from typing import NamedTuple

import torch
from torch import Tensor

from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.refine.rollout import Rollout


class Samples(NamedTuple):
    """The N = steps x B moments of a rollout, (N, ...) as there, with what the cloned policy would have done."""

    frames: Tensor
    proprio: Tensor
    actions: Tensor
    log_probs: Tensor
    clone_mean: Tensor
    clone_std: Tensor
    advantages: Tensor
    returns: Tensor

    def at(self, rows: Tensor) -> "Samples":
        return Samples(*(each[rows] for each in self))


@torch.no_grad()
def gather(rollout: Rollout, advantages: Tensor, returns: Tensor, clone: GaussianPolicy, parts: int) -> Samples:
    """All moments of a rollout; the clone sees them in `parts`, since its activations on all at once may not fit."""
    frames, proprio = rollout.frames.flatten(0, 1), rollout.proprio.flatten(0, 1)
    pairs = zip(frames.tensor_split(parts), proprio.tensor_split(parts), strict=True)
    cloned = [clone(pictures(some), felt) for some, felt in pairs]
    return Samples(
        frames=frames,
        proprio=proprio,
        actions=rollout.actions.flatten(0, 1),
        log_probs=rollout.log_probs.flatten(),
        clone_mean=torch.cat([mean for mean, _ in cloned]).float(),
        clone_std=torch.cat([std for _, std in cloned]).float(),
        advantages=advantages.flatten(),
        returns=returns.flatten(),
    )


def pictures(frames: Tensor) -> Tensor:
    """Frames (N, H, S, S, 3) uint8 as a network sees them: (N, H, 3, S, S) in [-1, 1]."""
    return frames.movedim(-1, -3).float().div(127.5).sub(1.0)
