"""Collect episodes in several processes; every finished one is on disk before it is counted."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from w4rl_fast.config import to_json_dict
from w4rl_fast.data.actors import Actor, ActorFactory, Disturbed, Expert, Random
from w4rl_fast.data.pending import save_pending
from w4rl_fast.data.record import Job, episode_seed, record_episode, schema_of
from w4rl_fast.data.store import SEAL_ROWS, Writer, writing
from w4rl_fast.errors import UserError
from w4rl_fast.progress import Progress
from w4rl_fast.tasks import TaskConfig, make_task
from w4rl_fast.tasks.protocol import Task

PER_WORKER = 2
"""Jobs a worker has waiting, so that it never idles while the parent seals."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CollectConfig:
    """How many episodes of each source to record of every task, and how they are disturbed.

    `noise` and `bias` hold for the noisy expert and for policy rollouts; see `actors.Disturbed`.
    """

    expert: int = 0
    noisy: int = 0
    random: int = 0
    rollouts: int = 0
    noise: float = 0.5
    bias: float = 0.0
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("expert", "noisy", "random", "rollouts")}
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
        origins = {"noisy": disturbance, "policy": f"{policy} {disturbance}"}
        for source, count in self.counts().items():
            for number in range(count):
                seed = episode_seed(self.seed, source, number)
                yield Job(task=task, source=source, seed=seed, origin=origins.get(source, ""))

    def counts(self) -> dict[str, int]:
        return {"expert": self.expert, "noisy": self.noisy, "policy": self.rollouts, "random": self.random}


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
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")
    setup = (tasks, config, actor, out / "pending", os.getpid())
    with one_thread_each():
        pool = ProcessPoolExecutor(config.workers, context, initializer=start_worker, initargs=setup)
        try:
            yield from feed(pool, jobs, config.workers * PER_WORKER)
        except BrokenProcessPool as error:
            raise UserError(
                "a collecting process died",
                rule="the system ended it, most often for want of memory",
                remedy="Run the same command with fewer --workers; what was finished is kept",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def feed(pool: ProcessPoolExecutor, jobs: Iterable[Job], ahead: int) -> Iterator[Done]:
    """Keep `ahead` jobs in the pool; yields results as they come."""
    waiting: set[Future[Done]] = set()
    left = iter(jobs)
    while True:
        while len(waiting) < ahead and (job := next(left, None)) is not None:
            with ctrl_c_held():
                waiting.add(pool.submit(work, job))
        if not waiting:
            return
        finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in finished:
            yield future.result()


@contextlib.contextmanager
def ctrl_c_held() -> Iterator[None]:
    """Keep Ctrl-C back for a moment; a process that is started meanwhile never sees it, not even while it starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Workers started inside run their arithmetic on one thread: a second one on a busy core only costs."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


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
        if job.source == "random":
            return Random()
        if job.source == "expert":
            return Expert()
        if job.source == "noisy":
            return Disturbed(Expert(), self.config.noise, self.config.bias)
        if self.policy is None:
            assert self.factory is not None, "policy rollouts come with a policy"
            self.policy = self.factory(self.tasks[job.task])
        return Disturbed(self.policy, self.config.noise, self.config.bias)


worker: Worker | None = None


def start_worker(
    tasks: Mapping[str, TaskConfig], config: CollectConfig, actor: ActorFactory | None, pending: Path, parent: int
) -> None:
    """Make this process a worker that leaves Ctrl-C to its parent and ends when the parent is gone."""
    global worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    worker = Worker(tasks, config, actor, pending)


def end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def work(job: Job) -> Done:
    assert worker is not None
    return worker.run(job)
