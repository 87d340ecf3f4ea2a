"""Denoising steps and samples of each backbone: eager, compiled, and replayed from a CUDA graph.

A sample is all steps of the sampler. Fidelity is the largest difference from eager float32 in grey levels (of 255).
"""

import functools
import itertools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.denoise import inputs, make, step_of
from bench.qualify.session import PRECISIONS, Call, Session, captured
from w4rl_fast.world.model import Context, WorldModel

BACKBONES, COMPILED = ("tiny", "tiny-dit", "small"), ("tiny", "small")
BATCHES, USED = (8, 512), ("bf16", "fp32")


def run(session: Session) -> list[dict[str, Any]]:
    """A row for each backbone, precision and batch."""
    rows: list[dict[str, Any]] = []
    for name, precision in itertools.product(BACKBONES[:1] if session.dry else BACKBONES, USED):
        call = functools.partial(world, session, name, precision)
        rows += session.attempt(f"denoising: {name} {precision}", call) or []
    return rows


@torch.no_grad()
def world(session: Session, name: str, precision: str) -> list[dict[str, Any]]:
    """Steps and samples of one backbone in one precision."""
    if session.is_late(f"denoising: {name} {precision}"):
        return []
    exact = step_of(make(name, torch.float32).to(session.device))
    model, rows = make(name, PRECISIONS[precision]).to(session.device), []
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for batch in (1, 2) if session.dry else BATCHES:
        what = f"denoising: {name} {precision}, batch {batch}"
        if session.is_late(what):
            continue
        tensors = [tensor.to(session.device) for tensor in inputs(model, batch)]
        compiled = precision == "bf16" and name in COMPILED and (session.dry or batch == max(BATCHES))
        found = session.attempt(what, functools.partial(steps, session, model, tensors, exact(*tensors), compiled))
        if found:
            rows.append({"backbone": name, "precision": precision, "batch": batch, **found})
            times = {way: round(each["median_ms"], 3) for way, each in found["timings"].items()}
            print(f"{what}: {times} ms", flush=True)
    return rows


def steps(session: Session, model: WorldModel, tensors: list[Tensor], wanted: Tensor, compiled: bool) -> dict[str, Any]:
    """Every way to run a step, each with its error; and the captured sampler, checked against the eager one."""
    step, sample = step_of(model), sampler_of(model)
    calls: dict[str, Call] = {"eager": lambda: step(*tensors)}
    calls["graph"] = captured(session, calls["eager"])
    started = time.monotonic()
    if compiled:
        torch.compiler.reset()  # it keeps eight versions of one function, and then runs it eager
        fast = torch.compile(step, dynamic=False, fullgraph=True, backend="eager" if session.dry else "inductor")
        fast(*tensors)
        calls["compiled"] = lambda: fast(*tensors)
        calls["compiled graph"] = captured(session, calls["compiled"])
    compile_s = time.monotonic() - started
    errors = {name: float((call() - wanted).abs().max()) * 127.5 for name, call in calls.items()}
    drawn, calls["sample, graph"] = sample(*tensors).clone(), captured(session, lambda: sample(*tensors))
    errors["sample, graph, to eager"] = float((calls["sample, graph"]() - drawn).abs().max()) * 127.5
    return {
        "grey_level_error": errors,
        "compile_s": compile_s if compiled else None,
        "timings": {name: session.timed(call) for name, call in calls.items()},
        "taken_mb": session.taken_mb(),
    }


def sampler_of(model: WorldModel) -> Callable[..., Tensor]:
    """All steps of the sampler from a batch of standard normal noise."""
    return lambda noisy, _, *rest: model(Context(*rest[:4]), noisy)[0]
