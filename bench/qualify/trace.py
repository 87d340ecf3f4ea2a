"""What the profiler sees of a rollout: whether the device ever waits for the host, how busy it is, and with what.

The rollout is eager, on the kernels that `auto` takes and on ours by name, each warm; what is looked at begins when
every world has begun and ends with the last step. Then a rollout runs where torch raises at the first wait. The traces
are written beside the result, for chrome://tracing.
"""

import contextlib
import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from bench.qualify.parts import Parts, parts_of
from bench.qualify.plan import EAGER, Case, Kernels, asked
from bench.qualify.problems import asking
from bench.qualify.rollouts import imagination_of
from bench.qualify.session import Session
from w4rl_fast.imagine.capture import Call
from w4rl_kernels.select import ImplementationUnavailable

BACKBONE, WORLDS, STEPS, HORIZON = "small", 1024, 1, 4
LABEL = "steps of a rollout"
TOP, LARGEST = 12, 16 << 20
"""Kernels that are listed, and bytes of a trace that is kept."""
WAITS = {
    "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy", "cudaMemcpy2D",
    "cudaMemcpyToSymbol", "cudaMemcpyFromSymbol", "cuStreamSynchronize", "cuCtxSynchronize", "cuEventSynchronize",
}  # fmt: skip
"""Calls in which the host waits for the device."""
READS = {"aten::_local_scalar_dense", "aten::nonzero"}
"""Operators that give the host a number of a tensor, or a size that depends on one: on a GPU they wait."""
ON_DEVICE = {"kernel", "gpu_memcpy", "gpu_memset"}
Event = Mapping[str, Any]


def run(session: Session) -> dict[str, dict[str, Any] | None]:
    """By the kernels that compute."""
    parts = session.attempt("trace", lambda: parts_of("tiny" if session.dry else BACKBONE, session.device))
    found: dict[str, dict[str, Any] | None] = {}
    for kernels in ("auto", "on") if parts is not None else ():
        if not session.is_late(f"trace: {kernels}"):
            found[kernels] = session.attempt(f"trace: {kernels}", lambda each=kernels: trace(session, parts, each))
    return found


def trace(session: Session, parts: Parts, kernels: Kernels) -> dict[str, Any] | None:
    """None where our kernels cannot run."""
    worlds = 2 if session.dry else WORLDS
    case = Case(
        backbone=parts.name, engine=EAGER, precision="bfloat16", steps=STEPS, worlds=worlds, kernels=kernels
    )  # fmt: skip
    try:
        with asking(session.device, asked(session, case)):
            found = watch(session, parts, case)
    except ImplementationUnavailable as error:
        session.leave_out(f"trace: {case}", str(error))
        return None
    if wrong := {name: found[name] for name in ("waits", "reads", "raised") if found[name]}:
        session.failed[f"trace: {case}"] = f"the device waits for the host in a rollout: {wrong}"
    show(case, found)
    return found


def watch(session: Session, parts: Parts, case: Case) -> dict[str, Any]:
    """One rollout under the profiler, and one in which a wait is an error."""
    recorder = Watched(session)
    roll, _ = imagination_of(session, parts, case, recorder)
    roll(HORIZON)
    session.wait()
    activities = [ProfilerActivity.CPU] if session.dry else [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=activities) as seen:
        roll(HORIZON)
        session.wait()
    events, kept = written(session, seen, session.path(f"trace-{case.kernels}.json.gz"))
    recorder.strict = True
    return {
        "case": str(case),
        "worlds": case.worlds,
        "horizon": HORIZON,
        "file": kept,
        **facts(events, on_gpu=not session.dry),
        "raised": raised(lambda: roll(HORIZON)),
    }


class Watched:
    """A recorder that plays again, under a label, and where asked to so that torch raises at a wait."""

    def __init__(self, session: Session) -> None:
        self.session, self.strict = session, False

    def __call__(self, begin: Call, play: Call) -> Call:
        begin()
        play()

        def replay() -> None:
            with record_function(LABEL), waits_raise(self.strict and not self.session.dry):
                play()

        return replay


