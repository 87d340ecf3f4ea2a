"""What the two parts of a world are trained for, one batch at a time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from w4rl_fast.data.windows import Batch
from w4rl_fast.world.denoiser import draw_sigma, scales, spread
from w4rl_fast.world.model import Context, WorldModel, shifted

VISIBLE = 0.05
"""Pixels move that change by more than this, of 2 from black to white."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnRollouts:
    """Windows whose history the world has imagined itself, so that it learns to mend its own mistakes.

    They are `share` of a batch from `start` of the training on (a world that is not good yet learns nothing from its
    rollouts), and up to `steps` long. None by default: on ten minutes' training they cost 1 dB at the first step and
    gained .2 dB at the eighteenth.
    """

    share: float = 0.0
    start: float = 0.7
    steps: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or not 0 <= self.start <= 1 or self.steps < 1:
            raise ValueError(f"share={self.share}, start={self.start}, steps={self.steps}: shares, and at least a step")


def denoising_loss(
    model: WorldModel,
    context: Context,
    frame: Tensor,
    place: Tensor,
    disturbance: Disturbance,
    generator: torch.Generator,
    *,
    moving: float = 0.0,
) -> Tensor:
    """Squared error of the backbone's output at random noise levels, where (frame, place) follow the context; pixels
    that change count for `moving` more than the others.
    """
    config = model.config
    change = (frame - context.frames[:, -1]).abs().amax(1, keepdim=True)
    noise = torch.randn(context.frames.shape, generator=generator)
    strength = disturbance.frames * torch.rand(len(noise), 1, 1, 1, 1, generator=generator)
    context = context._replace(frames=context.frames + strength * noise)
    target = model.to_target(frame, context)
    place = place + disturbance.proprio * model.head.std * torch.randn(place.shape, generator=generator)
    sigma = draw_sigma(torch.rand(len(target), generator=generator), config.noise)
    offset = config.noise.offset * torch.randn(len(target), 3, 1, 1, generator=generator)
    noisy = target + offset + spread(sigma) * torch.randn(target.shape, generator=generator)
    c = scales(sigma, config.noise)
    out = model.network(noisy * spread(c.into), c.noise, context, place)
    wanted = (target - spread(c.skip) * noisy) / spread(c.out)
    errors = (out.float() - wanted).square()
    if not moving:
        return errors.mean()
    weights = 1 + moving * (change > VISIBLE)
    return (errors * weights).sum() / (3 * weights.sum())


@torch.no_grad()
def imagine_history(
    model: WorldModel, batch: Batch, steps: int, imagined: int, generator: torch.Generator
) -> tuple[Context, Tensor]:
    """The context `steps` after the present of each window, imagined in one sampling step each for the last `imagined`
    windows and real for the others; and the place (B, P) that is to follow, predicted or real.
    """
    history = model.config.history
    real = context_of(batch, history, steps)
    place = batch.proprio[:, history + steps]
    if not imagined or not steps:
        return real, place
    own = Context(*(part[-imagined:] for part in context_of(batch, history)))
    scene = model.head.look(own.anchor)
    actions = batch.actions[-imagined:]
    for step in range(steps):
        own = own._replace(actions=actions[:, step : step + history])
        noise = torch.randn(own.anchor.shape, generator=generator)
        frame, after = model(own, noise, levels=model.levels[:1], scene=scene)
        own = shifted(own, frame.float(), after.float())
    own = own._replace(actions=actions[:, steps : steps + history])
    mixed = Context(*(torch.cat([part[:-imagined], mine]) for part, mine in zip(real, own, strict=True)))
    return mixed, torch.cat([place[:-imagined], model.predict_proprio(own, scene).float()])


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
