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
    latents: Tensor
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
    frames, proprio, latents = (each.flatten(0, 1) for each in (rollout.frames, rollout.proprio, rollout.latents))
    split = (each.tensor_split(parts) for each in (frames, proprio, latents))
    cloned = [act(clone, see(*some)) for some in zip(*split, strict=True)]
    return Samples(
        frames=frames,
        proprio=proprio,
        latents=latents,
        actions=rollout.actions.flatten(0, 1),
        log_probs=rollout.log_probs.flatten(),
        clone_mean=torch.cat([mean for mean, _ in cloned]).float(),
        clone_std=torch.cat([std for _, std in cloned]).float(),
        advantages=advantages.flatten(),
        returns=returns.flatten(),
    )


def see(frames: Tensor, proprio: Tensor, latents: Tensor) -> tuple[Tensor, ...]:
    """What networks decide on: what frozen eyes saw, or pictures and proprioception where there are none."""
    return (latents,) if latents.shape[-1] else (pictures(frames), proprio)


def act(policy: GaussianPolicy, seen: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Mean and deviation (N, A) of a policy at what it sees."""
    return policy.decide(*seen) if len(seen) == 1 else policy(*seen)


def pictures(frames: Tensor) -> Tensor:
    """Frames (N, H, S, S, 3) uint8 as a network sees them: (N, H, 3, S, S) in [-1, 1]."""
    return frames.movedim(-1, -3).float().div(127.5).sub(1.0)
