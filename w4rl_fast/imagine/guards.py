"""Is a world being believed or exploited? What an imagination is measured against while a policy improves in it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from w4rl_fast.data.windows import Windows
from w4rl_fast.errors import UserError
from w4rl_fast.fit import generator_at
from w4rl_fast.imagine.engine import Imagination
from w4rl_fast.imagine.redraw import Watched, redraw

UNSURE = (0.2, 0.8)
FEW = 20
SAMPLE = 4096
"""Real moments that distances are taken to; more would not change a 99th percentile."""
REDRAWN = 64
"""Imagined moments of a rollout that are drawn a second time, rounded up to whole slices."""
APART = 0.5
"""Two verdicts differ by more than this, or lie on both sides of the rule's threshold: then they are not one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardConfig:
    """A refinement stops when imagined success has risen by `rise` and a share is above its limit.

    `far_states`: of imagined moments farther from the data than all but 1 % of real ones are from each other;
    `far_successes`: of imagined successes farther than that from the moments before a real frame of success; `unsure`:
    of imagined moments in which the classifier says neither yes nor no; `undecided`: of imagined moments whose verdict
    another draw of the noise would have changed.
    """

    rise: float = 0.1
    far_states: float = 0.3
    far_successes: float = 0.5
    unsure: float = 0.3
    undecided: float = 0.1


class Exploited(UserError):
    """Imagined success rises where the world is not to be believed; `figures` say where."""

    figures: Mapping[str, float]


class Guards:
    """Compares each rollout with the moments that were recorded: what the body feels and the action taken, on the scale
    of the data. Distances are to the nearest real moment. With the worlds that made the rollouts, some moments of each
    are drawn again; the worlds stay as they are. `first` is the imagined success that it began with, where an earlier
    process has seen that.
    """

    def __init__(
        self, windows: Windows, config: GuardConfig, worlds: Imagination | None = None, first: float | None = None
    ) -> None:
        self.config, self.worlds = config, worlds
        batch, device = windows.batch(0, 2 * SAMPLE), "cpu" if worlds is None else worlds.device
        happened = batch.real[:, -2]  # before an episode there is a repeated moment, and no action
        moments = torch.cat([batch.proprio[:, -2], batch.actions[:, -1]], dim=1)[happened].to(device)
        self.mean, self.std = moments.mean(0), moments.std(0).clamp_min(1e-3)
        scaled = (moments - self.mean) / self.std
        middle = len(scaled) // 2
        self.real = scaled[:middle]
        self.usual = float(nearest(scaled[middle:], self.real).quantile(0.99))
        body = slice(0, batch.proprio.shape[2])
        won = batch.success[:, -1][happened].to(device)
        self.successes = scaled[won][:, body]
        self.usual_success = torch.inf  # with few real successes nobody can say what is far from them
        if (half := len(self.successes) // 2) >= FEW:
            self.usual_success = float(nearest(self.successes[:half], self.successes[half:]).quantile(0.99))
        self.first = first

    def __call__(self, iteration: int, rollout: Watched) -> Mapping[str, float]:
        """Figures of one rollout; raises if they say that the world is being exploited."""
        body = rollout.proprio[:, :, -1].flatten(0, 1)
        moments = torch.cat([body, rollout.actions.clamp(-1, 1).flatten(0, 1)], dim=1)
        scaled = (moments - self.mean) / self.std
        won = (rollout.rewards > 0).flatten()
        winning = scaled[won][:, : self.successes.shape[1]]
        unsure = (rollout.probabilities > UNSURE[0]) & (rollout.probabilities < UNSURE[1])
        figures = {
            "far_states": float((nearest(scaled, self.real) > self.usual).float().mean()),
            "far_successes": self._far(winning),
            "unsure": float(unsure.float().mean()),
        }
        if self.worlds is not None:
            figures["undecided"] = undecided(self.worlds, rollout, generator_at(0, iteration))
        success = float((rollout.rewards > 0).any(0).float().mean())
        named = {"guard_success": success, **{f"guard_{name}": value for name, value in figures.items()}}
        try:
            self._stop_if_exploited(iteration, success, figures)
        except Exploited as stop:
            stop.figures = named
            raise
        return named

    def _far(self, winning: Tensor) -> float:
        if len(winning) < FEW or self.usual_success == torch.inf:
            return 0.0
        return float((nearest(winning, self.successes) > self.usual_success).float().mean())

    def _stop_if_exploited(self, iteration: int, success: float, figures: Mapping[str, float]) -> None:
        if self.first is None:
            self.first = success
        for name, value in figures.items():
            limit = getattr(self.config, name)
            if success - self.first >= self.config.rise and value > limit:
                raise Exploited(
                    f"{name} {value:.0%} in iteration {iteration}",
                    rule=f"imagined success rose from {self.first:.0%} to {success:.0%}, and more than {limit:.0%} of"
                    " this says that the world is being exploited",
                    remedy="Roll the policy out for real and train again with that, or raise the limit with"
                    f" --set guards.{name}=...",
                )


def undecided(worlds: Imagination, rollout: Watched, generator: torch.Generator) -> float:
    """Share of some moments of the last rollout of these worlds in which a second draw of the noise says otherwise."""
    size, device = worlds.config.slice_size, rollout.probabilities.device
    number = -(-REDRAWN // size) * size
    steps, which = (
        torch.randint(most, (number,), generator=generator).to(device) for most in rollout.probabilities.shape
    )
    said, again = rollout.probabilities[steps, which], redraw(worlds, rollout, steps, which)
    threshold = worlds.rule.threshold
    differ = ((said >= threshold) != (again >= threshold)) | ((said - again).abs() > APART)
    return float(differ.float().mean())


def nearest(points: Tensor, others: Tensor) -> Tensor:
    """Distance of each point (N, D) to the nearest of the others (M, D)."""
    return torch.cdist(points, others).amin(1)
