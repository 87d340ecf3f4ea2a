"""How far an imagined world can be believed: pictures and proprioception by horizon, and response to actions."""

from dataclasses import dataclass

import torch
from torch import Tensor

from w4rl_fast.data.windows import Batch
from w4rl_fast.world.model import WorldModel
from w4rl_fast.world.rollout import Imagined, roll_out

MOVED = 0.1
"""A pixel moves if a channel differs from the last real frame by more than this share of half the range."""
HAND = 3
"""The first proprioception dimensions are the hand's position in metres."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fidelity:
    """Each list holds one value a step of the horizon; PSNR in dB over the range of a byte, errors in metres.

    `psnr_moving` is over pixels that differ from the last real frame; `psnr_moving_repeat` is what repeating that
    frame scores on them, `psnr_moving_extrapolate` what going on with its last change does.
    """

    episodes: int
    psnr: list[float]
    psnr_moving: list[float]
    psnr_moving_repeat: list[float]
    psnr_moving_extrapolate: list[float]
    proprio_error_m: list[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionResponse:
    """Displacement of the hand over the first steps, imagined against real, and under other actions.

    `correlation` by axis under the true actions; `shuffled` under those of another episode, whose hand it should then
    follow; `ignored` is what a model that ignores actions would score: imagined under shuffled actions against the
    episode's own hand.
    """

    steps: int
    correlation: list[float]
    shuffled: list[float]
    ignored: list[float]


def measure_fidelity(batch: Batch, imagined: Imagined, history: int) -> Fidelity:
    """Compare imagined steps with the real future of the same windows."""
    real = batch.frames[:, history:].float()
    last, before = batch.frames[:, history - 1 : history].float(), batch.frames[:, history - 2 : history - 1].float()
    steps = torch.arange(1, real.shape[1] + 1).view(1, -1, 1, 1, 1)
    moving = ((real - last).abs().amax(2, keepdim=True) > MOVED).float()
    drift = (last + (last - before) * steps).clamp(-1, 1)
    error = (imagined.proprio[..., :HAND] - batch.proprio[:, history:, :HAND]).norm(dim=-1)
    return Fidelity(
        episodes=len(real),
        psnr=psnr(imagined.frames, real, torch.ones_like(moving)),
        psnr_moving=psnr(imagined.frames, real, moving),
        psnr_moving_repeat=psnr(last.expand_as(real), real, moving),
        psnr_moving_extrapolate=psnr(drift, real, moving),
        proprio_error_m=error.median(0).values.tolist(),
    )


def psnr(made: Tensor, real: Tensor, mask: Tensor) -> list[float]:
    """Mean over episodes of the PSNR (dB) on masked pixels, by step; frames (B, H, 3, S, S), mask (B, H, 1, S, S)."""
    squared = (((made - real) / 2).square() * mask).sum((2, 3, 4)) / (3 * mask.sum((2, 3, 4))).clamp_min(1)
    decibels = -10 * squared.clamp_min(1e-8).log10()
    seen = mask.sum((2, 3, 4)) > 0
    return [float(decibels[:, h][seen[:, h]].mean()) if seen[:, h].any() else 80.0 for h in range(made.shape[1])]


def measure_response(model: WorldModel, batch: Batch, *, steps: int = 5, seed: int = 0) -> ActionResponse:
    """Roll the same starts out under their own actions and under those of the next episode of the batch."""
    history = model.config.history
    start = batch.proprio[:, history - 1, :HAND]
    real = batch.proprio[:, history + steps - 1, :HAND] - start
    own = roll_out(model, batch, seed=seed).proprio[:, steps - 1, :HAND] - start
    others = batch.actions.roll(1, 0)
    strange = roll_out(model, batch, others, seed=seed).proprio[:, steps - 1, :HAND] - start
    return ActionResponse(
        steps=steps,
        correlation=correlation(own, real),
        shuffled=correlation(strange, real.roll(1, 0)),
        ignored=correlation(strange, real),
    )


def correlation(a: Tensor, b: Tensor) -> list[float]:
    """Pearson's correlation of two (N, D) samples, by column."""
    a, b = a - a.mean(0), b - b.mean(0)
    return [float(value) for value in (a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0)).clamp_min(1e-12)]
