"""Imagined frames a second of the whole loop: policy, world step, classifier and buffers, beside the published loop.

A case is held to eager float32 by the frames of its own first step, from the same starts and noise. What a step of more
worlds would take is foreseen from fewer: a case that takes too long is left out, and so is one that finds no memory.
"""

import functools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from bench.qualify.parts import RULE, Parts, moments, parts_of
from bench.qualify.session import Session, allow_tf32
from w4rl_engines.eager import ModuleEngine
from w4rl_engines.graphs import Captured
from w4rl_fast.distill.cost import gflop
from w4rl_fast.errors import UserError
from w4rl_fast.imagine import Imagination, ImaginationConfig, Rollouts, WorldStep
from w4rl_fast.imagine.baseline import STEPS, Loop
from w4rl_fast.imagine.export import GREY, PLACE, with_spec
from w4rl_fast.world.model import Context

BACKBONES, WORLDS, SAMPLING = ("tiny", "tiny-dit", "small", "paper"), (64, 256, 1024, 4096), (3, 1)
SLICE, PAPER_WORLDS, EPISODE = 1024, 256, 1000
LONGEST, SHORTEST, SAMPLES, COMPARED = 10, 2, 5, 64
BUDGET_S, PATIENCE_S, UNTIL = 0.6, 20.0, 0.62
BASELINE, EAGER = "baseline", "eager"
GEMM = {"float32": "gemm_fp32_tflops", "tf32": "gemm_tf32_tflops", "bfloat16": "gemm_bf16_tflops"}

