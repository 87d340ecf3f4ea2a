"""gather_windows against every torch expression of the same bits: 64 windows of 5 frames, 64x64x3, out of 2,000.

The baseline is the fastest eager expression; what torch.compile makes of it is timed beside it. Every candidate
must agree bit for bit before it is timed, and the native implementation must be the one that runs.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from w4rl_fast.measure import Timing, time_blocks, write_result
from w4rl_kernels.select import select
from w4rl_kernels.window_gather import DTYPES, IMPLEMENTATIONS, gather_windows

B, T, N, H, W, C = 64, 5, 2000, 64, 64, 3
SAMPLES = 100

Candidate = Callable[[], Tensor]


def torch_expressions(frames: Tensor, rows: Tensor, dtype: torch.dtype) -> dict[str, Candidate]:
    """Ways to write frames[rows] / 127.5 - 1 in torch, each returning (B, T, H, W, C)."""
    bytes_ = torch.empty(B * T, H, W, C, dtype=torch.uint8)
    floats = torch.empty(B, T, H, W, C)
    final = floats if dtype is torch.float32 else torch.empty_like(floats, dtype=dtype)
    table = (torch.arange(256) / 127.5 - 1).to(dtype)

    def plain() -> Tensor:
        return (frames[rows].float() / 127.5 - 1).to(dtype)

    def in_place() -> Tensor:
        return frames[rows].float().div_(127.5).sub_(1).to(dtype)

    def preallocated() -> Tensor:
        torch.index_select(frames, 0, rows.flatten(), out=bytes_)
        floats.copy_(bytes_.view_as(floats)).div_(127.5).sub_(1)
        return final if final is floats else final.copy_(floats)

    def lookup() -> Tensor:
        return table[frames[rows].int()]

    compiled = torch.compile(plain, dynamic=False)
    return {"plain": plain, "in place": in_place, "preallocated": preallocated, "lookup": lookup, "compiled": compiled}


def compare(frames: Tensor, rows: Tensor, dtype: torch.dtype, threads: int) -> dict[str, object]:
    """Check, time and print one setting."""
    torch.set_num_threads(threads)
    former = gather_windows(frames, rows, dtype=dtype)
    candidates = torch_expressions(frames, rows, dtype)
    candidates["native"] = lambda: gather_windows(frames, rows, out=former, threads=threads)
    candidates["native, allocating"] = lambda: gather_windows(frames, rows, dtype=dtype, threads=threads)
    wanted = candidates["plain"]()
    for name, candidate in candidates.items():
        result = candidate()
        result = result.permute(0, 1, 3, 4, 2) if name.startswith("native") else result
        if not torch.equal(result, wanted):
            raise SystemExit(f"{name} differs from the definition: nothing is timed")
    timings = time_blocks(candidates, warmup=10, samples=SAMPLES)
    eager = min(("plain", "in place", "preallocated", "lookup"), key=lambda name: timings[name].median_s)
    report(f"{dtype}, {threads} thread(s); parity: bit for bit; n = {SAMPLES}", timings, eager)
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "threads": threads,
        "parity": "bit for bit",
        "baseline": eager,
        "ratio": round(timings[eager].median_s / timings["native"].median_s, 2),
        "ratio_allocating": round(timings[eager].median_s / timings["native, allocating"].median_s, 2),
        "ratio_to_compiled": round(timings["compiled"].median_s / timings["native"].median_s, 2),
        "frames_per_s": round(B * T / timings["native"].median_s),
        "timings": timings,
    }


def report(title: str, timings: dict[str, Timing], baseline: str) -> None:
    print(f"\n{title}\n  {'':20}{'median ms':>10}{'p99 ms':>9}{'ratio':>8}")
    for name, timing in timings.items():
        ratio = timings[baseline].median_s / timing.median_s
        mark = "  baseline" if name == baseline else ""
        print(f"  {name:20}{timing.median_s * 1e3:10.3f}{timing.p99_s * 1e3:9.3f}{ratio:8.2f}{mark}")


def main() -> None:
    """Time float32 and bfloat16 on one thread and on two, and write bench/results/window_gather.json."""
    select("gather_windows", IMPLEMENTATIONS, "cpu")
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (N, H, W, C), dtype=torch.uint8, generator=generator)
    rows = torch.randint(0, N - T, (B, 1), generator=generator) + torch.arange(T)
    settings = [compare(frames, rows, dtype, threads) for dtype in DTYPES for threads in (1, 2)]
    write_result("window_gather", {"shape": {"B": B, "T": T, "N": N, "H": H, "W": W, "C": C}, "settings": settings})


if __name__ == "__main__":
    main()
