"""A whole refinement: from the cloned policy to the best one found."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w4rl_fast.hub import write_model
from w4rl_fast.imagine.guards import Exploited
from w4rl_fast.metrics import MetricsLog
from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.progress import Progress
from w4rl_fast.refine.config import PPOConfig
from w4rl_fast.refine.ppo import PPO
from w4rl_fast.refine.rollout import Rollout, Rollouts

Score = Callable[[GaussianPolicy], float]
Guard = Callable[[int, Rollout], Mapping[str, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A refined policy: the best by its score, or the last where nothing scored; 0 is the iteration of the clone."""

    policy: GaussianPolicy
    iteration: int
    score: float | None
    seconds: float


def refine(
    policy: GaussianPolicy,
    rollouts: Rollouts,
    config: PPOConfig,
    folder: Path,
    score: Score | None = None,
    *,
    guard: Guard | None = None,
    origin: str = "",
) -> Result:
    """Refine a cloned policy, which stays as it is, or go on where an interrupted refinement of it was left.

    `score` judges a policy on imagined seeds held out for it. `guard` looks at each iteration and its rollout: what it
    returns is logged, what it raises ends the refinement. Writes `last/` and `value/`, and `best/` where it scores.
    """
    ppo = PPO(policy, rollouts, config, folder, origin=origin)
    started = saved = time.monotonic()
    with (
        # Only the clone's score has step 0: a refinement that begins writes it again.
        MetricsLog(folder, resume_step=ppo.iteration or -1) as log,
        Progress("refine", total=config.iterations, unit="iterations", completed=ppo.iteration) as bar,
    ):
        if ppo.iteration == 0 and score is not None:
            log.scalars(0, named(judged(ppo, score)))
        while ppo.iteration < config.iterations and (ppo.best_score or 0.0) < config.enough:
            figures = ppo.iterate()
            try:
                figures |= guard(ppo.iteration, ppo.rollout) if guard is not None else {}
            except Exploited as stop:
                log.scalars(ppo.iteration, named(figures | dict(stop.figures)))
                raise
            if score is not None and is_due(ppo.iteration, config):
                figures |= judged(ppo, score)
            log.scalars(ppo.iteration, named(figures))
            bar.advance(1, **shown(figures))
            if time.monotonic() - saved > config.save_seconds:
                ppo.save()
                saved = time.monotonic()
    ppo.save()
    write_model(folder / "last", ppo.policy)
    write_model(folder / "value", ppo.value)
    return result_of(ppo, time.monotonic() - started)


def is_due(iteration: int, config: PPOConfig) -> bool:
    """Whether the policy is judged after an iteration; while only the value network learns, it is still the clone."""
    return iteration > config.value_warm_up and (iteration % config.score_every == 0 or iteration == config.iterations)


def judged(ppo: PPO, score: Score) -> dict[str, float]:
    value = score(ppo.policy)
    ppo.keep_best(value)
    return {"score": value}


def result_of(ppo: PPO, seconds: float) -> Result:
    """The best policy comes from the disk, since it may be that of an earlier process."""
    if ppo.best_score is None:
        return Result(policy=ppo.policy, iteration=ppo.iteration, score=None, seconds=seconds)
    best = GaussianPolicy.from_pretrained(ppo.folder / "best").to(ppo.policy.log_std.device)
    return Result(policy=best, iteration=ppo.best_iteration, score=ppo.best_score, seconds=seconds)


def named(figures: Mapping[str, float]) -> dict[str, float]:
    return {f"refine/{name}": value for name, value in figures.items()}


def shown(figures: Mapping[str, float]) -> dict[str, Any]:
    """What the progress bar says of an iteration."""
    said = {
        "success": f"{figures['success']:.0%}",
        "kl": f"{figures['kl']:.3f}",
        "entropy": f"{figures['entropy']:.2f}",
    }
    return said | ({"score": f"{figures['score']:.0%}"} if "score" in figures else {})