Roll = Callable[[int], Any]
First = Callable[[Any], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One way to imagine; the baseline in tf32 is what torch does to convolutions when nobody forbids it."""

    backbone: str
    engine: str
    precision: str
    steps: int
    worlds: int
    captured: bool = False

    def __str__(self) -> str:
        graph = ", graph" if self.captured else ""
        return f"{self.backbone} {self.steps}, {self.worlds} worlds, {self.engine} {self.precision}{graph}"

    @property
    def slice_size(self) -> int:
        return self.worlds if self.engine == BASELINE else min(self.worlds, SLICE)


def run(session: Session) -> list[dict[str, Any]]:
    """Few worlds of every backbone first, so that a slow one keeps none of the others away."""
    rows: list[dict[str, Any]] = []
    known: dict[str, Parts] = {}
    seconds: dict[Case, float] = {}
    if session.dry:
        session.leave_out("rollouts: CUDA graphs", "only a GPU has them")
    for backbone, worlds in plan(session):
        if session.is_late(UNTIL, f"rollouts: {backbone}, {worlds} worlds"):
            continue
        make = functools.partial(parts_of, backbone, session.device)
        parts = known.get(backbone) or session.attempt(f"rollouts: {backbone}", make)
        if parts is not None:
            known[backbone] = parts
            rows += group(session, parts, worlds, seconds)
    return rows


def plan(session: Session) -> Iterator[tuple[str, int]]:
    if session.dry:
        yield BACKBONES[0], 2
        return
    late = [(name, worlds) for worlds in WORLDS for name in BACKBONES if name == "paper" and worlds > PAPER_WORLDS]
    yield from ((name, worlds) for worlds in WORLDS for name in BACKBONES if (name, worlds) not in late)
    yield late[0]


def cases(backbone: str, worlds: int, *, dry: bool) -> Iterator[Case]:
    """Eager float32 before all others of its number of steps, since they are held to it."""
    for steps in SAMPLING:
        yield Case(backbone=backbone, worlds=worlds, engine=EAGER, precision="float32", steps=steps)
        if steps == STEPS:
            for precision in ("float32",) if dry else ("float32", "tf32"):
                yield Case(backbone=backbone, worlds=worlds, engine=BASELINE, precision=precision, steps=steps)
        for captured in (False,) if dry else (False, True):
            yield Case(
                backbone=backbone, worlds=worlds, engine=EAGER, precision="bfloat16", steps=steps, captured=captured
            )


def group(session: Session, parts: Parts, worlds: int, seconds: dict[Case, float]) -> list[dict[str, Any]]:
    """All cases of one backbone and number of worlds, and their ratios to the baseline among them."""
    rows: list[dict[str, Any]] = []
    true: dict[int, Tensor] = {}
    for case in cases(parts.name, worlds, dry=session.dry):
        if session.is_late(UNTIL, f"rollouts: {case}") or is_slow(session, case, seconds):
            continue
        row = session.attempt(f"rollouts: {case}", functools.partial(measure, session, parts, case, true))
        if row is not None:
            seconds[case] = 1 / row["frames_per_s"]
            rows.append(row)
    base = next((row for row in rows if (row["engine"], row["precision"]) == (BASELINE, "float32")), None)
    for row in rows:
        row["ratio_to_baseline"] = row["frames_per_s"] / base["frames_per_s"] if base else None
        show(row)
    return rows


def is_slow(session: Session, case: Case, seconds: dict[Case, float]) -> bool:
    """Whether two rollouts of two steps would try our patience, by what a frame took in fewer worlds."""
    same = asdict(case) | {"worlds": None}
    known = [took for each, took in seconds.items() if asdict(each) | {"worlds": None} == same]
    foreseen = 2 * SHORTEST * case.worlds * known[-1] if known else 0.0
    if foreseen > PATIENCE_S:
        session.leave_out(f"rollouts: {case}", f"it would take {foreseen:.0f} s")
    return foreseen > PATIENCE_S


@torch.no_grad()
def measure(session: Session, parts: Parts, case: Case, true: dict[int, Tensor]) -> dict[str, Any] | None:
    """Frames a second of one case, and how far the frames of its first step are from those of eager float32."""
    allow_tf32(case.precision == "tf32")
    try:
        began = time.perf_counter()
        roll, first = loop_of(parts, case) if case.engine == BASELINE else imagination_of(parts, case)
        frames = first(roll(SHORTEST))[:COMPARED].clone()
        session.wait()
        first_s = time.perf_counter() - began
        took, horizon, samples = pace(session, roll)
        taken = session.taken_mb()
    except UserError as error:
        session.leave_out(f"rollouts: {case}", str(error))
        return None
    finally:
        allow_tf32(False)
    if (case.engine, case.precision) == (EAGER, "float32"):
        true[case.steps] = frames
    off = (frames.int() - true[case.steps].int()).abs().float() if case.steps in true else None
    cost, rate = cost_of(parts, case.steps), case.worlds * horizon / took
    return {
        **asdict(case),
        "slice_size": case.slice_size,
        "frames_per_s": rate,
        "ms_a_step": 1e3 * took / horizon,
        "parity_p99": None if off is None else rank(off, 0.99),
        "parity_max": None if off is None else float(off.max()),
        "gflop_per_frame": cost,
        "share_of_peak": cost * rate / 1e3 / session.peaks[GEMM[case.precision]] if session.peaks else None,
        "peak_memory_mb": None if taken is None else taken + parts.megabytes,
        "first_s": first_s,
        "horizon": horizon,
        "samples": samples,
    }


def loop_of(parts: Parts, case: Case) -> tuple[Roll, First]:
    """The published loop, and the first frames of what it returns as bytes (B, 3, S, S)."""
    loop = Loop(parts.world, parts.reward, RULE, parts.policy, parts.starts, case.worlds, case.steps)
    loop.seeds = loop.seeds.to(parts.starts.pixels.device)
    return loop.rollout, lambda frames: frames.add(1).mul(127.5).round().byte()


def imagination_of(parts: Parts, case: Case) -> tuple[Roll, First]:
    """Ours, and the same of a rollout."""
    narrow = case.precision == "bfloat16"
    config = ImaginationConfig(
        num_worlds=case.worlds, horizon=EPISODE, slice_size=case.slice_size, sampling_steps=case.steps,
        precision="bfloat16" if narrow else "float32",
    )  # fmt: skip
    engine = captured(parts, case) if case.captured else EAGER
    rollouts = Rollouts(Imagination(parts.world, parts.reward, RULE, parts.starts, config, engine=engine))
    return (
        lambda horizon: rollouts.rollout(parts.policy, None, horizon, 0),
        lambda rollout: rollout.frames[1, :, -1].movedim(-1, 1),
    )


def captured(parts: Parts, case: Case) -> Captured:
    """The world step of one slice as a CUDA graph."""
    dtype = torch.bfloat16 if case.precision == "bfloat16" else torch.float32
    module = WorldStep(parts.world, parts.reward, sampling_steps=case.steps, dtype=dtype)
    what = with_spec(module, moments(parts.world, case.slice_size), GREY, PLACE, "logit")
    return Captured(ModuleEngine(what.module, what.spec, case.slice_size), what.rows)


def pace(session: Session, roll: Roll) -> tuple[float, int, int]:
    """Median seconds of a rollout, how many steps it had, and how often it was timed: about `BUDGET_S` in all."""

    def timed(horizon: int) -> float:
        session.wait()
        started = time.perf_counter()
        roll(horizon)
        session.wait()
        return time.perf_counter() - started

    took = [timed(SHORTEST)]
    horizon = SHORTEST if session.dry else min(LONGEST, max(SHORTEST, int(BUDGET_S / took[0])))
    if horizon > SHORTEST:
        timed(horizon)
        took = [timed(horizon)]
    while len(took) < SAMPLES and sum(took) < BUDGET_S and not session.dry:
        took.append(timed(horizon))
    return statistics.median(took), horizon, len(took)


def cost_of(parts: Parts, steps: int) -> float:
    """GFLOP of a frame."""
    rows = moments(parts.world, 1)
    return gflop(parts.world, Context(*(rows[name] for name in Context._fields)), steps)


def rank(values: Tensor, share: float) -> float:
    """The nearest rank of many values."""
    flat = values.flatten()
    return float(flat.kthvalue(max(1, round(share * len(flat)))).values)


def show(row: dict[str, Any]) -> None:
    case = Case(**{name: row[name] for name in Case.__slots__})
    ratio = f"{row['ratio_to_baseline']:6.2f}x" if row["ratio_to_baseline"] else "       "
    print(f"{case!s:58} {row['frames_per_s']:10,.0f} frames/s {ratio} p99 {row['parity_p99']}", flush=True)
