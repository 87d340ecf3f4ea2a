"""How long one call of every engine of a run takes, beside eager torch in the same process, in turns."""

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from w4rl_engines.artifact import Artifact, read
from w4rl_engines.eager import ModuleEngine
from w4rl_engines.errors import EngineError, FellBack
from w4rl_engines.fingerprint import fingerprint
from w4rl_engines.load import load
from w4rl_engines.parity import compare, rows_of
from w4rl_engines.protocol import Engine
from w4rl_fast.imagine.artifacts import EAGER, Name, artifacts, rebuild_of
from w4rl_fast.imagine.export import PARTS, Exportable, Part, exportable
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.measure import Timing, time_blocks


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineRow:
    """One engine at one batch size. `parity_p99` of its first output is measured now, on the engine that was timed."""

    part: str
    artifact: str | None
    engine: str
    precision: str
    batch: int
    timing: Timing
    rows_per_s: float
    ratio_to_eager: float
    parity_p99: float
    unit: str
    passed: bool
    load_s: float | None
    first_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """An engine ready to be timed, and where it comes from."""

    artifact: str | None
    engine: str
    precision: str
    run: Engine
    load_s: float | None


@torch.no_grad()
def measure_engines(run: Path, *, samples: int = 50) -> tuple[list[EngineRow], dict[str, str]]:
    """A row for each engine and batch size that can run here; and why each other one has none."""
    loaded = LoadedRun(run)
    rows: list[EngineRow] = []
    refused: dict[str, str] = {}
    for part, steps, found in groups(run, refused):
        what = exportable(loaded, part, sampling_steps=steps)
        name = part if steps is None else f"{part}, {steps} step{'s' * (steps > 1)}"
        for batch in sorted({batch for each in found for batch in each.batches}):
            engines = all_started([each for each in found if batch in each.batches], what, batch, refused)
            if engines:
                eager = Loaded(artifact=None, engine=EAGER, precision="float32", run=plain(what, batch), load_s=None)
                rows += list(timed(name, what, batch, [eager, *engines], samples))
    return rows, refused


def groups(run: Path, refused: dict[str, str]) -> Iterator[tuple[Part, int | None, list[Artifact]]]:
    """Artifacts that are of one module: those that may be compared."""
    for part in PARTS:
        found: dict[int | None, list[Artifact]] = {}
        for folder in artifacts(run, part):
            try:
                found.setdefault(Name.of(folder).steps, []).append(read(folder, rebuild_of(folder)))
            except EngineError as error:
                refused[folder.name] = error.rule
        yield from ((part, steps, each) for steps, each in found.items())


def all_started(found: list[Artifact], what: Exportable, batch: int, refused: dict[str, str]) -> list[Loaded]:
    """Those that can run; a fallback is no reason to go on."""
    engines = []
    for each in found:
        try:
            engines.append(started(each, what, batch))
        except FellBack:
            raise
        except EngineError as error:
            refused[f"{each.folder.name}, batch {batch}"] = error.rule
    return engines


def plain(what: Exportable, batch: int) -> ModuleEngine:
    return ModuleEngine(what.module.eval(), what.spec, batch)


def started(found: Artifact, what: Exportable, batch: int) -> Loaded:
    """An engine of exactly this module, or EngineError."""
    began = time.perf_counter()
    expected = fingerprint(what.module)
    engine = load(found.folder, batch=batch, threads=torch.get_num_threads(), expected=expected, rebuild=found.rebuild)
    identity = found.identity
    return Loaded(
        artifact=found.folder.name, engine=identity.backend, precision=identity.precision, run=engine,
        load_s=time.perf_counter() - began,
    )  # fmt: skip


def timed(part: str, what: Exportable, batch: int, engines: list[Loaded], samples: int) -> Iterator[EngineRow]:
    """All engines of one module at one batch size, in turns; the first one is eager torch."""
    inputs = tuple(tensor[torch.arange(batch) % len(tensor)].contiguous() for tensor in what.rows)
    calls: dict[str, Callable[[], Any]] = {
        str(number): functools.partial(each.run, *inputs) for number, each in enumerate(engines)
    }
    first = [seconds(call) for call in calls.values()]
    wanted = rows_of(engines[0].run, what.spec, what.rows, batch)
    timings = list(time_blocks(calls, samples=samples).values())
    for each, timing, began in zip(engines, timings, first, strict=True):
        parity = compare(
            what.spec, wanted, rows_of(each.run, what.spec, what.rows, batch), what.tolerances,
            precision=each.precision, by=each.engine,
        )  # fmt: skip
        port = what.spec.outputs[0]
        yield EngineRow(
            part=part, artifact=each.artifact, engine=each.engine, precision=each.precision, batch=batch,
            timing=timing, rows_per_s=batch / timing.median_s, ratio_to_eager=timings[0].median_s / timing.median_s,
            parity_p99=parity.outputs[port.name].p99, unit=port.unit or port.name, passed=parity.passed,
            load_s=each.load_s, first_s=began,
        )  # fmt: skip


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
