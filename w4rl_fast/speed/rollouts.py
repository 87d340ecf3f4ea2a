"""Imagined frames a second of the whole loop, by world, engine and denoising steps, beside the published way.

Everything runs in one process on the same weights, in turns, each result beside the truth of what was timed.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from w4rl_engines.artifact import read
from w4rl_engines.errors import EngineError, FellBack
from w4rl_engines.manifest import Blob
from w4rl_engines.parity import Error, compare
from w4rl_fast.distill.choice import is_fit
from w4rl_fast.distill.cost import gflop
from w4rl_fast.distill.folder import students_of
from w4rl_fast.errors import UserError
from w4rl_fast.imagine.acting import Acting
from w4rl_fast.imagine.artifacts import EAGER, Name, Remembered, artifacts, load_acting, load_engine, remember
from w4rl_fast.imagine.baseline import STEPS, Baseline
from w4rl_fast.imagine.engine import Engine, Imagination
from w4rl_fast.imagine.export import exportable
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.imagine.rollout import Rollouts
from w4rl_fast.imagine.step import WorldStep
from w4rl_fast.measure import Timing, peak_memory_bytes, roofline, time_blocks
from w4rl_fast.world.model import Context

BASELINE, TEACHER = "baseline", "teacher"
ALL, AUTO = "all", "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class ThroughputConfig:
    """`worlds` at once for `horizon` steps (None: the task's), each case `samples` times; the teacher is drawn in every
    number of `steps`, students in their own.

    `engine` is the name of one, `all`, or `auto`: only what an imagination of the run could take, so that the fastest
    of it can be remembered.
    """

    worlds: int = 64
    horizon: int | None = None
    steps: tuple[int, ...] = (3, 1)
    samples: int = 5
    slice_size: int = 32
    engine: str = ALL

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
    load_s: float | None
    first_s: float
    timing: Timing
    artifact: str | None = None
    shares: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What is timed, and what is known of it: `run` is a rollout, `stepping` the object and the name of the attribute
    that is called for each slice of it, and `artifact` the name of what was exported.
    """

    world: str
    engine: str
    precision: str
    steps: int
    run: Callable[[], object]
    parity_p99: float | None
    fit: bool
    gflop: float
    stepping: tuple[Any, str] | None = None
    policy: nn.Module | None = None
    artifact: str | None = None
    load_s: float | None = None


@torch.no_grad()
def measure_rollouts(run: Path, config: ThroughputConfig) -> tuple[list[Row], dict[str, float]]:
    """Every case in turns; also what the processor reaches."""
    loaded = LoadedRun(run)
    horizon = config.horizon or loaded.task.horizon
    cases = list(cases_of(loaded, config, horizon))
    if len(cases) == 1:
        why = "; ".join(refusals(run, {TEACHER: set(config.steps)}, config).values())
        raise UserError(
            f"engine {config.engine}",
            rule=why or f"{run} has none of it",
            remedy=f"Build it by `w4rl export {run} --engine {config.engine} --batch {config.slice_size}`",
        )
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
            load_s=case.load_s,
            first_s=began,
            timing=timing,
            artifact=case.artifact,
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
        world=TEACHER, engine=BASELINE, precision="float32", steps=STEPS, run=baseline.rollout, parity_p99=None,
        fit=True, gflop=frame_gflop(run, STEPS),
    )  # fmt: skip
    own = run.world.config.sampling.steps
    for steps in (own,) if config.engine == AUTO else config.steps:
        yield from cases_in(run, TEACHER, steps, run, config, horizon, fit=steps == own)
    for folder in [] if config.engine == AUTO else students_of(run.path):
        inside = LoadedRun(folder)
        steps, fit = inside.world.config.sampling.steps, is_fit(run.path, folder)
        yield from cases_in(inside, folder.name, steps, run, config, horizon, fit=fit)


