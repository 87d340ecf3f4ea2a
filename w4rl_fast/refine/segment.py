"""One segment of imagined life, and afterwards a gradient through it.

Shapes: H steps, B worlds, D latent, C cell, A action dimensions.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from w4rl_fast.imagine.rollout import Sight
from w4rl_fast.imagine.worlds import Worlds
from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.refine.objective import entropy
from w4rl_fast.refine.through import Through
from w4rl_fast.refine.value import ValueNetwork
from w4rl_fast.surrogate.decoupled import decoupled
from w4rl_fast.surrogate.model import Surrogate


class Place(NamedTuple):
    """Where the worlds are: latents (B, D), and the cells (B, C) of all that was before."""

    latent: Tensor
    cell: Tensor


class Segment(NamedTuple):
    """What happened, without gradients: latents (H, B, D) that were acted on and those that the actions led to, before
    any reset; actions (H, B, A) and the standard normal chances (H, B, A) in them; rewards (H, B); terminated and
    truncated (H, B) bool; the cells (H, B, C) of all that was before each action.
    """

    latents: Tensor
    after: Tensor
    actions: Tensor
    chances: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    cells: Tensor


class Lived(NamedTuple):
    """A segment, where the worlds are after it, and by step the cosine (H,) between the change of the latent that was
    foreseen and the one that came.
    """

    segment: Segment
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


@torch.no_grad()
def live(
    policy: GaussianPolicy, surrogate: Surrogate, eyes: Eyes, place: Place, chances: Tensor, *, alone: bool = False,
    through: Through | None = None,
) -> Lived:  # fmt: skip
    """Act for a segment, by standard normal `chances` (H, B, A), from the present moments of the worlds; `alone`, in
    what the surrogate foresees and no world.
    """
    if through is not None:
        through.begin()
    rows, cosines = list[tuple[Tensor, ...]](), list[Tensor]()
    now = place
    never = torch.zeros_like(place.latent[:, 0], dtype=torch.bool)
    for chance in chances:
        mean, std = policy.decide(now.latent)
        action = (mean + std * chance).clamp(-1, 1)
        foreseen = surrogate.step(now.latent, action, now.cell)
        came, terminated, truncated = foreseen.mean, never, never
        if not alone:
            outcome = eyes.worlds.advance(action)
            came, terminated, truncated = eyes.look(), outcome.terminated, outcome.truncated
        changes = foreseen.mean - now.latent, came - now.latent
        cosines.append(torch.cosine_similarity(*changes, dim=1).mean())
        rows.append((now.latent, came, action, chance, surrogate.reward(came), terminated, truncated, now.cell))
        now = Place(came, foreseen.cell)
        if through is not None:
            through.remember()
        if not alone and bool((ended := terminated | truncated).any()):
            eyes.worlds.restart(ended)
            now = begun(now, eyes.look(), ended)
            if through is not None:
                through.remember_restart(ended)
    segment = Segment(*(torch.stack(each) for each in zip(*rows, strict=True)))
    return Lived(segment, now, torch.stack(cosines))


def worth(
    policy: GaussianPolicy, surrogate: Surrogate, critic: ValueNetwork, segment: Segment, *, gamma: float,
    entropy_coefficient: float, excess: float, through: Through | None = None,
) -> Tensor:  # fmt: skip
    """What a segment was worth in every world (B,), as a function of what the policy decides.

    The discounted sum of rewards, entropy bonus and the critic's word on where it ended; an episode that ends inside
    the segment ends its sum, after truncation with the critic's word, and the next begins one anew. All values are
    those of the segment, of its actions too, whatever the policy would do by now.
    """
    if through is not None:
        through.rewind()
    now = Place(segment.latents[0], segment.cells[0])
    objective = torch.zeros_like(now.latent[:, 0])
    discount, over = torch.ones_like(objective), torch.zeros_like(objective, dtype=torch.bool)
    for t, chance in enumerate(segment.chances):
        came, truncated = segment.after[t], segment.truncated[t]
        mean, std = policy.decide(now.latent)
        action = decoupled(segment.actions[t], (mean + std * chance).clamp(-1, 1))
        foreseen = surrogate.step(now.latent, action, now.cell)
        after = decoupled(came, foreseen.mean if through is None else through.follow(action))
        gained = surrogate.reward(after) + besides(mean, std, entropy_coefficient, excess)
        objective = objective + discount * gained + torch.where(truncated, gamma * discount * critic.judge(after), 0.0)
        over = segment.terminated[t] | truncated
        discount = torch.where(over, 1.0, gamma * discount)
        following = segment.latents[t + 1] if t + 1 < len(segment.latents) else came
        now = begun(Place(after, foreseen.cell), following, over)
    return objective + torch.where(over, 0.0, discount * critic.judge(now.latent))


def rehearsed(
    policy: GaussianPolicy, surrogate: Surrogate, critic: ValueNetwork, place: Place, chances: Tensor, *, gamma: float,
    entropy_coefficient: float, excess: float,
) -> Tensor:  # fmt: skip
    """What the surrogate foresees (B,) of acting as the policy does now, by `chances` (H, B, A), from some places."""
    objective, discount = torch.zeros_like(place.latent[:, 0]), 1.0
    for chance in chances:
        mean, std = policy.decide(place.latent)
        foreseen = surrogate.step(place.latent, (mean + std * chance).clamp(-1, 1), place.cell)
        place = Place(foreseen.mean, foreseen.cell)
        gained = surrogate.reward(place.latent) + besides(mean, std, entropy_coefficient, excess)
        objective, discount = objective + discount * gained, gamma * discount
    return objective + discount * critic.judge(place.latent)


def besides(mean: Tensor, std: Tensor, entropy_coefficient: float, excess: float) -> Tensor:
    """What a decision (B, A) is worth besides what comes of it."""
    return entropy_coefficient * entropy(std) - excess * (mean.abs() - 1).clamp_min(0).square().sum(1)


def begun(place: Place, there: Tensor, ended: Tensor) -> Place:
    """The places, with those of the worlds that ended where their next episodes begin, at the latents `there`."""
    rows = ended[:, None]
    return Place(torch.where(rows, there, place.latent), place.cell.masked_fill(rows, 0.0))
