"""How far an imagined world can be believed: pictures and proprioception by horizon, beside what needs no model."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from w4rl_fast.data.windows import Batch
from w4rl_fast.truth.ssim import ssim
from w4rl_fast.world.rollout import Imagined

MOVED = 0.1
"""A pixel moves if a channel differs from the last real frame by more than this share of half the range."""
HAND = 3
"""The first proprioception dimensions are the hand's position in metres."""
SMALLEST = 1e-8
"""Squared errors below this one count as this one: no PSNR is above 80 dB."""

Curve = list[float | None]
Scores = dict[str, Tensor]
"""For each field of Fidelity but `episodes` one value an episode and step (B, H), NaN where nothing can be said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fidelity:
    """Each curve holds one value a step of the horizon, None where nothing moved: means over the episodes for
    pictures (PSNR in dB over the range of a byte), medians for the hand (metres).

    `moving` is over pixels that differ from the last real frame; `repeat` is what repeating that frame (or standing
    still) scores, `extrapolate` what going on with its last change does.
    """

    episodes: int
    psnr: Curve
    psnr_repeat: Curve
    psnr_extrapolate: Curve
    psnr_moving: Curve
    psnr_moving_repeat: Curve
    psnr_moving_extrapolate: Curve
    ssim: Curve
    ssim_repeat: Curve
    ssim_extrapolate: Curve
    proprio_error_m: Curve
    proprio_error_repeat_m: Curve


def score(batch: Batch, imagined: Imagined, history: int) -> Scores:
    """Compare imagined steps with the real future of the same windows, episode by episode."""
    real = batch.frames[:, history:].float()
    last, before = batch.frames[:, history - 1 : history].float(), batch.frames[:, max(history - 2, 0)][:, None].float()
    steps = torch.arange(1, real.shape[1] + 1).view(1, -1, 1, 1, 1)
    made = {
        "": imagined.frames,
        "_repeat": last.expand_as(real),
        "_extrapolate": (last + (last - before) * steps).clamp(-1, 1),
    }
    moving = moved(real, last)
    scores = {}
    for name, frames in made.items():
        scores[f"psnr{name}"] = psnr(frames, real)
        scores[f"psnr_moving{name}"] = psnr(frames, real, moving)
        scores[f"ssim{name}"] = ssim(frames, real)
    hand, start = batch.proprio[:, history:, :HAND], batch.proprio[:, history - 1 : history, :HAND]
    scores["proprio_error_m"] = (imagined.proprio[..., :HAND] - hand).norm(dim=-1)
    scores["proprio_error_repeat_m"] = (start - hand).norm(dim=-1)
    return scores


def summarise(scores: Scores) -> Fidelity:
    """Scores of many episodes as curves by step."""
    curves = {name: curve(values, median=name.endswith("_m")) for name, values in scores.items()}
    return Fidelity(episodes=len(scores["psnr"]), **curves)


def curve(values: Tensor, *, median: bool = False) -> Curve:
    """The mean or the median of each step over the episodes (B, H) that have a value."""
    middle = values.nanmedian(0).values if median else values.double().nanmean(0)
    return [None if math.isnan(value) else value for value in middle.tolist()]


def moved(frames: Tensor, last: Tensor) -> Tensor:
    """Which pixels of frames (..., 3, S, S) are not as they were: (..., 1, S, S)."""
    return (frames - last).abs().amax(-3, keepdim=True) > MOVED


def psnr(made: Tensor, real: Tensor, mask: Tensor | None = None) -> Tensor:
    """PSNR (...) in dB of frames (..., 3, S, S) on masked pixels (..., 1, S, S); NaN where the mask is empty."""
    squared = ((made - real) / 2).square()
    if mask is None:
        error = squared.mean((-3, -2, -1))
    else:
        error = (squared * mask).sum((-3, -2, -1)) / (squared.shape[-3] * mask.sum((-3, -2, -1)))
    return -10 * error.clamp_min(SMALLEST).log10()


def correlation(a: Tensor, b: Tensor) -> list[float]:
    """Pearson's correlation of two (N, D) samples, by column."""
    a, b = a - a.mean(0), b - b.mean(0)
    return [float(value) for value in (a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0)).clamp_min(1e-12)]