def cases_in(
    inside: LoadedRun, name: str, steps: int, run: LoadedRun, config: ThroughputConfig, horizon: int, *, fit: bool
) -> Iterator[Case]:
    """One world in a number of steps: eagerly in both precisions, and by every engine that was exported for it.

    Engines of the world step take the policy of the run beside them; others have it inside.
    """
    make = Maker(inside, name, steps, run, config, horizon, fit=fit)
    if config.engine in (ALL, AUTO, EAGER):
        yield make.case(EAGER, "float32", 0.0, EAGER)
        narrow = narrow_error(inside, steps)
        yield make.case(EAGER, "bfloat16", narrow.p99, EAGER, passed=narrow.excess <= 1)
    for folder in [*artifacts(inside.path, "world"), *artifacts(inside.path, "acting")]:
        if not is_asked(folder, config):
            continue
        try:
            yield make.exported(folder)
        except FellBack:
            raise
        except EngineError:  # `not_timed` says why
            continue


class Maker:
    """Cases of one world in one number of steps."""

    def __init__(
        self, inside: LoadedRun, name: str, steps: int, run: LoadedRun, config: ThroughputConfig, horizon: int, *,
        fit: bool,
    ) -> None:  # fmt: skip
        self.inside, self.name, self.steps, self.run, self.config = inside, name, steps, run, config
        self.horizon, self.fit, self.cost = horizon, fit, frame_gflop(inside, steps)

    def imagination(self, engine: str | Engine, precision: str) -> Imagination:
        return self.inside.imagination(
            num_worlds=self.config.worlds, horizon=self.horizon, slice_size=self.config.slice_size,
            sampling_steps=self.steps, engine=engine, precision=precision,
        )  # fmt: skip

    def case(
        self, label: str, precision: str, parity: float, engine: str | Engine, *, passed: bool = True,
        artifact: str | None = None,
    ) -> Case:  # fmt: skip
        narrow = precision == "bfloat16" and engine == EAGER
        worlds = self.imagination(engine, "bfloat16" if narrow else "float32")
        return self._case(label, precision, parity, Rollouts(worlds), (worlds, "run"), passed, artifact)

    def exported(self, folder: Path) -> Case:
        """An artifact as a case; EngineError says why it is none."""
        identity, blob = read(folder).identity, blob_of(folder, self.config.slice_size)
        parity, passed = blob.parity.outputs["frame"].p99, blob.parity.passed
        began = time.perf_counter()
        engine = engine_of(self.inside, self.run, folder, self.config.slice_size, self.steps)
        load_s = time.perf_counter() - began
        if is_fused(folder):
            worlds = self.imagination(EAGER, "float32")
            acting = Acting(self.run.policy, worlds, engine)
            label, rollouts = f"{identity.backend}, policy inside", Rollouts(worlds, acting=acting)
            made = self._case(label, identity.precision, parity, rollouts, (acting, "unit"), passed, folder.name)
        else:
            made = self.case(identity.backend, identity.precision, parity, engine, passed=passed, artifact=folder.name)
        return replace(made, load_s=load_s)

    def _case(
        self, label: str, precision: str, parity: float, rollouts: Rollouts, stepping: tuple[Any, str], passed: bool,
        artifact: str | None,
    ) -> Case:  # fmt: skip
        return Case(
            world=self.name, engine=label, precision=precision, steps=self.steps, parity_p99=parity,
            run=lambda: rollouts.rollout(self.run.policy, None, self.horizon, 0), fit=self.fit and passed,
            gflop=self.cost, stepping=stepping, policy=self.run.policy, artifact=artifact,
        )  # fmt: skip


def is_fused(folder: Path) -> bool:
    return Name.of(folder).part == "acting"


def blob_of(folder: Path, batch: int) -> Blob:
    return read(folder).blob(batch)[1]


def engine_of(inside: LoadedRun, run: LoadedRun, folder: Path, batch: int, steps: int) -> Any:
    """The engine of an artifact for these very weights, or EngineError."""
    world, reward = inside.world, inside.judge[0]
    if is_fused(folder):
        return load_acting(folder, run.policy, world, reward, batch, sampling_steps=steps)
    return load_engine(folder, world, reward, batch, sampling_steps=steps)


