"""Imagined frames a second of the whole loop, by world, engine and denoising steps, beside the published way.

Everything runs in one process on the same weights, in turns, each result beside the truth of what was timed.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from w4rl_engines.artifact import read
from w4rl_engines.errors import EngineError
from w4rl_engines.parity import Error, compare
from w4rl_fast.distill.choice import is_fit
from w4rl_fast.distill.cost import gflop
from w4rl_fast.distill.folder import students_of
from w4rl_fast.imagine.artifacts import artifacts, load_engine
from w4rl_fast.imagine.baseline import STEPS, Baseline
from w4rl_fast.imagine.engine import Engine, Imagination
from w4rl_fast.imagine.export import exportable
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.imagine.rollout import Rollouts
from w4rl_fast.imagine.step import WorldStep
from w4rl_fast.measure import Timing, peak_memory_bytes, roofline, time_blocks
from w4rl_fast.world.model import Context

BASELINE, TEACHER = "baseline", "teacher"


@dataclass(frozen=True, kw_only=True, slots=True)
class ThroughputConfig:
    """`worlds` at once for `horizon` steps (None: the task's), each case `samples` times; the teacher is drawn in every
    number of `steps`, students in their own.
    """

    worlds: int = 64
    horizon: int | None = None
    steps: tuple[int, ...] = (3, 1)
    samples: int = 5
    slice_size: int = 32

    def __post_init__(self) -> None:
        if min(self.worlds, self.samples, self.slice_size, *self.steps) < 1:
            raise ValueError(
                f"worlds={self.worlds}, steps={self.steps}, samples={self.samples}, slice_size={self.slice_size}: at"
                " least 1 each"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One case. `parity_p99` is in grey levels against eager float32 (None: it was not asked), `shares` of the time of
    a rollout; `peak_memory_mb` is of the process when it had run this case, and those before it.
    """

    world: str
    engine: str
    precision: str
    steps: int
    worlds: int
    slice_size: int
    frames_per_s: float
    ratio_to_baseline: float
    parity_p99: float | None
    fit_for_refinement: bool
    gflop_per_frame: float
    share_of_peak: float
    peak_memory_mb: float
    first_s: float
    timing: Timing
    shares: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What is timed: a rollout of `steps`, and what is known of it."""

    world: str
    engine: str
    precision: str
    steps: int
    run: Callable[[], object]
    imagination: Imagination | None
    parity_p99: float | None
    fit: bool
    gflop: float


@torch.no_grad()
def measure_rollouts(run: Path, config: ThroughputConfig) -> tuple[list[Row], dict[str, float]]:
    """Every case in turns; also what the processor reaches."""
    loaded = LoadedRun(run)
    horizon = config.horizon or loaded.task.horizon
    cases = list(cases_of(loaded, config, horizon))
    first, peaks = [], []
    for case in cases:
        started = time.perf_counter()
        case.run()
        first.append(time.perf_counter() - started)
        peaks.append(peak_memory_bytes() / 2**20)
    timings = list(
        time_blocks({str(n): case.run for n, case in enumerate(cases)}, warmup=0, samples=config.samples).values()
    )
    shares = [shares_of(case) for case in cases]
    peak = roofline(torch.get_num_threads())
    frames = config.worlds * horizon
    rows = [
        Row(
            world=case.world,
            engine=case.engine,
            precision=case.precision,
            steps=case.steps,
            worlds=config.worlds,
            slice_size=config.slice_size,
            frames_per_s=frames / timing.median_s,
            ratio_to_baseline=timings[0].median_s / timing.median_s,
            parity_p99=case.parity_p99,
            fit_for_refinement=case.fit,
            gflop_per_frame=case.gflop,
            share_of_peak=case.gflop * frames / timing.median_s / peak[gemm_of(case.precision)],
            peak_memory_mb=memory,
            first_s=began,
            timing=timing,
            shares=share,
        )
        for case, timing, memory, began, share in zip(cases, timings, peaks, first, shares, strict=True)
    ]
    return rows, peak


def gemm_of(precision: str) -> str:
    return "gemm_bf16_gflops" if precision.startswith("bfloat16") else "gemm_fp32_gflops"


def cases_of(run: LoadedRun, config: ThroughputConfig, horizon: int) -> Iterator[Case]:
    """The baseline first; then the teacher in every number of steps, and each student, eagerly and by every engine."""
    baseline = Baseline(run, config.worlds, horizon)
    yield Case(
        world=TEACHER, engine=BASELINE, precision="float32", steps=STEPS, run=baseline.rollout, imagination=None,
        parity_p99=None, fit=True, gflop=frame_gflop(run, STEPS),
    )  # fmt: skip
    for steps in config.steps:
        yield from cases_in(run, TEACHER, steps, run, config, horizon, fit=True)
    for folder in students_of(run.path):
        inside = LoadedRun(folder)
        steps, fit = inside.world.config.sampling.steps, is_fit(run.path, folder)
        yield from cases_in(inside, folder.name, steps, run, config, horizon, fit=fit)


def cases_in(
    inside: LoadedRun, name: str, steps: int, run: LoadedRun, config: ThroughputConfig, horizon: int, *, fit: bool
) -> Iterator[Case]:
    """One world in a number of steps: eagerly in both precisions, and by every engine that was exported for it."""
    cost = frame_gflop(inside, steps)

    def case(label: str, precision: str, parity: float, engine: str | Engine, *, passed: bool = True) -> Case:
        worlds = inside.imagination(
            num_worlds=config.worlds, horizon=horizon, slice_size=config.slice_size, sampling_steps=steps,
            engine=engine, precision="bfloat16" if precision == "bfloat16" and engine == "eager" else "float32",
        )  # fmt: skip
        rollouts = Rollouts(worlds)
        return Case(
            world=name, engine=label, precision=precision, steps=steps, imagination=worlds,
            run=lambda: rollouts.rollout(run.policy, None, horizon, 0), parity_p99=parity, fit=fit and passed,
            gflop=cost,
        )  # fmt: skip

    yield case("eager", "float32", 0.0, "eager")
    narrow = narrow_error(inside, steps)
    yield case("eager", "bfloat16", narrow.p99, "eager", passed=narrow.excess <= 1)
    for folder in artifacts(inside.path, "world"):
        try:
            engine = load_engine(folder, inside.world, inside.judge[0], config.slice_size, sampling_steps=steps)
        except EngineError:  # `not_timed` says why
            continue
        found = read(folder)
        _, blob = found.blob(config.slice_size)
        yield case(
            found.identity.backend, found.identity.precision, blob.parity.outputs["frame"].p99, engine,
            passed=blob.parity.passed,
        )  # fmt: skip


def not_timed(run: Path, rows: Sequence[Row]) -> dict[str, str]:
    """Every artifact of a run and of its students that is in no row, and why: it is never passed over in silence."""
    why: dict[str, str] = {}
    for name, folder in [(TEACHER, run), *((each.name, each) for each in students_of(run))]:
        inside = LoadedRun(folder)
        steps = {row.steps for row in rows if row.world == name}
        for artifact in artifacts(folder, "world"):
            said = [refusal_of(inside, artifact, each, rows[0].slice_size) for each in sorted(steps)]
            if all(said):
                why[f"{name}, {artifact.name}"] = "; ".join(dict.fromkeys(each for each in said if each))
    return why


def refusal_of(inside: LoadedRun, artifact: Path, steps: int, batch: int) -> str | None:
    try:
        load_engine(artifact, inside.world, inside.judge[0], batch, sampling_steps=steps)
    except EngineError as error:
        return f"{error.value}: {error.rule}"
    return None


def narrow_error(inside: LoadedRun, steps: int) -> Error:
    """How far frames of eager torch in bfloat16 are from float32, on held-out moments."""
    what = exportable(inside, "world", sampling_steps=steps)
    module = WorldStep(inside.world, inside.judge[0], sampling_steps=steps, dtype=torch.bfloat16)
    wanted, given = what.module(*what.rows), module(*what.rows)
    found = compare(what.spec, wanted, given, what.tolerances, precision="bfloat16", by="eager")
    return found.outputs["frame"]


def frame_gflop(run: LoadedRun, steps: int) -> float:
    """The work of a frame in so many steps."""
    world = run.world
    config = world.config
    size = (1, config.history)
    context = Context(
        torch.zeros(*size, 3, config.image_size, config.image_size), torch.zeros(*size, config.proprio_dim),
        torch.zeros(*size, config.action_dim), torch.zeros(1, 3, config.image_size, config.image_size),
    )  # fmt: skip
    return gflop(world, context, steps)


def shares_of(case: Case) -> dict[str, float]:
    """Where the time of a rollout goes: the network, the classifier and the rest of a step, and everything outside.

    An engine is one piece: of it only the whole step is known.
    """
    worlds = case.imagination
    if worlds is None:
        return {}
    run, spent = worlds.run, {"step": 0.0}
    timed = (
        {"network": worlds.module.world.backbone, "classifier": worlds.module.reward} if run is worlds.module else {}
    )
    handles = [handle for name, part in timed.items() for handle in watch(part, name, spent)]

    def step(*tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        started = time.perf_counter()
        out = run(*tensors)
        spent["step"] += time.perf_counter() - started
        return out

    worlds.run = step
    try:
        started = time.perf_counter()
        case.run()
        whole = time.perf_counter() - started
    finally:
        worlds.run = run
        for handle in handles:
            handle.remove()
    inside = sum(spent.get(name, 0.0) for name in timed)
    rest = {"rest of the step": spent["step"] - inside} if timed else {"step": spent["step"]}
    parts = {**{name: spent[name] for name in timed}, **rest, "policy, buffers and host": whole - spent["step"]}
    return {name: part / whole for name, part in parts.items()}


def watch(part: nn.Module, name: str, spent: dict[str, float]) -> Iterator[torch.utils.hooks.RemovableHandle]:
    """Add up the time of a module's calls."""
    spent[name] = 0.0
    began = [0.0]

    def before(*_: object) -> None:
        began[0] = time.perf_counter()

    def after(*_: object) -> None:
        spent[name] += time.perf_counter() - began[0]

    yield part.register_forward_pre_hook(before)
    yield part.register_forward_hook(after)
