"""Imagined frames a second of the whole loop: policy, world step, classifier and buffers, beside the published loop.

Ours by what it launches: every kernel by itself, the world step as one CUDA graph, or a whole rollout as one; each
without our kernels and with them, all by name; where measurements are stored for this GPU, by them too (`auto`). Of a
rollout that is one graph the overhead is the share of its time that its world steps alone, replayed by themselves, do
not take. The baseline computes with torch's own, but draws its noise by our kernel if that is there: torch's own way to
draw the same numbers is a slow one, which nobody else would take.

A case is held to eager float32 by the frames of its own first step, from the same starts and noise. What a step would
take is foreseen from fewer worlds, or from its operations: a case that takes too long is left out, and so is one that
finds no memory.
"""

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from bench.qualify.parts import RULE, Parts, moments, parts_of
from bench.qualify.plan import BASELINE, EAGER, PLAN, WHOLE, Case, asked, cases, way_of
from bench.qualify.problems import asking
from bench.qualify.session import Session, allow_tf32, captured
from w4rl_engines.eager import ModuleEngine
from w4rl_engines.graphs import Captured
from w4rl_fast.distill.cost import gflop
from w4rl_fast.errors import UserError
from w4rl_fast.imagine import Imagination, ImaginationConfig, Rollouts, WorldStep
from w4rl_fast.imagine.baseline import Loop
from w4rl_fast.imagine.capture import Call, Recorder, cuda_graph
from w4rl_fast.imagine.export import GREY, PLACE, with_spec
from w4rl_fast.world.model import Context
from w4rl_kernels.select import ImplementationUnavailable

EPISODE, LONGEST, SHORTEST, SAMPLES, COMPARED = 1000, 10, 2, 5, 64
BUDGET_S, PATIENCE_S, POOR = 0.6, 20.0, 0.2
"""Of the samples of a case; of a case whose time is not known; and the share of the peak that it then may come to."""
GEMM = {"float32": "gemm_fp32_tflops", "tf32": "gemm_tf32_tflops", "bfloat16": "gemm_bf16_tflops"}

Roll = Callable[[int], Any]
First = Callable[[Any], Tensor]


def run(session: Session) -> list[dict[str, Any]]:
    """What the targets name comes first."""
    rows: list[dict[str, Any]] = []
    seconds: dict[Case, float] = {}
    if session.dry:
        session.leave_out("rollouts: CUDA graphs", "only a GPU has them; here a rollout is played again in their place")
    for number, (backbone, worlds) in enumerate((("tiny", 2),) if session.dry else PLAN):
        if session.is_late(f"rollouts: {backbone}, {worlds} worlds"):
            continue
        make = functools.partial(parts_of, backbone, session.device)
        parts = session.attempt(f"rollouts: {backbone}", make)
        if parts is not None:
            rows += group(session, parts, list(cases(session, backbone, worlds, whole=number < WHOLE)), seconds)
    return rows


def group(
    session: Session, parts: Parts, wanted: Sequence[Case], seconds: dict[Case, float]
) -> list[dict[str, Any]]:  # fmt: skip
    """All cases of one backbone and number of worlds, and their ratios to the baseline among them."""
    rows: list[dict[str, Any]] = []
    true: dict[int, Tensor] = {}
    for case in wanted:
        if session.is_late(f"rollouts: {case}") or is_slow(session, parts, case, seconds):
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


def is_slow(session: Session, parts: Parts, case: Case, seconds: dict[Case, float]) -> bool:
    """Whether two rollouts of two steps would try our patience, by what a frame took in another number of worlds."""
    same = asdict(case) | {"worlds": None}
    known = [took for each, took in seconds.items() if asdict(each) | {"worlds": None} == same]
    peak = POOR * session.peaks.get(GEMM[case.precision], float("nan"))
    frame = known[-1] if known else cost_of(parts, case.steps) / 1e3 / peak
    foreseen = 2 * SHORTEST * case.worlds * frame
    if slow := not session.dry and foreseen > PATIENCE_S:
        session.leave_out(f"rollouts: {case}", f"it would take {foreseen:.0f} s")
    return slow


@torch.no_grad()
def measure(session: Session, parts: Parts, case: Case, true: dict[int, Tensor]) -> dict[str, Any] | None:
    """Frames a second of one case, and how far the frames of its first step are from those of eager float32."""
    allow_tf32(case.precision == "tf32")
    try:
        with asking(session.device, asked(session, case)):
            return timed(session, parts, case, true)
    except (UserError, ImplementationUnavailable) as error:
        session.leave_out(f"rollouts: {case}", str(error))
        return None
    finally:
        allow_tf32(False)


