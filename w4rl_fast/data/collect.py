"""Collect episodes in several processes; every finished one is on disk before it is counted."""

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from w4rl_fast.config import to_json_dict
from w4rl_fast.data.actors import Actor, ActorFactory, Disturbed, Expert, Player, Random
from w4rl_fast.data.pending import save_pending
from w4rl_fast.data.pool import in_processes
from w4rl_fast.data.record import Job, episode_seed, record_episode, schema_of
from w4rl_fast.data.store import SEAL_ROWS, Writer, writing
from w4rl_fast.progress import Progress
from w4rl_fast.tasks import TaskConfig, make_task
from w4rl_fast.tasks.protocol import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class CollectConfig:
    """How many episodes of each source to record of every task, and how they are disturbed.

    `noise` and `bias` hold for the noisy expert and for a policy; see `actors.Disturbed`. `rollouts` and `repair` are
    both of the policy, but the latter are those that a round of repair asked for.
    """

    expert: int = 0
    noisy: int = 0
    random: int = 0
    play: int = 0
    rollouts: int = 0
    repair: int = 0
    noise: float = 0.5
    bias: float = 0.0
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("expert", "noisy", "random", "play", "rollouts", "repair")}
        for name, value in counts.items():
            if value < 0:
                raise ValueError(f"{name}={value}: a number of episodes is zero or more")
        if not sum(counts.values()):
            raise ValueError("0 episodes: at least one source has one or more. Add --expert N, --noisy N or --random N")
        if self.workers < 1:
            raise ValueError(f"workers={self.workers}: at least one process collects. Use --workers 1")
        if self.noise < 0 or self.bias < 0:
            raise ValueError(f"noise={self.noise}, bias={self.bias}: deviations are zero or more")

    def jobs(self, task: str, policy: str = "") -> Iterator[Job]:
        """Every episode of one task; `policy` names the weights of the policy that is rolled out."""
        disturbance = f"noise={self.noise:g} bias={self.bias:g}"
        played = f"{policy} {disturbance}"
        origins = {"noisy": disturbance, "policy": played, "repair": played}
        for source, count in self.counts().items():
            for number in range(count):
                seed = episode_seed(self.seed, source, number)
                yield Job(task=task, source=source, seed=seed, origin=origins.get(source, ""))

    def counts(self) -> dict[str, int]:
        return {
            "expert": self.expert, "noisy": self.noisy, "policy": self.rollouts, "random": self.random,
            "repair": self.repair, "play": self.play,
        }  # fmt: skip


CALM: dict[str, Callable[[], Actor]] = {"expert": Expert, "random": Random, "play": Player}
"""Who acts undisturbed."""


@dataclass(slots=True)
class Collected:
    """What a collection did: episodes there before, added, and successes and totals by task and source."""

    before: int = 0
    added: int = 0
    rows: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    succeeded: Counter[tuple[str, str]] = field(default_factory=Counter)
    episodes: Counter[tuple[str, str]] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Done:
    """What a worker says of one finished episode."""

    job: Job
    rows: int
    succeeded: bool


def collect(
    out: Path, tasks: Sequence[TaskConfig], config: CollectConfig, actor: ActorFactory | None = None, policy: str = ""
) -> Collected:
    """Record what is still missing of the configured episodes into the store `out`."""
    first = make_task(tasks[0])
    schema = schema_of(first)
    first.close()
    by_name = {task.name: task for task in tasks}
    result, started = Collected(), time.monotonic()
    with writing(out, schema, {name: to_json_dict(task) for name, task in by_name.items()}) as writer:
        there = writer.keys()
        jobs = [job for name in by_name for job in config.jobs(name, policy)]
        missing = [job for job in jobs if job.key not in there]
        result.before = len(jobs) - len(missing)
        with Progress("collect", total=len(jobs), unit="episodes", completed=result.before) as bar:
            try:
                for done in run(missing, by_name, config, actor, out):
                    count(result, done)
                    bar.advance(success=rate(result))
                    seal_when_due(writer, result, done)
            except KeyboardInterrupt:
                result.interrupted = True
    result.seconds = time.monotonic() - started
    return result


def count(result: Collected, done: Done) -> None:
    place = (done.job.task, done.job.source)
    result.added += 1
    result.rows += done.rows
    result.episodes[place] += 1
    result.succeeded[place] += done.succeeded


def rate(result: Collected) -> str:
    return f"{100 * result.succeeded.total() / result.episodes.total():.0f} %"


def seal_when_due(writer: Writer, result: Collected, done: Done) -> None:
    if result.rows // SEAL_ROWS > (result.rows - done.rows) // SEAL_ROWS:
        writer.seal()


def run(
    jobs: Sequence[Job], tasks: Mapping[str, TaskConfig], config: CollectConfig, actor: ActorFactory | None, out: Path
) -> Iterator[Done]:
    """Run the jobs in worker processes; yields each one when its episode is on disk."""
    return in_processes(functools.partial(recorder, tasks, config, actor, out / "pending"), jobs, config.workers)


def recorder(
    tasks: Mapping[str, TaskConfig], config: CollectConfig, actor: ActorFactory | None, pending: Path
) -> Callable[[Job], Done]:
    return Worker(tasks, config, actor, pending).run


class Worker:
    """One collecting process: keeps the task it ran last, since making one takes longer than an episode."""

    def __init__(
        self, tasks: Mapping[str, TaskConfig], config: CollectConfig, actor: ActorFactory | None, pending: Path
    ) -> None:
        self.tasks, self.config, self.factory, self.pending = tasks, config, actor, pending
        self.task: Task | None = None
        self.policy: Actor | None = None

    def run(self, job: Job) -> Done:
        if self.task is None or self.task.config.name != job.task:
            if self.task is not None:
                self.task.close()
            self.task, self.policy = make_task(self.tasks[job.task]), None
        episode = record_episode(self.task, self.actor(job), job)
        save_pending(self.pending, episode)
        return Done(job, len(episode), episode.info.succeeded)

    def actor(self, job: Job) -> Actor:
        if job.source in CALM:
            return CALM[job.source]()
        if job.source == "noisy":
            return Disturbed(Expert(), self.config.noise, self.config.bias)
        if self.policy is None:
            assert self.factory is not None, "policy rollouts come with a policy"
            self.policy = self.factory(self.tasks[job.task])
        return Disturbed(self.policy, self.config.noise, self.config.bias)
