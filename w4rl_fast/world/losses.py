"""What the two parts of a world are trained for, one batch at a time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from w4rl_fast.data.windows import Batch
from w4rl_fast.world.denoiser import draw_sigma, scales, spread
from w4rl_fast.world.model import Context, WorldModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Disturbance:
    """Noise on what the world is shown in training, so that it bears its own mistakes later.

    `frames` in units of the picture (2 from black to white), `proprio` in deviations of the data.
    """

    frames: float = 0.05
    proprio: float = 0.02


def context_of(batch: Batch, history: int, first: int = 0) -> Context:
    """The context of the step from observation first + history - 1 of each window to the next."""
    window = slice(first, first + history)
    assert batch.anchor is not None
    return Context(batch.frames[:, window], batch.proprio[:, window], batch.actions[:, window], batch.anchor)


def denoising_loss(model: WorldModel, batch: Batch, disturbance: Disturbance, generator: torch.Generator) -> Tensor:
    """Squared error of the backbone's output at random noise levels; windows hold one future observation."""
    config = model.config
    history = config.history
    clean = context_of(batch, history)
    noise = torch.randn(clean.frames.shape, generator=generator)
    strength = disturbance.frames * torch.rand(len(noise), 1, 1, 1, 1, generator=generator)
    context = clean._replace(frames=clean.frames + strength * noise)
    target = model.to_target(batch.frames[:, history], context)
    place = batch.proprio[:, history]
    place = place + disturbance.proprio * model.head.std * torch.randn(place.shape, generator=generator)
    sigma = draw_sigma(torch.rand(len(target), generator=generator), config.noise)
    offset = config.noise.offset * torch.randn(len(target), 3, 1, 1, generator=generator)
    noisy = target + offset + spread(sigma) * torch.randn(target.shape, generator=generator)
    c = scales(sigma, config.noise)
    out = model.network(noisy * spread(c.into), c.noise, context, place)
    wanted = (target - spread(c.skip) * noisy) / spread(c.out)
    return (out.float() - wanted).square().mean()


def proprio_loss(model: WorldModel, batch: Batch, disturbance: Disturbance, generator: torch.Generator) -> Tensor:
    """Error of the vector head over its own rollout, as long as the windows' future."""
    history, head = model.config.history, model.head
    assert batch.anchor is not None
    scene = head.look(batch.anchor)
    seen = batch.proprio[:, :history]
    seen = seen + disturbance.proprio * head.step_std * torch.randn(seen.shape, generator=generator)
    errors = []
    for first in range(batch.proprio.shape[1] - history):
        place = head(scene, seen, batch.actions[:, first : first + history])
        errors.append(((place - batch.proprio[:, first + history]) / head.std).abs().mean())
        seen = torch.cat([seen[:, 1:], place[:, None]], dim=1)
    return torch.stack(errors).mean()
