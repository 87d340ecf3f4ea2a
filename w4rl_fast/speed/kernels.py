"""Every kernel beside its definition in plain torch, and beside the fastest torch expression of the same numbers.

One operation after another, its ways in turns in one process; wrong numbers are never timed.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from w4rl_fast.errors import UserError
from w4rl_fast.measure import Timing, roofline, time_blocks
from w4rl_kernels import noise, two_hot, window_gather
from w4rl_kernels.noise import reference as noise_reference
from w4rl_kernels.select import Choice, select
from w4rl_kernels.two_hot import operators
from w4rl_kernels.two_hot import reference as two_hot_reference
from w4rl_kernels.window_gather import reference as gather_reference

REFERENCE, TORCH = "reference", "torch, "
EMBED, EMBED_BOTH, GATHER, NOISE = "two_hot.embed", "two_hot.embed + backward", "gather_windows", "normal_noise"
ON_GPU = (f"{EMBED}, cuda", f"{EMBED_BOTH}, cuda")
NO_GPU = "not measured: no GPU here"
GPU_TIMES = 16
"""A GPU embeds so many times the rows: it is done with those of a processor before it has begun."""
CLOSE = 1e-5
"""How far sums in float32 in another order may be from the reference; where there is no sum, nothing may differ."""

Run = Callable[[], tuple[Tensor, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """`rows` of `dimensions` values through `bins` to `width`; `windows` of `history` among `frames` of `pixels`
    squared; noise for frames of `pixels` squared in `worlds`.
    """

    rows: int = 4096
    dimensions: int = 7
    bins: int = 21
    width: int = 256
    windows: int = 64
    history: int = 5
    frames: int = 2000
    pixels: int = 64
    worlds: int = 64

    def __post_init__(self) -> None:
        if min(dataclasses.astuple(self)) < 1 or self.bins < 2 or self.frames <= self.history:
            raise ValueError(f"{self}: at least 1 each, 2 bins, and more frames than a window has")


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelRow:
    """One way to compute one operation; what was not measured is None.

    `error` is the largest difference from the reference over the largest number of the reference, the worst of all
    results; 0 is bit for bit. `gb_per_s` counts every input read once and every result written once; `share_of_copy` is
    of what this device copies (read and written). A choice that is the reference itself has neither ratio nor error.
    """

    op: str
    implementation: str
    dtype: str
    shape: str
    median_s: float | None = None
    p10_s: float | None = None
    p99_s: float | None = None
    reference_s: float | None = None
    ratio_to_reference: float | None = None
    error: float | None = None
    gb_per_s: float | None = None
    share_of_copy: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """An operation on inputs that are there: as it is called, as it is defined, and in torch's own words.

    `moved` is in bytes, `tolerance` in the unit of `KernelRow.error`.
    """

    op: str
    dtype: torch.dtype
    shape: str
    choice: Choice[Any]
    run: Run
    reference: Run
    moved: int
    expressions: Mapping[str, Run] = field(default_factory=dict)
    tolerance: float = 0.0

    @property
    def fell_back(self) -> bool:
        return self.choice.name == REFERENCE


def measure_kernels(
    samples: int = 20, threads: int = 1, *, sizes: Sizes | None = None, peak: Mapping[str, float] | None = None
) -> list[KernelRow]:
    """Every operation with a fast implementation; `peak` is what `roofline` gives, measured here if it is not given."""
    if threads < 1:
        raise UserError(f"{threads} thread(s)", rule="at least one works", remedy="Choose 1 or more")
    sizes, before = sizes or Sizes(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        copy = (peak or roofline(threads))["copy_gb_per_s"]
        rows = [row for each in on_cpu(sizes, threads) for row in rows_of(each, samples, copy)]
        return rows + rows_on_gpu(sizes, samples)
    finally:
        torch.set_num_threads(before)


def on_cpu(sizes: Sizes, threads: int) -> Iterator[Operation]:
    yield from embeddings(sizes, "cpu")
    for dtype in window_gather.DTYPES:
        yield gathering(sizes, dtype, threads)
    yield noising(sizes)


def rows_on_gpu(sizes: Sizes, samples: int) -> list[KernelRow]:
    """What has a GPU implementation, on a GPU; without one, rows that say so."""
    sizes = dataclasses.replace(sizes, rows=GPU_TIMES * sizes.rows)
    if not torch.cuda.is_available():
        shape, dtype = embedded(sizes), name_of(torch.float32)
        return [KernelRow(op=op, implementation="gpu", dtype=dtype, shape=shape, note=NO_GPU) for op in ON_GPU]
    copy, wait = copied_on_gpu(samples), torch.cuda.synchronize
    return [row for each in embeddings(sizes, "cuda") for row in rows_of(each, samples, copy, wait)]


def rows_of(
    what: Operation, samples: int, copy: float, synchronize: Callable[[], None] | None = None
) -> list[KernelRow]:
    """The implementation that was chosen, and the fastest of torch's expressions where there are any."""
    ways = {f"{TORCH}{name}": run for name, run in what.expressions.items()}
    if not what.fell_back:
        ways[what.choice.name] = what.run
    wanted = what.reference()
    errors = {name: checked(what, name, run(), wanted) for name, run in ways.items()}
    del wanted
    timings = time_blocks({REFERENCE: what.reference, **ways}, samples=samples, synchronize=synchronize)
    names = [what.choice.name, *sorted(ways.keys() - {what.choice.name}, key=lambda name: timings[name].median_s)[:1]]
    return [row_of(what, name, timings, errors.get(name), copy) for name in names]


