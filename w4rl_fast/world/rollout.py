"""Open loop: what the world imagines when it is given real actions and never sees a real frame again."""

from typing import NamedTuple

import torch
from torch import Tensor

from w4rl_fast.data.windows import Batch
from w4rl_fast.fit import generator_at
from w4rl_fast.world.losses import context_of
from w4rl_fast.world.model import WorldModel, shifted


class Imagined(NamedTuple):
    """H imagined steps: frames (B, H, 3, S, S) in [-1, 1] and proprio (B, H, P)."""

    frames: Tensor
    proprio: Tensor


@torch.inference_mode()
def roll_out(model: WorldModel, batch: Batch, actions: Tensor | None = None, *, seed: int = 0) -> Imagined:
    """Imagine the future of each window from its history, with its own actions or with others (B, T - 1, A).

    The noise of step h depends on the seed and h alone, so that two models, or two sets of actions, can be compared.
    """
    history = model.config.history
    acted = batch.actions if actions is None else actions
    steps = batch.frames.shape[1] - history
    context = context_of(batch, history)
    frames, places = [], []
    for step in range(steps):
        context = context._replace(actions=acted[:, step : step + history])
        noise = torch.randn(batch.frames[:, 0].shape, generator=generator_at(seed, step))
        frame, place = model(context, noise)
        frames.append(frame.float())
        places.append(place.float())
        context = shifted(context, frames[-1], places[-1])
    return Imagined(torch.stack(frames, 1), torch.stack(places, 1))
