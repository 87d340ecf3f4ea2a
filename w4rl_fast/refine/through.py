"""The gradient of the diffusion world itself, for those who want to see what a surrogate is for.

Shapes: B worlds, T frames of history, D latent, A action dimensions.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from w4rl_fast.errors import UserError
from w4rl_fast.imagine.engine import Imagination
from w4rl_fast.imagine.worlds import Worlds
from w4rl_fast.surrogate.decoupled import decoupled
from w4rl_fast.surrogate.model import Surrogate
from w4rl_fast.world.model import Context, shifted, sigmas_of


class Moment(NamedTuple):
    """What a world came to: the noise (B, ...) that it was drawn from, frames (B, 3, S, S) in [-1, 1], proprioception
    (B, P), and which worlds (B,) began anew after it, where.
    """

    noise: Tensor
    frames: Tensor
    proprio: Tensor
    ended: Tensor | None = None
    fresh: Context | None = None


class Through:
    """Follows a segment of imagined worlds with everything that an action changes still attached: the values are those
    that came, and the slopes those of the network, with rounding to bytes passed straight through.

    A segment is remembered as it is lived, and may then be followed as often as one wants.
    """

    def __init__(self, surrogate: Surrogate, worlds: Worlds) -> None:
        if not isinstance(worlds, Imagination):
            raise UserError(
                "roll=straight-through in a simulator",
                rule="only what a network imagines has a gradient",
                remedy="Imagine in the world of a run, or use another roll",
            )
        self.surrogate, self.worlds, self.world = surrogate, worlds, worlds.module.world
        self.begin()

    def now(self) -> Context:
        """What the worlds remember at this moment; the action to come is still missing."""
        past, count = self.worlds.past, self.worlds.num_worlds
        rings = (past.frames[:count], past.proprio[:count], past.actions[:count])
        frames, proprio, actions = (torch.empty(ring.shape, device=ring.device) for ring in rings)
        for ring, out in zip(rings, (frames, proprio, actions), strict=True):
            past.unroll(ring, out)
        anchor = past.anchor[:count].float().div(127.5).sub(1)
        return Context(frames.div(127.5).sub(1), proprio, actions, anchor)

    def begin(self) -> None:
        """A segment begins at this moment."""
        self.first, self.moments = self.now(), list[Moment]()
        self.rewind()

    def remember(self) -> None:
        """The worlds have come one step further."""
        came = self.worlds.ended_with()
        noise = self.worlds.last_noise()
        self.moments.append(Moment(noise, came.frames.float().div(127.5).sub(1), came.proprio.clone()))

    def remember_restart(self, ended: Tensor) -> None:
        """After that step, the worlds of a mask (B,) have begun anew."""
        self.moments[-1] = self.moments[-1]._replace(ended=ended, fresh=self.now())

    def rewind(self) -> None:
        """Back to the beginning of the segment, without any gradient."""
        self.context, self.at = self.first, 0

    def follow(self, action: Tensor) -> Tensor:
        """The latents (B, D) that the next step of the segment led to, as functions of these actions (B, A)."""
        world, moment = self.world, self.moments[self.at]
        context = self.context._replace(actions=torch.cat([self.context.actions[:, :-1], action[:, None]], 1))
        place = world.predict_proprio(context)

        def denoise(x: Tensor, sigma: float) -> Tensor:
            levels = torch.full((len(x),), sigma, dtype=x.dtype, device=x.device)
            return world.denoise(x, levels, context, place)

        target = world.sampler(denoise, moment.noise * world.start_std, sigmas_of(self.worlds.module.levels))
        frame = decoupled(moment.frames, world.to_frame(target, context))
        context = shifted(context, frame, decoupled(moment.proprio, place))
        blank = torch.zeros_like(action)
        context = context._replace(actions=torch.cat([context.actions[:, 1:], blank[:, None]], 1))
        history = self.surrogate.config.history
        latent: Tensor = self.surrogate.eyes.observe(context.frames[:, -history:], context.proprio[:, -history:])
        self.context, self.at = after_restart(context, moment), self.at + 1
        return latent


def after_restart(context: Context, moment: Moment) -> Context:
    """What the worlds remember, those that began anew only of where they began."""
    if moment.ended is None or moment.fresh is None:
        return context
    ended, pairs = moment.ended, zip(moment.fresh, context, strict=True)
    return Context(*(torch.where(ended.view(-1, *[1] * (old.ndim - 1)), new, old) for new, old in pairs))
