"""Errors are measured as they are, and an engine out of tolerance is no engine."""

import math

import pytest
import torch
from torch import nn

from w4rl_engines import artifact, parity
from w4rl_engines.errors import EngineError, ParityFailed
from w4rl_engines.parity import Tolerance
from w4rl_engines.protocol import Port, StepSpec

SPEC = StepSpec(inputs=(Port(name="x", shape=(2,)),), outputs=(Port(name="y", shape=(2,), scale=127.5, unit="levels"),))


class Off(nn.Module):
    """A module whose numbers are off by a little, in one feature."""

    def __init__(self, inner: nn.Module, by: float) -> None:
        super().__init__()
        self.inner, self.by = inner, by

    def forward(self, *tensors):
        out = self.inner(*tensors).clone()
        out[:, 2] += self.by
        return out


def test_an_error_is_told_in_the_unit_of_the_output_and_with_its_place() -> None:
    wanted, given = torch.zeros(200, 2), torch.zeros(200, 2)
    given[5, 1], given[7, 0] = -0.02, 0.01
    found = parity.compare(SPEC, [wanted], [given], {"y": Tolerance(p99=0, maximum=3)}, precision="float32", by="eager")
    error = found.outputs["y"]
    assert error.maximum == pytest.approx(0.02 * 127.5)
    assert error.mean == pytest.approx(0.03 * 127.5 / 400)
    assert error.p99 == 0
    assert error.worst == (5, 1)
    assert found.passed
    given[9:14] = 0.01
    found = parity.compare(SPEC, [wanted], [given], {"y": Tolerance(p99=0, maximum=3)}, precision="float32", by="eager")
    assert found.outputs["y"].p99 == pytest.approx(1.275)
    assert not found.passed


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_never_accepted(bad: float) -> None:
    given = torch.zeros(4, 2)
    given[3, 1] = bad
    tolerances = {"y": Tolerance(p99=1e9, maximum=1e9)}
    found = parity.compare(SPEC, [torch.zeros(4, 2)], [given], tolerances, precision="float32", by="eager")
    with pytest.raises(ParityFailed, match=r"y of it.*\[3, 1\]"):
        parity.require(found, "it", accept=True)


@pytest.mark.parametrize(("rows", "batch"), [(1, 1), (1, 4), (7, 3), (6, 3), (5, 8)])
def test_rows_come_back_in_order_whatever_the_batch(rows: int, batch: int) -> None:
    calls = []

    def engine(x):
        calls.append(len(x))
        return (held.copy_(x * 2),)

    held, x = torch.empty(batch, 2), torch.arange(2.0 * rows).reshape(rows, 2)
    (out,) = parity.rows_of(engine, SPEC, [x], batch)
    assert torch.equal(out, 2 * x)
    assert set(calls) == {batch}


def test_an_engine_out_of_tolerance_is_not_published_unless_accepted(convolutions, tmp_path) -> None:
    folder, truth = tmp_path / "off", convolutions.module
    with pytest.raises(ParityFailed, match=r"features of eager float32 at batch 3.*\[\d+, 2\]"):
        convolutions.build(folder, module=Off(truth, 0.5), reference=truth)
    assert not folder.exists()
    kept = convolutions.build(folder, module=Off(truth, 0.5), reference=truth, accept=True)
    recorded = artifact.read(folder).manifest.blobs[3].parity
    assert recorded == kept.manifest.blobs[3].parity
    assert (recorded.passed, recorded.accepted) == (False, True)
    assert recorded.outputs["features"].maximum == pytest.approx(0.5, abs=1e-4)


def test_accepting_what_passes_leaves_no_mark(convolutions, tmp_path) -> None:
    assert not convolutions.build(tmp_path / "fine", accept=True).manifest.blobs[3].parity.accepted


@pytest.mark.parametrize(("fill", "said"), [(0.0, "all zeros"), (math.nan, "not finite")])
def test_inputs_that_prove_nothing_are_refused(fill: float, said: str) -> None:
    with pytest.raises(EngineError, match=f"x is {said}"):
        parity.require_real(SPEC, [torch.full((3, 2), fill)])


def test_a_module_that_gives_something_else_than_its_spec_is_refused(convolutions, tmp_path) -> None:
    class Wide(nn.Module):
        def forward(self, pictures):
            return pictures.flatten(1)

    with pytest.raises(EngineError, match=r"features .*\(11, 192\).*\(11, 4\)"):
        convolutions.build(tmp_path / "wide", module=Wide())
