"""Every engine that can run here, on the step of the tiny world: parity, latency, and both again from a CUDA graph."""

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from bench.qualify.parts import moments, parts_of
from bench.qualify.session import Session
from w4rl_engines import registry
from w4rl_engines.build import BuildConfig, build
from w4rl_engines.graphs import Captured
from w4rl_engines.protocol import Engine
from w4rl_fast.imagine import WorldStep
from w4rl_fast.imagine.export import GREY, PLACE, TOLERANCES, Exportable, with_spec

BATCH, ROWS = 64, 64
PRECISIONS = ("float32", "bfloat16")
A_LEVEL = TOLERANCES[GREY.name].p99


def run(session: Session) -> list[dict[str, Any]]:
    """A row for each backend and precision; for a backend that is not available, one that says why."""
    what, rows = step_of(2 if session.dry else ROWS), []
    with tempfile.TemporaryDirectory() as folder:
        for backend, precision in cases(session):
            path = Path(folder) / f"{backend}-{precision}"
            row = row_of(session, what, backend, precision, path)
            if row:
                show(row)
                rows.append(row)
    return rows


def row_of(session: Session, what: Exportable, backend: str, precision: str, folder: Path) -> dict[str, Any] | None:
    """None if it failed or there was no time."""
    name = f"engines: {backend} {precision}"
    if why := registry.unavailable(backend):
        return {"backend": backend, "precision": precision, "unavailable": why}
    if session.is_late(name):
        return None
    return session.attempt(name, functools.partial(measure, session, what, backend, precision, folder))


def cases(session: Session) -> Iterator[tuple[str, str]]:
    for name, backend in registry.BACKENDS.items():
        if session.dry and name != "eager":
            continue
        if session.device in backend.devices:
            asked = PRECISIONS[:1] if session.dry else PRECISIONS  # which layers to narrow takes a minute to find out
            yield from ((name, precision) for precision in asked if precision in backend.precisions)


def step_of(rows: int) -> Exportable:
    """The step of the tiny world in float32, and rows that prove it."""
    parts = parts_of("tiny", "cpu")
    return with_spec(WorldStep(parts.world, parts.reward), moments(parts.world, rows), GREY, PLACE, "logit")


def measure(session: Session, what: Exportable, backend: str, precision: str, folder: Path) -> dict[str, Any]:
    """Build an engine; it is timed and captured when it has been proven."""
    batch = 2 if session.dry else BATCH
    config = BuildConfig(
        backend=backend, precision=precision, batches=(batch,), device=session.device, tolerances=what.tolerances,
        accept=True,
    )  # fmt: skip
    made = build(what.module, what.spec, folder, what.rows, config, examine=examiner(session, what))
    _, blob = made.blob(batch)
    error = blob.parity.outputs[GREY.name]
    if (graph := blob.examined["graph"]) and (graph.get("error") or graph["grey_levels"] > A_LEVEL):
        session.failed[f"engines: {backend} {precision} as a CUDA graph"] = graph.get("error", "it gives other frames")
    return {
        "backend": backend,
        "precision": precision,
        "batch": batch,
        "build_s": blob.build_s,
        "load_s": blob.load_s,
        "parity_p99": error.p99,
        "parity_max": error.maximum,
        "passed": blob.parity.passed,
        **blob.examined,
    }


def examiner(session: Session, what: Exportable) -> Callable[[Engine], dict[str, Any]]:
    """Measures the very engine that was proven."""

    @torch.no_grad()
    def examine(engine: Engine) -> dict[str, Any]:
        index = torch.arange(engine.batch) % len(what.rows[0])
        inputs = tuple(tensor[index].to(session.device) for tensor in what.rows)
        timing = session.timed(lambda: engine(*inputs))
        return {"timing": timing, "graph": None if session.dry else as_graph(session, engine, inputs)}

    return examine


def as_graph(session: Session, engine: Engine, inputs: tuple[torch.Tensor, ...]) -> dict[str, Any]:
    """An engine replayed as a CUDA graph: its timing, and whether that changes a bit; or why it cannot be captured."""
    wanted = [output.clone() for output in engine(*inputs)]
    try:
        replay = Captured(engine, inputs)
        equal = all(torch.equal(a, b) for a, b in zip(replay(*inputs), wanted, strict=True))
        off = float((replay(*inputs)[0] - wanted[0]).abs().max()) * GREY.scale
        return {"equal": equal, "grey_levels": off, "timing": session.timed(lambda: replay(*inputs))}
    except Exception as error:
        return {"equal": False, "error": f"{type(error).__name__}: {error}"}


def show(row: dict[str, Any]) -> None:
    name = f"{row['backend']:15} {row['precision']:9}"
    if "unavailable" in row:
        print(f"{name} not available: {row['unavailable']}", flush=True)
        return
    graph = row["graph"] or {}
    replayed = f"{graph['timing']['median_ms']:7.2f} ms as a graph" if "timing" in graph else ""
    print(f"{name} {row['timing']['median_ms']:7.2f} ms {replayed}  p99 {row['parity_p99']:.2f}", flush=True)
