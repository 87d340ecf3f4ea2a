"""How long one call of an engine takes."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Seconds of one call over `samples` calls; p99 is the nearest rank."""

    median_s: float
    p99_s: float
    samples: int
    threads: int


BUDGET_S, LEAST, MOST = 1.0, 5, 200


def measure(run: Callable[..., object], inputs: tuple[Tensor, ...], *, threads: int) -> Latency:
    """Time calls for about a second, at least five and at most 200 of them, after three that do not count."""
    seconds: list[float] = []
    for _ in range(3):
        _timed(run, inputs)
    while len(seconds) < LEAST or (sum(seconds) < BUDGET_S and len(seconds) < MOST):
        seconds.append(_timed(run, inputs))
    seconds.sort()
    p99 = seconds[math.ceil(0.99 * len(seconds)) - 1]
    return Latency(median_s=statistics.median(seconds), p99_s=p99, samples=len(seconds), threads=threads)


def _timed(run: Callable[..., object], inputs: tuple[Tensor, ...]) -> float:
    _wait(inputs)
    start = time.perf_counter()
    run(*inputs)
    _wait(inputs)
    return time.perf_counter() - start


def _wait(inputs: tuple[Tensor, ...]) -> None:
    if inputs[0].is_cuda:
        torch.cuda.synchronize(inputs[0].device)
