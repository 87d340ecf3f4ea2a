"""One qualification of a machine: where it runs, how long it may take, one timer, and what came in between."""

import gc
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")
Call = Callable[[], Any]

ROOT = Path(__file__).parents[2]
LIMIT_S = 480
"""Seconds that all sections have together."""
SAMPLES, LEAST, BUDGET_S = 50, 3, 0.5
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


class Session:
    """The GPU, or with `dry` the CPU with everything tiny, which shows that it would run and times nothing.

    `peaks` are what this device reaches: copy (read + write) in GB/s, GEMM in TFLOP/s.
    """

    def __init__(self, *, dry: bool) -> None:
        self.dry, self.device = dry, "cpu" if dry else "cuda"
        self.began = time.monotonic()
        self.left_out: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.peaks: dict[str, float] = {}
        self.deadline_s = float(LIMIT_S)
        self.held = 0

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.began

    def begin(self, share: float) -> None:
        """A section begins: it has this share of the time that is left."""
        self.deadline_s = self.elapsed_s + share * max(0.0, LIMIT_S - self.elapsed_s)

    @property
    def left_s(self) -> float:
        """What the section still has of its time."""
        return self.deadline_s - self.elapsed_s

    def is_late(self, what: str) -> bool:
        """Whether the time of the section is up; then it is said what was left out."""
        late = self.left_s < 0
        if late:
            self.leave_out(what, f"the time is up ({self.deadline_s:.0f} s)")
        return late

    def leave_out(self, what: str, why: str) -> None:
        self.left_out[what] = why
        print(f"left out: {what}: {why}", flush=True)

    def attempt(self, what: str, call: Callable[[], T]) -> T | None:
        """What a call returns; None if it fails, which is kept and told, and stops nothing else."""
        try:
            return call()
        except torch.OutOfMemoryError as error:
            self.leave_out(what, f"out of memory: {str(error).splitlines()[0]}")
        except Exception as error:
            self.failed[what] = "".join(traceback.format_exception(error, limit=-4)).replace(f"{ROOT}/", "")
            print(f"failed: {what}: {self.failed[what]}", file=sys.stderr, flush=True)
        finally:
            self.tidy()
        return None

    def tidy(self) -> None:
        """Give back what nobody holds any more, and count the peak of memory anew."""
        gc.collect()
        if not self.dry and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.held = torch.cuda.memory_allocated()

    def wait(self) -> None:
        if not self.dry:
            torch.cuda.synchronize()

    def taken_mb(self) -> float | None:
        """The most that tensors have taken of the GPU since the last `tidy`, beside those there were then."""
        return None if self.dry else (torch.cuda.max_memory_allocated() - self.held) / 2**20

    def path(self, name: str) -> Path:
        """Where a result goes: $OUT, or bench/results, where a dry run has names of its own."""
        out = os.environ.get("OUT")
        folder = Path(out) if out else ROOT / "bench" / "results"
        folder.mkdir(parents=True, exist_ok=True)
        stem, _, suffix = name.partition(".")
        return folder / (f"{stem}-dry.{suffix}" if self.dry and not out else name)

    def timed(self, call: Call, times: int = 1) -> dict[str, float]:
        """Milliseconds by device events, after warming up, of a call that does its work so many times."""
        for _ in range(1 if self.dry else 3):
            call()
        values, least = [], 2 if self.dry else LEAST
        while len(values) < least or (not self.dry and len(values) < SAMPLES and sum(values) < 1e3 * BUDGET_S):
            values.append(self.once(call))
        values = sorted(value / times for value in values)
        return {
            "median_ms": statistics.median(values),
            "p99_ms": values[-1 - len(values) // 100],
            "minimum_ms": values[0],
            "samples": len(values),
        }

    def once(self, call: Call) -> float:
        if self.dry:
            started = time.perf_counter()
            call()
            return 1e3 * (time.perf_counter() - started)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)


def captured(session: Session, call: Call, times: int = 1) -> Call:
    """The same call, so many times over, as a CUDA graph; on the CPU the call itself, as often."""
    if session.dry:
        return call if times == 1 else lambda: [call() for _ in range(times)]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(times):
            out = call()

    def replay() -> Any:
        graph.replay()
        return out

    return replay


def allow_tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
