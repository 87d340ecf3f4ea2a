"""The only success that counts: a policy in the real simulator, on seeds it never saw."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from w4rl_fast.data.actors import ActorFactory
from w4rl_fast.data.episode import Episode
from w4rl_fast.data.pool import in_processes
from w4rl_fast.data.record import JUDGING_SEED, Job, record_episode
from w4rl_fast.errors import UserError
from w4rl_fast.progress import Progress
from w4rl_fast.tasks import TaskConfig, make_task
from w4rl_fast.truth.intervals import Share, wilson

FIRST_SEED = JUDGING_SEED
"""Recorded episodes have seeds below this one; see `record.episode_seed`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One judged episode; the episode itself is kept where a picture of it is wanted."""

    seed: int
    succeeded: bool
    episode: Episode | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Success of a policy, and its outcomes by seed."""

    share: Share
    outcomes: tuple[Outcome, ...]

    @property
    def failures(self) -> list[Episode]:
        """The kept failures, in the order of their seeds."""
        return [each.episode for each in self.outcomes if each.episode is not None and not each.succeeded]

    @property
    def watched(self) -> list[Episode]:
        """All kept episodes, in the order of their seeds."""
        return [each.episode for each in self.outcomes if each.episode is not None]

    @property
    def by_seed(self) -> dict[int, bool]:
        return {outcome.seed: outcome.succeeded for outcome in self.outcomes}


def judge(
    task: TaskConfig,
    actor: ActorFactory,
    *,
    episodes: int,
    workers: int = 1,
    first_seed: int = FIRST_SEED,
    keep: int = 0,
    watch: int = 0,
    name: str = "judge",
) -> Verdict:
    """Run the actor on `episodes` held-out seeds from `first_seed` on; keeps the frames of `keep` failures and of the
    first `watch` episodes.
    """
    if episodes < 1 or workers < 1:
        raise UserError(
            f"episodes {episodes}, workers {workers}", rule="at least one of each", remedy="Use --episodes 100"
        )
    if first_seed < FIRST_SEED:
        raise UserError(
            f"seed {first_seed}",
            rule=f"policies are judged on seeds from {FIRST_SEED} on, which no recorded episode has",
            remedy="Leave --first-seed out",
        )
    jobs = [Job(task=task.name, source="policy", seed=first_seed + number) for number in range(episodes)]
    outcomes: dict[int, Outcome] = {}
    with Progress(name, total=episodes, unit="episodes") as bar:
        for outcome in in_processes(functools.partial(judging, task, actor), jobs, workers):
            kept = sum(held.episode is not None and not held.succeeded for held in outcomes.values())
            shown = outcome.seed < first_seed + watch or (not outcome.succeeded and kept < keep)
            frames = outcome.episode if shown else None
            outcomes[outcome.seed] = Outcome(outcome.seed, outcome.succeeded, frames)
            successes = sum(held.succeeded for held in outcomes.values())
            bar.advance(success=f"{successes / len(outcomes):.0%}")
    return Verdict(wilson(successes, episodes), tuple(outcomes[seed] for seed in sorted(outcomes)))


def judging(config: TaskConfig, factory: ActorFactory) -> Callable[[Job], Outcome]:
    """What one process does: the task and the actor are made once."""
    task, actor = make_task(config), factory(config)

    def run(job: Job) -> Outcome:
        episode = record_episode(task, actor, job)
        return Outcome(job.seed, episode.info.succeeded, episode)

    return run
