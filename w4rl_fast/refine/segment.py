"""One segment of imagined life with a gradient through it.

Shapes: H steps, B worlds, D latent, C cell, A action dimensions.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from w4rl_fast.imagine.rollout import Sight
from w4rl_fast.imagine.worlds import Worlds
from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.refine.config import Roll
from w4rl_fast.refine.objective import entropy
from w4rl_fast.refine.through import Through
from w4rl_fast.refine.value import ValueNetwork
from w4rl_fast.surrogate.decoupled import decoupled
from w4rl_fast.surrogate.model import Surrogate


class Place(NamedTuple):
    """Where the worlds are: latents (B, D), and the cells (B, C) of all that was before."""

    latent: Tensor
    cell: Tensor

    def detach(self) -> "Place":
        return Place(self.latent.detach(), self.cell.detach())


class Segment(NamedTuple):
    """What happened, without gradients: latents (H, B, D) that were acted on and those that the actions led to, before
    any reset; actions (H, B, A); rewards (H, B); terminated and truncated (H, B) bool.
    """

    latents: Tensor
    after: Tensor
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor


class Lived(NamedTuple):
    """A segment, the objective (B,) of every world with its gradient, where the worlds are now, and the cosine (H,)
    between the change of the latent that was foreseen and the one that came.
    """

    segment: Segment
    objective: Tensor
    place: Place
    cosine: Tensor


class Eyes:
    """Looks at worlds with the eyes of a surrogate."""

    def __init__(self, surrogate: Surrogate, worlds: Worlds) -> None:
        self.surrogate, self.worlds = surrogate, worlds
        self.sight = Sight(worlds, surrogate.config.history)

    def look(self) -> Tensor:
        """The latents (B, D) of the present moments."""
        return self.surrogate.encode(*self.sight.look(self.worlds))


def live(
    policy: GaussianPolicy, surrogate: Surrogate, critic: ValueNetwork, eyes: Eyes, place: Place, chances: Tensor, *,
    roll: Roll, gamma: float, entropy_coefficient: float, excess: float, through: Through | None = None,
) -> Lived:  # fmt: skip
    """Act for a segment, by standard normal `chances` (H, B, A), from the present moments of the worlds.

    The objective is the discounted sum of rewards, entropy bonus and the critic's word on where it ended; an episode
    that ends inside the segment ends its sum, after truncation with the critic's word, and the next begins one anew.
    """
    worlds = eyes.worlds
    if through is not None:
        through.begin()
    rows: list[tuple[Tensor, ...]] = []
    true, now = place.detach(), place.detach()
    objective = torch.zeros_like(now.latent[:, 0])
    discount, over = torch.ones_like(objective), torch.zeros_like(objective, dtype=torch.bool)
    cosines = []
    for chance in chances:
        mean, std = policy.decide(now.latent)
        action = bounded(mean + std * chance)
        foreseen = surrogate.step(now.latent, action, now.cell)
        if roll == "surrogate":
            ended = terminated = truncated = torch.zeros_like(over)
            acted, before, came, after = action, now.latent, foreseen.mean, foreseen.mean
            real_cell = foreseen.cell
        else:
            with torch.no_grad():
                acted, real_cell = action, foreseen.cell
                if roll == "coupled":
                    other, deviation = policy.decide(true.latent)
                    acted = bounded(other + deviation * chance)
                    real_cell = surrogate.step(true.latent, acted, true.cell).cell
                outcome = worlds.advance(acted)
                came = eyes.look()
            before, terminated, truncated = true.latent, outcome.terminated, outcome.truncated
            ended = terminated | truncated
            expected = foreseen.mean if through is None else through.follow(action)
            after = foreseen.mean if roll == "coupled" else decoupled(came, expected)
            cosines.append(torch.cosine_similarity(foreseen.mean - now.latent, came - before, dim=1).mean().detach())
        beyond = (mean.abs() - 1).clamp_min(0).square().sum(1)
        reward = surrogate.reward(after)
        gained = reward + entropy_coefficient * entropy(std) - excess * beyond
        objective = objective + discount * gained + torch.where(truncated, gamma * discount * critic.judge(after), 0.0)
        paid = reward if roll != "coupled" else surrogate.reward(came)
        rows.append((before, came, acted, paid, terminated, truncated))
        discount, over = torch.where(ended, 1.0, gamma * discount), ended
        true, now = Place(came, real_cell), Place(after, foreseen.cell)
        if roll != "surrogate" and bool(ended.any()):
            worlds.restart(ended)
            true, now = begun(eyes, true, ended), begun(eyes, now, ended)
            if through is not None:
                through.restart(ended)
    objective = objective + torch.where(over, 0.0, discount * critic.judge(now.latent))
    segment = Segment(*(torch.stack(each).detach() for each in zip(*rows, strict=True)))
    agreed = torch.stack(cosines) if cosines else torch.ones(len(chances))
    return Lived(segment, objective, true.detach(), agreed)


def begun(eyes: Eyes, place: Place, ended: Tensor) -> Place:
    """The places with those of the worlds that ended where their next episodes begin."""
    rows = ended[:, None]
    return Place(torch.where(rows, eyes.look(), place.latent), place.cell.masked_fill(rows, 0.0))


def bounded(action: Tensor) -> Tensor:
    """Within [-1, 1] in value; beyond it still with a slope, so that nothing is stuck there."""
    return decoupled(action.clamp(-1, 1), action)
