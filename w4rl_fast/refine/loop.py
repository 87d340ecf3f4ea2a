"""A whole refinement: from the cloned policy to the best one found."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from w4rl_fast.hub import write_model
from w4rl_fast.imagine.guards import Exploited
from w4rl_fast.metrics import MetricsLog
from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.progress import Progress
from w4rl_fast.refine.refinement import Refinement

Score = Callable[[GaussianPolicy], float]
Guard = Callable[[int], Mapping[str, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A refined policy: the best by its score, or the last where nothing scored; 0 is the iteration of the clone."""

    policy: GaussianPolicy
    iteration: int
    score: float | None
    seconds: float


def refine(refinement: Refinement, score: Score | None = None, *, guard: Guard | None = None) -> Result:
    """Carry a refinement through, from its beginning or from where it was left.

    `score` judges a policy on imagined seeds held out for it. `guard` looks at each iteration: what it returns is
    logged, what it raises ends the refinement. Writes `last/` and the networks beside it, and `best/` where it scores.
    """
    config, folder = refinement.config, refinement.folder
    started = saved = time.monotonic()
    with (
        # Only the clone's score has step 0: a refinement that begins writes it again.
        MetricsLog(folder, resume_step=refinement.iteration or -1) as log,
        Progress("refine", total=config.iterations, unit="iterations", completed=refinement.iteration) as bar,
    ):
        if refinement.iteration == 0 and score is not None:
            log.scalars(0, named(judged(refinement, score)))
        while refinement.iteration < config.iterations and (refinement.best_score or 0.0) < config.enough:
            figures = refinement.iterate()
            try:
                figures |= guard(refinement.iteration) if guard is not None else {}
            except Exploited as stop:
                log.scalars(refinement.iteration, named(figures | dict(stop.figures)))
                raise
            if score is not None and refinement.is_due():
                figures |= judged(refinement, score)
            log.scalars(refinement.iteration, named(figures))
            bar.advance(1, **shown(figures))
            if time.monotonic() - saved > config.save_seconds:
                refinement.save()
                saved = time.monotonic()
    refinement.save()
    write_model(folder / "last", refinement.policy)
    refinement.save_networks()
    return result_of(refinement, time.monotonic() - started)


def judged(refinement: Refinement, score: Score) -> dict[str, float]:
    value = score(refinement.policy)
    refinement.keep_best(value)
    return {"score": value}


def result_of(of: Refinement, seconds: float) -> Result:
    """The best policy comes from the disk, since it may be that of an earlier process."""
    if of.best_score is None:
        return Result(policy=of.policy, iteration=of.iteration, score=None, seconds=seconds)
    best = GaussianPolicy.from_pretrained(of.folder / "best").to(of.policy.log_std.device)
    return Result(policy=best, iteration=of.best_iteration, score=of.best_score, seconds=seconds)


def named(figures: Mapping[str, float]) -> dict[str, float]:
    return {f"refine/{name}": value for name, value in figures.items()}


SHOWN = {
    "success": "{:.0%}", "return": "{:.2f}", "kl": "{:.3f}", "entropy": "{:.2f}", "gradient": "{:.2f}",
    "cosine": "{:.2f}", "score": "{:.3g}",
}  # fmt: skip


def shown(figures: Mapping[str, float]) -> dict[str, Any]:
    """What the progress bar says of an iteration."""
    return {name: form.format(figures[name]) for name, form in SHOWN.items() if name in figures}
