"""Do the surrogate's derivatives point where the truth goes? Its action gradients beside finite differences.

Shapes: N cases, S steps, D latent, A action dimensions.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from w4rl_fast.progress import Progress
from w4rl_fast.surrogate.decoupled import decoupled
from w4rl_fast.surrogate.model import Surrogate

Truth = Callable[[Tensor], Tensor]
"""Rewards (M, S) of taking actions (M, S, A) from the M starts that it is about, row by row."""
Slopes = Tensor
"""How the reward of step t depends on the action of step s: (N, S, S, A), [n, t, s, a]; zero where s is after t."""


class Cases(NamedTuple):
    """N stretches of life: latents (N, S + 1, D) as the eyes saw them and the actions (N, S, A) between."""

    latents: Tensor
    actions: Tensor


def differences(truth: Truth, actions: Tensor, width: float) -> Slopes:
    """Central finite differences of every reward by every action, one direction after another."""
    count, steps, dim = actions.shape
    slopes = torch.zeros(count, steps, steps, dim)
    with Progress("finite differences", total=steps * dim, unit="directions") as bar:
        for s in range(steps):
            for a in range(dim):
                moved = torch.zeros(steps, dim)
                moved[s, a] = width
                up, down = ((actions + side * moved).clamp(-1, 1) for side in (1, -1))
                apart = (up - down)[:, s, a].clamp_min(1e-6)
                slopes[:, :, s, a] = (truth(up) - truth(down)) / apart[:, None]
                bar.advance()
    return slopes


def foreseen(surrogate: Surrogate, cases: Cases, *, own: bool) -> Slopes:
    """The surrogate's derivatives, at the latents that came or, `own`, along its own rollout from the first of them."""
    count, steps, dim = cases.actions.shape
    slopes = torch.zeros(count, steps, steps, dim)
    actions = cases.actions.clone().requires_grad_()
    latent, cell, rewards = cases.latents[:, 0], surrogate.first_cell(count), []
    for t in range(steps):
        said = surrogate.step(latent, actions[:, t], cell)
        latent, cell = said.mean if own else decoupled(cases.latents[:, t + 1], said.mean), said.cell
        rewards.append(surrogate.reward(latent))
    for t, reward in enumerate(rewards):
        slopes[:, t] = torch.autograd.grad(reward.sum(), actions, retain_graph=t + 1 < steps)[0]
    return slopes


def gradient(slopes: Slopes, horizon: int, gamma: float) -> Tensor:
    """Of the discounted return of the first `horizon` steps by their actions: (N, horizon * A)."""
    weights = gamma ** torch.arange(horizon)
    return (slopes[:, :horizon, :horizon] * weights[:, None, None]).sum(1).flatten(1)


class Agreement(NamedTuple):
    """Of the cases where the truth has a gradient at all: mean cosine, the cosine of the mean gradient, and how long
    the foreseen one is of the true one; and how many cases there were.
    """

    cosine: float
    cosine_of_mean: float
    length: float
    cases: int


def agreement(true: Slopes, said: Slopes, horizon: int, gamma: float, *, still: float = 1e-3) -> Agreement:
    """How well one set of gradients agrees with another; where the true one is shorter than `still` there is none."""
    one, other = gradient(true, horizon, gamma), gradient(said, horizon, gamma)
    moving = one.norm(dim=1) > still
    one, other = one[moving], other[moving]
    if not len(one):
        return Agreement(0.0, 0.0, 0.0, 0)
    cosine = torch.cosine_similarity(one, other, dim=1).mean()
    of_mean = torch.cosine_similarity(one.mean(0), other.mean(0), dim=0)
    return Agreement(float(cosine), float(of_mean), float(other.norm() / one.norm()), len(one))
