"""One world step by every engine that runs here, each proven on the same rows before it is timed."""

import pytest

from w4rl_engines import registry
from w4rl_engines.build import BuildConfig, build
from w4rl_engines.load import load
from w4rl_engines.machine import has_bfloat16
from w4rl_fast.imagine.export import GREY, PLACE, TOLERANCES, with_spec

BATCH = 16
HERE = [
    (name, precision)
    for name, row in registry.BACKENDS.items()
    if registry.unavailable(name) is None and "cpu" in row.devices
    for precision in row.precisions
    if precision == "float32" or (precision.startswith("bfloat16") and has_bfloat16())
]


@pytest.mark.benchmark(group="world step, batch 16")
@pytest.mark.parametrize(("backend", "precision"), HERE)
def test_world_step(benchmark, step, rows, tmp_path, backend, precision) -> None:
    what = with_spec(step, rows, GREY, PLACE, "logit")
    limits = {port.name: TOLERANCES[port.name] for port in what.spec.outputs}
    config = BuildConfig(
        backend=backend, precision=precision, batches=(BATCH,), threads=1, tolerances=limits, accept=True
    )
    built = build(what.module, what.spec, tmp_path / "engine", what.rows, config)
    _, blob = built.blob(BATCH)
    engine = load(built.folder, batch=BATCH, threads=1)
    benchmark.extra_info |= {"grey_levels_p99": blob.parity.outputs["frame"].p99, "passed": blob.parity.passed}
    benchmark(engine, *what.rows)
