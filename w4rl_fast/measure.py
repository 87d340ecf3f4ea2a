"""One timer, one memory reading, one roofline and one environment card, for benchmarks and reports alike."""

import contextlib
import dataclasses
import gc
import importlib.metadata
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import w4rl_fast
from w4rl_fast.errors import UserError
from w4rl_fast.files import disk_errors, publish
from w4rl_kernels.threads import physical_cores

PACKAGES = (
    *("torch", "numpy", "numba", "zarr", "mujoco", "metaworld", "triton"),
    *("onnx", "onnxruntime", "openvino", "tensorrt-rtx", "tensorrt", "torch-tensorrt"),
)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """How long one call took over `samples` calls, in seconds; p10 and p99 are nearest ranks."""

    median_s: float
    p10_s: float
    p99_s: float
    minimum_s: float
    samples: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Resident:
    """Memory of this process that lies in RAM now, in bytes; the parts are None where the system does not tell."""

    total: int
    anonymous: int | None = None
    file: int | None = None
    shared: int | None = None


def time_blocks(
    functions: Mapping[str, Callable[[], object]],
    *,
    warmup: int = 3,
    samples: int = 30,
    synchronize: Callable[[], None] | None = None,
) -> dict[str, Timing]:
    """Time alternatives against each other: every round calls each of them once, starting with another one each time.

    Garbage collection is off meanwhile. `synchronize` (torch.cuda.synchronize) runs before and after each call.
    """
    if not functions or samples < 1 or warmup < 0:
        raise UserError(
            f"{len(functions)} function(s), {samples} sample(s), {warmup} warm-up call(s)",
            rule="a timing needs at least one function, one sample and no negative warm-up",
            remedy="Choose larger counts",
        )
    wait = synchronize or (lambda: None)
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    names = list(functions)
    with _no_garbage_collection():
        for index in range(-warmup, samples):
            first = index % len(names)
            for name in names[first:] + names[:first]:
                elapsed = _time_once(functions[name], wait)
                if index >= 0:
                    seconds[name].append(elapsed)
    return {name: _summarise(values) for name, values in seconds.items()}


def peak_memory_bytes() -> int:
    """The most RAM this process has held since it started, in bytes."""
    if peak := _process_status().get("VmHWM"):
        return peak
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_bytes() -> Resident:
    """The RAM this process holds now; where the system has no /proc, the peak stands for it."""
    status = _process_status()
    if "VmRSS" not in status:
        return Resident(total=peak_memory_bytes())
    anonymous, file, shared = (status.get(key) for key in ("RssAnon", "RssFile", "RssShmem"))
    return Resident(total=status["VmRSS"], anonymous=anonymous, file=file, shared=shared)


def roofline(threads: int) -> dict[str, float]:
    """What the processor of this machine reaches in about a second: GEMM in GFLOP/s, copy (read + write) in GB/s.

    The copy holds 256 MB, so read the peak memory of a benchmark before calling this.
    """
    import torch

    def gemm(dtype: torch.dtype, size: int = 1024) -> float:
        left, right = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        return 2 * size**3 / _fastest(lambda: left @ right)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        source, target = torch.zeros(128_000_000, dtype=torch.uint8), torch.empty(128_000_000, dtype=torch.uint8)
        peaks = {
            "gemm_fp32_gflops": gemm(torch.float32),
            "gemm_bf16_gflops": gemm(torch.bfloat16),
            "copy_gb_per_s": 2 * source.numel() / _fastest(lambda: target.copy_(source)),
        }
    finally:
        torch.set_num_threads(before)
    return {name: round(peak / 1e9, 1) for name, peak in peaks.items()}


def environment_card() -> dict[str, object]:
    """Everything a reader needs to judge a figure, and nothing that names the machine, its user or its folders."""
    return {
        "date_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "w4rl_fast": w4rl_fast.__version__,
        "git": _git_state(Path(w4rl_fast.__file__).parent),
        "os": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "cpu": cpu_model(),
        "physical_cores": physical_cores(),
        "memory_bytes": memory_bytes(),
        "packages": {name: version for name in PACKAGES if (version := package_version(name))},
        "thread_variables": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        **_torch_state(),
    }


def write_result(name: str, result: Mapping[str, object]) -> Path:
    """Write bench/results/NAME.json (the result and the environment card) and print the result as one JSON line."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(
            f"result name {name!r}",
            rule="a name is made of letters, digits, '.', '_' and '-'",
            remedy="Choose another name",
        )
    path = Path.cwd() / "bench" / "results" / f"{name}.json"
    line = json.dumps(result, default=_plain, allow_nan=False)
    whole = {"name": name, "result": json.loads(line), "environment": environment_card()}
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    publish(path, (json.dumps(whole, indent=2) + "\n").encode())
    print(line, flush=True)
    return path


def package_version(distribution: str) -> str | None:
    """The installed version of a distribution, found without importing it."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    match = re.search(r"^model name\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")), re.MULTILINE)
    return match.group(1) if match else platform.processor() or platform.machine()


def memory_bytes() -> int:
    """The RAM of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _time_once(function: Callable[[], object], wait: Callable[[], None]) -> float:
    wait()
    start = time.perf_counter()
    function()
    wait()
    return time.perf_counter() - start


def _summarise(seconds: list[float]) -> Timing:
    ordered = sorted(seconds)
    return Timing(
        median_s=statistics.median(ordered),
        p10_s=ordered[math.ceil(0.1 * len(ordered)) - 1],
        p99_s=ordered[math.ceil(0.99 * len(ordered)) - 1],
        minimum_s=ordered[0],
        samples=len(ordered),
    )


def _fastest(function: Callable[[], object], budget_s: float = 0.3) -> float:
    function()
    best, end = math.inf, time.perf_counter() + budget_s
    while time.perf_counter() < end:
        best = min(best, _time_once(function, lambda: None))
    return best


def _process_status() -> dict[str, int]:
    sizes = re.findall(r"^(\w+):\s+(\d+) kB$", _read(Path("/proc/self/status")), re.MULTILINE)
    return {name: int(size) * 1024 for name, size in sizes}


def _torch_state() -> dict[str, object]:
    try:
        import torch
    except Exception:
        return {}
    state: dict[str, object] = {
        "torch_threads": torch.get_num_threads(),
        "torch_interop_threads": torch.get_num_interop_threads(),
    }
    if torch.cuda.is_available():
        state["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        state["cuda"] = torch.version.cuda
        driver = _run("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
        state["gpu_driver"] = driver.splitlines()[0] if driver else None
    return state


def _git_state(folder: Path) -> dict[str, object] | None:
    """The commit of the checkout that tracks this package; results are left out of what makes it dirty."""
    if not _run("git", "-C", str(folder), "ls-files", "__init__.py"):
        return None
    commit = _run("git", "-C", str(folder), "rev-parse", "HEAD")
    changes = _run("git", "-C", str(folder), "status", "--porcelain", "--", ":/", ":(exclude,top)bench/results")
    return {"commit": commit, "dirty": changes != ""}


def _run(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if callable(item := getattr(value, "item", None)):
        return item()
    raise TypeError(f"{type(value).__name__} has no place in a result")