def row_of(what: Operation, name: str, timings: Mapping[str, Timing], error: float | None, copy: float) -> KernelRow:
    timing, base = timings[name], timings[REFERENCE]
    speed = what.moved / 1e9 / timing.median_s
    return KernelRow(
        op=what.op, implementation=name, dtype=name_of(what.dtype), shape=what.shape, median_s=timing.median_s,
        p10_s=timing.p10_s, p99_s=timing.p99_s, reference_s=base.median_s,
        ratio_to_reference=None if name == REFERENCE else base.median_s / timing.median_s, error=error,
        gb_per_s=speed, share_of_copy=speed / copy, note=why(what, name),
    )  # fmt: skip


def why(what: Operation, name: str) -> str:
    """Why this way is in a row."""
    if name.startswith(TORCH):
        others = len(what.expressions)
        return f"the fastest of {others} expressions in torch" if others > 1 else "the same numbers in torch"
    if what.fell_back:
        return f"fell back to the reference: {what.choice.why or 'it was asked for'}"
    return "chosen: the first that can run here"


def checked(what: Operation, name: str, made: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> float:
    """The error of an implementation, or UserError if it is larger than it may be."""
    error = max(error_of(*pair) for pair in zip(made, wanted, strict=True))
    if error <= what.tolerance:
        return error
    raise UserError(
        f"{what.op} in {name_of(what.dtype)} by {name!r}: a relative error of {error:.2g}",
        rule=f"it agrees with the reference {f'to {what.tolerance:g}' if what.tolerance else 'bit for bit'}",
        remedy="No speed of wrong numbers is told: reinstall w4rl-fast, and run tests/kernels of its source here",
    )


def error_of(made: Tensor, wanted: Tensor) -> float:
    """The largest difference over the largest number that was wanted; 0 if every bit is equal, infinite if a shape, a
    dtype or what is not a number differs.
    """
    if made.shape != wanted.shape or made.dtype is not wanted.dtype:
        return math.inf
    if torch.equal(made.contiguous().view(torch.uint8), wanted.contiguous().view(torch.uint8)):
        return 0.0
    difference = (made.double() - wanted.double()).abs().max() / wanted.double().abs().max()
    return max(math.ulp(0.0), float(difference.nan_to_num(math.inf, math.inf)))  # a zero of the other sign differs too


def embeddings(sizes: Sizes, device: str) -> Iterator[Operation]:
    """two_hot.embed on a device, forward, and differentiated in values and table; some values lie outside."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(sizes.rows, sizes.dimensions, generator=generator).mul_(2.2).sub_(1.1).to(device)
    table = torch.randn(sizes.dimensions, sizes.bins, sizes.width, generator=generator).to(device)
    grad = torch.randn(sizes.rows, sizes.width, generator=generator).to(device)
    low, high = (torch.full((sizes.dimensions,), end, device=device) for end in (-1.0, 1.0))
    once, result = x.nbytes + table.nbytes, grad.nbytes
    leaves = x.clone().requires_grad_(), table.clone().requires_grad_()

    def dense(x: Tensor, table: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return two_hot.encode(x, low=low, high=high, bins=sizes.bins).flatten(1) @ table.flatten(0, 1)

    def forward(form: Callable[..., Tensor]) -> Run:
        return lambda: (form(x, table, low, high),)

    def both(form: Callable[..., Tensor]) -> Run:
        def run() -> tuple[Tensor, ...]:
            out = form(*leaves, low, high)
            return out.detach(), *torch.autograd.grad(out, leaves, grad)

        return run

    on_gpu = device == "cuda"
    names = ON_GPU if on_gpu else (EMBED, EMBED_BOTH)
    for op, way, moved in zip(names, (forward, both), (once + result, 3 * once + 2 * result), strict=True):
        yield Operation(
            op=op, dtype=table.dtype, shape=embedded(sizes), choice=operators.GPU if on_gpu else operators.CPU,
            run=way(operators.embed_rows), reference=way(two_hot_reference.embed), expressions={"dense": way(dense)},
            moved=moved, tolerance=CLOSE,
        )  # fmt: skip


def embedded(sizes: Sizes) -> str:
    return f"{sizes.rows} x {sizes.dimensions}, {sizes.bins} bins, to {sizes.width}"


def gathering(sizes: Sizes, dtype: torch.dtype, threads: int) -> Operation:
    """gather_windows into memory that is there, as a training loop calls it."""
    generator = torch.Generator().manual_seed(0)
    size = (sizes.pixels, sizes.pixels, 3)
    frames = torch.randint(0, 256, (sizes.frames, *size), dtype=torch.uint8, generator=generator)
    rows = torch.randint(0, sizes.frames - sizes.history, (sizes.windows, 1), generator=generator)
    rows = rows + torch.arange(sizes.history)
    given, defined = (torch.full((*rows.shape, *size), torch.nan, dtype=dtype) for _ in range(2))

    def run() -> tuple[Tensor, ...]:
        window_gather.gather_windows(frames, rows, out=given.permute(0, 1, 4, 2, 3), threads=threads)
        return (given,)

    def reference() -> tuple[Tensor, ...]:
        gather_reference.fill(frames, rows, defined, threads)
        return (defined,)

    return Operation(
        op=GATHER, dtype=dtype, shape=f"{sizes.windows} x {sizes.history} of {sizes.pixels} x {sizes.pixels} x 3",
        choice=window_gather.CHOICE, run=run, reference=reference, expressions=gathered_by_torch(frames, rows, dtype),
        moved=given.numel() + given.nbytes,
    )  # fmt: skip


def gathered_by_torch(frames: Tensor, rows: Tensor, dtype: torch.dtype) -> dict[str, Run]:
    """Ways to write frames[rows] / 127.5 - 1 that give the same bits."""
    numbers = torch.empty(*rows.shape, *frames.shape[1:])
    taken = torch.empty(rows.numel(), *frames.shape[1:], dtype=torch.uint8)
    final = numbers if dtype is torch.float32 else torch.empty_like(numbers, dtype=dtype)
    levels = (torch.arange(256) / 127.5 - 1).to(dtype)

    def in_place() -> tuple[Tensor, ...]:
        return (frames[rows].float().div_(127.5).sub_(1).to(dtype),)

    def preallocated() -> tuple[Tensor, ...]:
        torch.index_select(frames, 0, rows.flatten(), out=taken)
        numbers.copy_(taken.view_as(numbers)).div_(127.5).sub_(1)
        return (final if final is numbers else final.copy_(numbers),)

    def lookup() -> tuple[Tensor, ...]:
        return (levels[frames[rows].int()],)

    return {"in place": in_place, "preallocated": preallocated, "lookup": lookup}


def noising(sizes: Sizes) -> Operation:
    """normal_noise for a frame of every world; torch's own generator draws other numbers, so it is no alternative."""
    count = 3 * sizes.pixels**2
    where = torch.arange(sizes.worlds), torch.arange(sizes.worlds) * 3, torch.arange(sizes.worlds) % 5
    out = torch.full((sizes.worlds, count), torch.nan)
    return Operation(
        op=NOISE, dtype=out.dtype, shape=f"{sizes.worlds} x {count}", moved=out.nbytes,
        choice=select(NOISE, noise.IMPLEMENTATIONS["cpu"]),
        run=lambda: (noise.normal_noise(*where, (count,), out=out),),
        reference=lambda: (noise_reference.normal(*where, count, 0),),
    )  # fmt: skip


def copied_on_gpu(samples: int) -> float:
    """What this GPU copies, read and written, in GB/s."""
    source = torch.zeros(1 << 29, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copy = {"copy": lambda: target.copy_(source)}
    seconds = time_blocks(copy, samples=samples, synchronize=torch.cuda.synchronize)["copy"].minimum_s
    return 2 * source.nbytes / 1e9 / seconds


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