@contextlib.contextmanager
def waits_raise(strict: bool) -> Iterator[None]:
    if not strict:
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def raised(call: Call) -> str | None:
    """What a call said when it waited, or None."""
    try:
        call()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return None


def written(session: Session, seen: Any, path: Path) -> tuple[list[Event], str | None]:
    """The events of a profile, and the name of the trace if it is small enough to keep."""
    seen.export_chrome_trace(str(path))
    with gzip.open(path) as file:
        events: list[Event] = json.load(file)["traceEvents"]
    if (size := path.stat().st_size) <= LARGEST:
        return events, path.name
    path.unlink()
    session.leave_out(f"trace: {path.name}", f"it has {size / 2**20:.0f} MB, more than {LARGEST >> 20}")
    return events, None


def facts(events: Iterable[Event], *, on_gpu: bool) -> dict[str, Any]:
    """Of the time under the label: waits, reads, and of a GPU how busy it was and with what.

    What the device does belongs to the call that launched it. Copies from the device, and to it from memory that is not
    pinned, are waits too; those before the label, when seeds come from the host, are named apart.
    """
    timed = [each for each in events if each.get("ph") == "X"]
    label = next(each for each in timed if each["name"] == LABEL and each["cat"] == "user_annotation")
    start, end = label["ts"], label["ts"] + label["dur"]
    calls = [each for each in timed if each["cat"] in ("cuda_runtime", "cuda_driver")]
    inside = [each for each in calls if start <= each["ts"] < end]
    launched = {correlation(each) for each in inside}
    done = [each for each in timed if each["cat"] in ON_DEVICE]
    mine = [each for each in done if correlation(each) in launched]
    before = {correlation(each) for each in calls if each["ts"] < start}
    operators = Counter(each["name"] for each in timed if start <= each["ts"] < end and each["cat"] == "cpu_op")
    return {
        "waits": dict(waits(inside, mine)) if on_gpu else None,
        "waits_before": dict(
            waits(
                [each for each in calls if each["ts"] < start], [each for each in done if correlation(each) in before]
            )
        )
        if on_gpu
        else None,
        "reads": {name: operators[name] for name in sorted(READS & operators.keys())},
        "launches": len(mine) if on_gpu else None,
        **(busy(mine, start) if on_gpu and mine else {"busy": None, "wall_ms": None, "kernels": []}),
    }


def waits(calls: Iterable[Event], done: Iterable[Event]) -> Counter[str]:
    found = Counter(each["name"] for each in calls if each["name"] in WAITS)
    return found + Counter(each["name"] for each in done if "DtoH" in each["name"] or "Pageable ->" in each["name"])


def busy(done: list[Event], start: float) -> dict[str, Any]:
    """The share of the time, to the end of the last kernel, in which the device did something, and what most of all."""
    wall = max(each["ts"] + each["dur"] for each in done) - start
    times: dict[str, list[float]] = defaultdict(list)
    for each in done:
        times[each["name"]].append(each["dur"])
    total = sum(map(sum, times.values()))
    longest = sorted(times, key=lambda name: -sum(times[name]))[:TOP]
    kernels = [
        {"name": name, "calls": len(times[name]), "ms": sum(times[name]) / 1e3, "share": sum(times[name]) / total}
        for name in longest
    ]
    return {"busy": total / wall, "wall_ms": wall / 1e3, "kernels": kernels}


def correlation(event: Event) -> object:
    return event.get("args", {}).get("correlation")


def show(case: Case, found: Mapping[str, Any]) -> None:
    busy = "" if found["busy"] is None else f", the device is busy {found['busy']:.0%} of {found['wall_ms']:.1f} ms"
    print(f"{case}: waits {found['waits']}, reads {found['reads']}, raised {found['raised']}{busy}", flush=True)
    for each in found["kernels"]:
        print(f"  {each['share']:5.1%} {each['calls']:5} x {each['name'][:100]}")
