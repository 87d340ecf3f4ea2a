"""The gradient of the diffusion world itself, for those who want to see what a surrogate is for.

Shapes: B worlds, T frames of history, D latent, A action dimensions.
"""

import torch
from torch import Tensor

from w4rl_fast.errors import UserError
from w4rl_fast.imagine.engine import Imagination
from w4rl_fast.imagine.worlds import Worlds
from w4rl_fast.surrogate.decoupled import decoupled
from w4rl_fast.surrogate.model import Surrogate
from w4rl_fast.world.model import Context, shifted


class Through:
    """Follows imagined worlds with everything that an action changes still attached: the values are theirs, and the
    slopes those of the network, with rounding to bytes passed straight through.
    """

    def __init__(self, surrogate: Surrogate, worlds: Worlds) -> None:
        if not isinstance(worlds, Imagination):
            raise UserError(
                "roll=straight-through in a simulator",
                rule="only what a network imagines has a gradient",
                remedy="Imagine in the world of a run, or use another roll",
            )
        self.surrogate, self.worlds, self.world = surrogate, worlds, worlds.module.world
        self.context = self.now()

    def now(self) -> Context:
        """What the worlds remember at this moment, without a gradient; the action to come is still missing."""
        past, count = self.worlds.past, self.worlds.num_worlds
        rings = (past.frames[:count], past.proprio[:count], past.actions[:count])
        frames, proprio, actions = (torch.empty(ring.shape, device=ring.device) for ring in rings)
        for ring, out in zip(rings, (frames, proprio, actions), strict=True):
            past.unroll(ring, out)
        anchor = past.anchor[:count].float().div(127.5).sub(1)
        return Context(frames.div(127.5).sub(1), proprio, actions, anchor)

    def begin(self) -> None:
        """Forget all gradients."""
        self.context = self.now()

    def follow(self, action: Tensor) -> Tensor:
        """The latents (B, D) of what the worlds have just come to by these actions (B, A), as functions of them."""
        world, noise = self.world, self.worlds.noise[: self.worlds.num_worlds]
        context = self.context._replace(actions=torch.cat([self.context.actions[:, :-1], action[:, None]], 1))
        place = world.predict_proprio(context)

        def denoise(x: Tensor, sigma: float) -> Tensor:
            levels = torch.full((len(x),), sigma, dtype=x.dtype, device=x.device)
            return world.denoise(x, levels, context, place)

        target = world.sampler(denoise, noise * world.start_std, self.worlds.module.sigmas)
        came = self.worlds.ended_with()
        frame = decoupled(came.frames.float().div(127.5).sub(1), world.to_frame(target, context))
        context = shifted(context, frame, decoupled(came.proprio.clone(), place))
        blank = torch.zeros_like(action)
        self.context = context._replace(actions=torch.cat([context.actions[:, 1:], blank[:, None]], 1))
        history = self.surrogate.config.history
        return self.surrogate.eyes.observe(self.context.frames[:, -history:], self.context.proprio[:, -history:])

    def restart(self, ended: Tensor) -> None:
        """The worlds of a mask (B,) have begun anew."""
        fresh = self.now()
        pairs = zip(fresh, self.context, strict=True)
        self.context = Context(*(torch.where(ended.view(-1, *[1] * (old.ndim - 1)), new, old) for new, old in pairs))
