"""What the parts of a surrogate are trained for, one batch at a time."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from w4rl_fast.surrogate.model import Dynamics, Surrogate
from w4rl_fast.surrogate.tracks import Track


def eyes_loss(
    surrogate: Surrogate, ahead: nn.Module, frames: Tensor, proprio: Tensor, scene: Tensor, actions: Tensor,
    reward: Tensor, noise: float, generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """How badly a latent says what the scene (B, 2, K), the robot and the reward are, and, by way of `ahead`, how an
    action changes them.

    frames (B, H + 1, ...) and proprio (B, H + 1, P): the last is what the action (B, A) led to, as is the last scene.
    """
    history, eyes, reads = surrogate.config.history, surrogate.eyes, surrogate.reads
    strength = noise * torch.rand(len(frames), 1, 1, 1, 1, generator=generator)
    shown = frames[:, :history] + strength * torch.randn(frames[:, :history].shape, generator=generator)
    latent = eyes.observe(shown, proprio[:, :history])
    body = (proprio[:, history - 1 :] - eyes.proprio_mean) / eyes.proprio_std
    changes = torch.cat([scene.diff(dim=1)[:, 0] / CHANGE, body.diff(dim=1)[:, 0] / CHANGE], dim=1)
    foreseen = ahead(torch.cat([latent, actions], dim=1))
    return (
        near(reads.scene(latent), scene[:, 0])
        + near(reads.reward(latent)[:, 0], reward)
        + 0.1 * F.smooth_l1_loss(foreseen, changes)
    )


def near(said: Tensor, true: Tensor) -> Tensor:
    """The mean distance, in deviations of the data: what is nearly right still wants to be exact."""
    return F.smooth_l1_loss(said, true, beta=EXACT)


EXACT = 0.05
CHANGE = 0.1
"""A usual change of a step, in deviations."""


def dynamics_loss(dynamics: Dynamics, track: Track, *, open_loop: float = 0.5) -> Tensor:
    """Negative log-likelihood of every next latent given the true one before it, and the error of a rollout from the
    first latent alone, in units of usual changes.
    """
    latents, actions = track
    cell = free_cell = torch.zeros(len(latents), dynamics.config.cell, device=latents.device)
    free = latents[:, 0]
    total = torch.zeros((), device=latents.device)
    for t in range(actions.shape[1]):
        said = dynamics(latents[:, t], actions[:, t], cell)
        cell = said.cell
        error = (said.mean - latents[:, t + 1]) / dynamics.step_std
        # Weighted by its own deviation, so that what is known to a hair does not outweigh all the rest.
        weight = (0.5 * said.log_variance).exp().detach()
        likelihood = error.square() * (-said.log_variance).exp() + said.log_variance
        total = total + 0.5 * (weight * likelihood).mean()
        if open_loop:
            dreamt = dynamics(free, actions[:, t], free_cell)
            free, free_cell = dreamt.mean, dreamt.cell
            off = (free - latents[:, t + 1]) / dynamics.step_std
            total = total + open_loop * F.smooth_l1_loss(off, torch.zeros_like(off))
    return total / actions.shape[1]