def remember_fastest(run: Path, rows: Sequence[Row]) -> Remembered:
    """Let the imagination of a run take what was the fastest proven way to run the world as it is drawn there."""
    loaded = LoadedRun(run)
    steps = loaded.world.config.sampling.steps
    could = [
        row for row in rows
        if row.world == TEACHER and row.engine != BASELINE and row.steps == steps and row.fit_for_refinement
        and not (row.artifact and row.artifact.startswith("acting-"))
    ]  # fmt: skip
    best = max(could, key=lambda row: row.frames_per_s)
    choice = Remembered.of(
        run, best.artifact or EAGER, best.frames_per_s, loaded.world, loaded.judge[0], best.slice_size
    )
    remember(run, choice)
    return choice


def not_timed(run: Path, rows: Sequence[Row], config: ThroughputConfig) -> dict[str, str]:
    """Every artifact of a run and of its students that is in no row, and why: it is never passed over in silence."""
    steps: dict[str, set[int]] = {}
    for row in rows:
        steps.setdefault(row.world, set()).add(row.steps)
    return refusals(run, steps, config)


def refusals(run: Path, steps: Mapping[str, set[int]], config: ThroughputConfig) -> dict[str, str]:
    """Why artifacts of the engine that is asked for cannot be timed in any of the steps of their world."""
    why: dict[str, str] = {}
    loaded = LoadedRun(run)
    for name, folder in [(TEACHER, run), *((each.name, each) for each in students_of(run))]:
        inside = LoadedRun(folder)
        for artifact in [*artifacts(folder, "world"), *artifacts(folder, "acting")]:
            if name not in steps or not is_asked(artifact, config):
                continue
            said = [refusal_of(inside, loaded, artifact, each, config.slice_size) for each in sorted(steps[name])]
            if all(said):
                why[f"{name}, {artifact.name}"] = "; ".join(dict.fromkeys(each for each in said if each))
    return why


def is_asked(artifact: Path, config: ThroughputConfig) -> bool:
    """Whether an artifact is of the engine that is asked for; one that cannot be read is always told of."""
    if config.engine == AUTO and is_fused(artifact):
        return False
    try:
        return config.engine in (ALL, AUTO, read(artifact).identity.backend)
    except EngineError:
        return True


def refusal_of(inside: LoadedRun, run: LoadedRun, artifact: Path, steps: int, batch: int) -> str | None:
    try:
        engine_of(inside, run, artifact, batch, steps)
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
    """Where the time of a rollout goes: the network, the classifier and the rest of a step (sampler, vector head and
    scalings), the policy, and everything else: buffers and the host.

    An engine is one piece: of it only the whole step is known.
    """
    if case.stepping is None:
        return {}
    holder, name = case.stepping
    run, spent = getattr(holder, name), {"step": 0.0}
    timed = {"network": run.world.backbone, "classifier": run.reward} if isinstance(run, WorldStep) else {}
    watched = {**timed, **({"policy": case.policy} if case.policy is not None else {})}
    handles = [handle for part_name, part in watched.items() for handle in watch(part, part_name, spent)]

    def step(*tensors: Tensor) -> tuple[Tensor, ...]:
        started = time.perf_counter()
        out: tuple[Tensor, ...] = run(*tensors)
        spent["step"] += time.perf_counter() - started
        return out

    setattr(holder, name, step)
    try:
        started = time.perf_counter()
        case.run()
        whole = time.perf_counter() - started
    finally:
        setattr(holder, name, run)
        for handle in handles:
            handle.remove()
    parts = {part_name: spent[part_name] for part_name in timed}
    rest = spent["step"] - sum(parts.values())
    policy = spent.get("policy", 0.0)
    parts |= {"rest of the step" if timed else "step": rest, "policy": policy}
    parts["buffers and host"] = whole - spent["step"] - policy
    return {part_name: part / whole for part_name, part in parts.items() if part}


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