def timed(session: Session, parts: Parts, case: Case, true: dict[int, Tensor]) -> dict[str, Any]:
    began = time.perf_counter()
    roll, first = loop_of(parts, case) if case.engine == BASELINE else imagination_of(session, parts, case)
    frames = first(roll(SHORTEST))[:COMPARED].clone()
    session.wait()
    first_s = time.perf_counter() - began
    took, horizon, samples = pace(session, roll)
    taken = session.taken_mb()
    alone = alone_ms(session, parts, case) if case.graph == "rollout" else None
    if (case.engine, case.precision) == (EAGER, "float32"):
        true[case.steps] = frames
    off = (frames.int() - true[case.steps].int()).abs().float() if case.steps in true else None
    cost, rate, step_ms = cost_of(parts, case.steps), case.worlds * horizon / took, 1e3 * took / horizon
    peak = session.peaks.get(GEMM[case.precision], float("nan"))
    return {
        **asdict(case),
        "way": way_of(asdict(case)),
        "slice_size": case.slice_size,
        "frames_per_s": rate,
        "ms_a_step": step_ms,
        "alone_ms": alone,
        "overhead": None if alone is None else 1 - alone / step_ms,
        "parity_p99": None if off is None else rank(off, 0.99),
        "parity_max": None if off is None else float(off.max()),
        "gflop_per_frame": cost,
        "share_of_peak": cost * rate / 1e3 / peak,
        "alone_share_of_peak": None if alone is None else cost * case.worlds / alone / peak,
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


def imagination_of(
    session: Session, parts: Parts, case: Case, recorder: Recorder | None = None
) -> tuple[Roll, First]:  # fmt: skip
    """Ours, and the same of a rollout; its recorder is that of the case unless another is given."""
    narrow = case.precision == "bfloat16"
    config = ImaginationConfig(
        num_worlds=case.worlds, horizon=EPISODE, slice_size=case.slice_size, sampling_steps=case.steps,
        precision="bfloat16" if narrow else "float32",
    )  # fmt: skip
    if case.graph == "rollout" and recorder is None:
        recorder = again if session.dry else cuda_graph
    engine = Captured(*step_of(parts, case)) if case.graph == "step" else EAGER
    imagination = Imagination(parts.world, parts.reward, RULE, parts.starts, config, engine=engine)
    rollouts = Rollouts(imagination, recorder=recorder)
    return (
        lambda horizon: rollouts.rollout(parts.policy, None, horizon, 0),
        lambda rollout: rollout.frames[1, :, -1].movedim(-1, 1),
    )


def again(begin: Call, play: Call) -> Call:
    """What a recorder is where there are no graphs."""
    begin()
    play()
    return play


def step_of(parts: Parts, case: Case) -> tuple[ModuleEngine, tuple[Tensor, ...]]:
    """The world step of one slice as an engine, and what it takes."""
    dtype = torch.bfloat16 if case.precision == "bfloat16" else torch.float32
    module = WorldStep(parts.world, parts.reward, sampling_steps=case.steps, dtype=dtype)
    what = with_spec(module, moments(parts.world, case.slice_size), GREY, PLACE, "logit")
    return ModuleEngine(what.module, what.spec, case.slice_size), what.rows


def alone_ms(session: Session, parts: Parts, case: Case) -> float:
    """What the world steps of one step of all worlds take by themselves: as graphs, on inputs that stay."""
    engine, inputs = step_of(parts, case)
    replay = captured(session, lambda: engine(*inputs))
    return -(-case.worlds // case.slice_size) * session.timed(replay)["median_ms"]


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
    """GFLOP of a frame; torch counts only those of its own operators."""
    rows = moments(parts.world, 1)
    with asking(rows["noise"].device.type, ()):
        return gflop(parts.world, Context(*(rows[name] for name in Context._fields)), steps)


def rank(values: Tensor, share: float) -> float:
    """The nearest rank of many values."""
    flat = values.flatten()
    return float(flat.kthvalue(max(1, round(share * len(flat)))).values)


def show(row: dict[str, Any]) -> None:
    case = Case(**{name: row[name] for name in Case.__slots__})
    ratio = f"{row['ratio_to_baseline']:6.2f}x" if row["ratio_to_baseline"] else "       "
    overhead = f" overhead {row['overhead']:.1%}" if row["overhead"] is not None else ""
    said = f"{case!s:76} {row['frames_per_s']:10,.0f} frames/s {ratio} p99 {row['parity_p99']}{overhead}"
    print(said, flush=True)
