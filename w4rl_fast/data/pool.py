"""Jobs in worker processes that outlive neither their parent nor a Ctrl-C, and are missed when they die."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from w4rl_fast.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")

PER_WORKER = 2
"""Jobs a worker has waiting, so that it never idles while the parent is busy."""


def in_processes(make: Callable[[], Callable[[Job], Result]], jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """Run every job in one of `workers` processes, each of which calls `make` once; yields results as they come."""
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")
    with one_thread_each():
        pool = ProcessPoolExecutor(workers, context, initializer=start_worker, initargs=(make, os.getpid()))
        try:
            yield from feed(pool, jobs, workers * PER_WORKER)
        except BrokenProcessPool as error:
            raise UserError(
                "a collecting process died",
                rule="the system ended it, most often for want of memory",
                remedy="Run the same command with fewer --workers; what was finished is kept",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def feed(pool: ProcessPoolExecutor, jobs: Iterable[Job], ahead: int) -> Iterator[Any]:
    """Keep `ahead` jobs in the pool; yields results as they come."""
    waiting: set[Future[Any]] = set()
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


_make: Callable[[], Callable[[Any], Any]] | None = None
_work: Callable[[Any], Any] | None = None


def start_worker(make: Callable[[], Callable[[Any], Any]], parent: int) -> None:
    """Make this process a worker that leaves Ctrl-C to its parent and ends when the parent is gone."""
    global _make
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    _make = make


def end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def work(job: Any) -> Any:
    """Made with the first job, so that what goes wrong in making reaches the parent as that job's error."""
    global _work
    if _work is None:
        assert _make is not None
        _work = _make()
    return _work(job)
