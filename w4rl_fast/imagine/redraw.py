"""Moments of a rollout imagined once more: the same past and the same action, another noise.

Shapes: N moments, B worlds, T frames of history, A action and P proprioception dimensions, S x S pixels.
"""

from typing import Protocol

import torch
from torch import Tensor

from w4rl_fast.imagine.engine import Imagination
from w4rl_fast.imagine.past import Inputs
from w4rl_kernels.noise import normal_noise

REDRAW_STREAM = 3
"""The stream of noise of second draws; frames, actions and starts have others."""


class Watched(Protocol):
    """What of a rollout is looked at: frames (steps, B, H, S, S, 3), proprio (steps, B, H, P), actions (steps, B, A),
    and rewards, probabilities, terminated and truncated (steps, B), as in `Rollout`.
    """

    @property
    def frames(self) -> Tensor: ...

    @property
    def proprio(self) -> Tensor: ...

    @property
    def actions(self) -> Tensor: ...

    @property
    def rewards(self) -> Tensor: ...

    @property
    def probabilities(self) -> Tensor: ...

    @property
    def terminated(self) -> Tensor: ...

    @property
    def truncated(self) -> Tensor: ...


@torch.no_grad()
def redraw(
    worlds: Imagination, rollout: Watched, steps: Tensor, which: Tensor, *, stream: int = REDRAW_STREAM
) -> Tensor:
    """Probability of success (N,) in what the actions of these steps (N,) in these worlds (N,) might have led to too.

    The rollout is the last one of these worlds, which still have its seeds and stay as they are. N is a multiple of
    their slice size.
    """
    seeds = worlds.seeds[which]
    episodes, ages = places_of(rollout, steps, which)
    inputs = inputs_of(worlds, rollout, steps, which, ages, worlds.starts.draw(seeds, episodes))
    noise = normal_noise(seeds, ages, episodes, inputs.anchor.shape[1:], stream=stream)
    parts = zip(*(torch.split(each, worlds.config.slice_size) for each in (*inputs, noise)), strict=True)
    return torch.cat([worlds.run(*part)[2].clone() for part in parts]).sigmoid()


def places_of(rollout: Watched, steps: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """The number (N,) of the episode that each moment belongs to, and how many steps (N,) of it came before."""
    ended = (rollout.terminated | rollout.truncated).long()
    numbers = (ended.cumsum(0) - ended)[:, which]
    episodes = numbers.gather(0, steps[None])[0]
    rows = torch.arange(len(numbers), device=numbers.device)[:, None]
    return episodes, ((numbers == episodes) & (rows < steps)).sum(0)


def inputs_of(
    worlds: Imagination, rollout: Watched, steps: Tensor, which: Tensor, ages: Tensor, chosen: Tensor
) -> Inputs:
    """What the world step was given at moments of these ages (N,): rows of the rollout, and before the episode those of
    the start (N,) that was chosen for it.
    """
    starts, history, column = worlds.starts, worlds.past.history, which[:, None]
    back = torch.arange(history - 1, -1, -1, device=steps.device)
    rows = (steps[:, None] - back).clamp_min(0)
    early = (history - 1 + ages[:, None] - back).clamp_max(history - 1)
    inside = back <= ages[:, None]

    def joined(seen: Tensor, begun: Tensor) -> Tensor:
        return torch.where(inside.view(*inside.shape, *[1] * (seen.ndim - 2)), seen, begun)

    begun = starts.rows[chosen[:, None], early]
    return Inputs(
        floats(joined(rollout.frames[rows, column, -1].movedim(-1, 2), starts.pixels[begun])),
        joined(rollout.proprio[rows, column, -1], starts.proprio[chosen[:, None], early]),
        joined(rollout.actions[rows, column].clamp(-1, 1), starts.actions[chosen[:, None], early]),
        floats(starts.pixels[starts.anchors[chosen]]),
        worlds.past.scenes[chosen],
    )


def floats(pixels: Tensor) -> Tensor:
    return pixels.float().div_(127.5).sub_(1)
