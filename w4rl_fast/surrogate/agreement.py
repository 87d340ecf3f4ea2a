"""How well a surrogate agrees: its rollouts with reality and with the world, its derivatives with finite differences.

Shapes: N stretches, S steps, D latent, K landmark, A action dimensions.
"""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from w4rl_fast.data.windows import Batch
from w4rl_fast.surrogate.gradients import Agreement, Cases, Slopes, Truth, agreement, foreseen
from w4rl_fast.surrogate.model import Surrogate
from w4rl_fast.surrogate.reward import Paid, moment_of
from w4rl_fast.tasks import TaskConfig
from w4rl_fast.tasks.reward import errors_of
from w4rl_fast.world.model import WorldModel
from w4rl_fast.world.rollout import roll_out


@dataclass(frozen=True, kw_only=True, slots=True)
class AgreementConfig:
    """`cases` stretches of `steps` steps; finite differences are `width` wide to either side, and returns discounted by
    `gamma`. A case is touched if a landmark moves by more than `touch` in it, or, without any, the coarse picture.
    """

    cases: int = 64
    steps: int = 8
    width: float = 0.1
    gamma: float = 0.97
    touch: float = 0.02
    noise: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.cases, self.steps) < 1 or not 0 < self.width < 1:
            raise ValueError(f"cases={self.cases}, steps={self.steps}, width={self.width}: 1 or more, and from 0 to 1")

    @property
    def horizons(self) -> list[int]:
        """Powers of two up to the steps, and these."""
        return sorted({*(2**n for n in range(self.steps.bit_length()) if 2**n <= self.steps), self.steps})


@dataclass(frozen=True, kw_only=True, slots=True)
class Errors:
    """By step, 1 to S: root mean square error of the latent; medians of what the task measures; error and correlation
    of the reward. What is compared with reality is named by `of`.
    """

    of: str
    latent: tuple[float, ...]
    task: dict[str, tuple[float, ...]]
    reward: tuple[float, ...]
    correlation: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class GradientRow:
    """Agreement at one horizon: of which surrogate's derivatives, how taken, with whose differences, on which cases."""

    truth: str
    taken: str
    cases: str
    horizon: int
    cosine: float
    cosine_of_mean: float
    length: float
    count: int


def latents_of(surrogate: Surrogate, batch: Batch, steps: int) -> Tensor:
    """What the eyes make of the beginning of each window's future and of every step after: (N, S + 1, D)."""
    history = surrogate.config.history
    last = batch.frames.shape[1]
    ends = range(last - steps, last + 1)
    return torch.stack(
        [surrogate.encode(batch.frames[:, e - history : e], batch.proprio[:, e - history : e]) for e in ends], 1
    )


@torch.no_grad()
def own_rollout(surrogate: Surrogate, first: Tensor, actions: Tensor) -> Tensor:
    """Where the surrogate itself goes from the first latents (N, D): (N, S, D)."""
    latent, cell, passed = first, surrogate.first_cell(len(first)), []
    for t in range(actions.shape[1]):
        latent, _, cell = surrogate.step(latent, actions[:, t], cell)
        passed.append(latent)
    return torch.stack(passed, 1)


def imagined(world: WorldModel, batch: Batch, actions: Tensor, *, seed: int = 0) -> Batch:
    """The windows with the world's frames and places in the future, under other actions (N, S, A)."""
    history, steps = world.config.history, actions.shape[1]
    acted = torch.cat([batch.actions[:, : history - 1], actions], 1)
    made = roll_out(world, batch, acted, seed=seed)
    return dataclasses.replace(
        batch,
        frames=torch.cat([batch.frames[:, :history].float(), made.frames], 1),
        proprio=torch.cat([batch.proprio[:, :history], made.proprio[:, :steps]], 1),
    )


def world_truth(world: WorldModel, surrogate: Surrogate, batch: Batch, *, seed: int = 0) -> Truth:
    """Rewards as the surrogate reads them off what the world imagines, always with the same noise."""

    def rewards(actions: Tensor) -> Tensor:
        dreamt = imagined(world, batch, actions, seed=seed)
        with torch.no_grad():
            return surrogate.reward(latents_of(surrogate, dreamt, actions.shape[1])[:, 1:])

    return rewards


def errors(of: str, surrogate: Surrogate, latents: Tensor, real: Batch, task: TaskConfig, paid: Paid) -> Errors:
    """Latents (N, S, D) that somebody came to, against the real stretches behind them."""
    steps = latents.shape[1]
    wanted = latents_of(surrogate, real, steps)[:, 1:]
    first = real.frames.shape[1] - steps
    with torch.no_grad():
        said, read = surrogate.reward(latents), surrogate.reads.scene(latents)
    true = torch.stack([paid(moment_of(real, first + t)) for t in range(steps)], 1)
    measured: dict[str, tuple[float, ...]] = {}
    if real.landmarks is not None and surrogate.config.landmark_dim:
        for name, error in errors_of(task).items():
            apart = error(read, real.landmarks[:, first:])
            measured[name] = tuple(apart.median(0).values.tolist())
    pairs = zip(said.T, true.T, strict=True)
    return Errors(
        of=of,
        latent=tuple((latents - wanted).square().mean((0, 2)).sqrt().tolist()),
        task=measured,
        reward=tuple((said - true).square().mean(0).sqrt().tolist()),
        correlation=tuple(float(torch.corrcoef(torch.stack(pair))[0, 1].nan_to_num()) for pair in pairs),
    )


def touched(surrogate: Surrogate, batch: Batch, steps: int, least: float) -> Tensor:
    """Whether something moves in each case (N,)."""
    if batch.landmarks is not None:
        marks = batch.landmarks[:, -steps - 1 :]
        return (marks - marks[:, :1]).abs().amax((1, 2)) > least
    with torch.no_grad():
        seen = surrogate.reads.scene(latents_of(surrogate, batch, steps))
    return (seen - seen[:, :1]).abs().amax((1, 2)) > least


def gradient_rows(
    truth: str, true: Slopes, said: dict[str, Slopes], where: dict[str, Tensor], config: AgreementConfig
) -> list[GradientRow]:
    """Every way of taking derivatives, on every kind of case, at every horizon."""
    rows = []
    for taken, slopes in said.items():
        for name, mask in where.items():
            for horizon in config.horizons:
                found: Agreement = agreement(true[mask], slopes[mask], horizon, config.gamma)
                rows.append(
                    GradientRow(
                        truth=truth, taken=taken, cases=name, horizon=horizon, cosine=found.cosine,
                        cosine_of_mean=found.cosine_of_mean, length=found.length, count=found.cases,
                    )
                )  # fmt: skip
    return rows


def slopes_of(surrogate: Surrogate, cases: Cases) -> dict[str, Slopes]:
    """The surrogate's derivatives at the latents that came, and along its own rollout."""
    return {
        "decoupled": foreseen(surrogate, cases, own=False),
        "own rollout": foreseen(surrogate, cases, own=True),
    }
