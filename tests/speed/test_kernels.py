"""Kernels beside their references: a row for each, no speed of wrong numbers, and a fallback that says it is one."""

import json
import re
import sys

import pytest
import torch

from w4rl_fast.errors import UserError
from w4rl_fast.report.kernels import in_words, write_kernels_report
from w4rl_fast.speed import kernels
from w4rl_fast.speed.kernels import EMBED, EMBED_BOTH, GATHER, NO_GPU, NOISE, ON_GPU, Sizes, measure_kernels
from w4rl_kernels import noise, window_gather
from w4rl_kernels.select import Choice, Implementation
from w4rl_kernels.two_hot import operators
from w4rl_kernels.window_gather import cpu as native

SMALL = Sizes(rows=65, dimensions=3, bins=5, width=70, windows=3, history=2, frames=7, pixels=5, worlds=3)
PEAK = {"gemm_fp32_gflops": 1.0, "gemm_bf16_gflops": 1.0, "copy_gb_per_s": 10.0}
ON_CPU = [
    (EMBED, "float32"), (EMBED_BOTH, "float32"), (GATHER, "float32"), (GATHER, "bfloat16"), (NOISE, "float32")
]  # fmt: skip
needs_native = pytest.mark.skipif(native.unavailable() is not None, reason=f"native module: {native.unavailable()}")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


@pytest.fixture(autouse=True)
def uncollected(monkeypatch) -> None:
    """Collecting the garbage of a whole test run before each timing takes longer than all that is timed here."""
    monkeypatch.setattr("gc.collect", lambda: 0)


def measured(**options):
    return measure_kernels(2, sizes=SMALL, peak=PEAK, **options)


def without_torch(rows):
    return [row for row in rows if not row.implementation.startswith("torch")]


@needs_native
def test_every_operation_has_its_row_and_the_fastest_expression_in_torch() -> None:
    threads = torch.get_num_threads()
    rows = [row for row in measured(threads=2) if row.op not in ON_GPU]
    assert torch.get_num_threads() == threads
    assert [(row.op, row.dtype) for row in without_torch(rows)] == ON_CPU
    assert {row.implementation for row in without_torch(rows)} == {"cpu"}
    assert [row.op for row in rows if row not in without_torch(rows)] == [EMBED, EMBED_BOTH, GATHER, GATHER]
    for row in rows:
        assert row.ratio_to_reference == pytest.approx(row.reference_s / row.median_s)
        assert row.share_of_copy == pytest.approx(row.gb_per_s / PEAK["copy_gb_per_s"])
        assert row.p10_s <= row.median_s <= row.p99_s
        assert (row.error == 0) if row.op in (GATHER, NOISE) else (0 < row.error <= kernels.CLOSE)


def test_the_bytes_are_those_of_inputs_and_results() -> None:
    moved = {(each.op, kernels.name_of(each.dtype)): each.moved for each in kernels.on_cpu(SMALL, 1)}
    x, table, out, pixels = 65 * 3 * 4, 3 * 5 * 70 * 4, 65 * 70 * 4, 3 * 2 * 5 * 5 * 3
    assert moved == dict(
        zip(ON_CPU, (x + table + out, 3 * (x + table) + 2 * out, 5 * pixels, 3 * pixels, 3 * 75 * 4), strict=True)
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_rows_say_so() -> None:
    rows = kernels.rows_on_gpu(SMALL, 2)
    assert [(row.op, row.implementation, row.note) for row in rows] == [(op, "gpu", NO_GPU) for op in ON_GPU]
    assert {row.median_s for row in rows} == {row.ratio_to_reference for row in rows} == {None}


@needs_gpu
def test_on_a_gpu_its_rows_are_measured() -> None:
    rows = without_torch(kernels.rows_on_gpu(SMALL, 2))
    assert [(row.op, row.implementation) for row in rows] == [(op, operators.GPU.name) for op in ON_GPU]
    assert all(row.median_s and row.share_of_copy for row in rows)


EMBEDDING = operators.CPU.function


def wrong_forward(*tensors):
    return EMBEDDING.forward(*tensors) * 1.001


def wrong_backward(*tensors):
    grad_x, grad_table = EMBEDDING.backward(*tensors)
    grad_table[0, 0, 0] += 0.01 * grad_table.abs().max()
    return grad_x, grad_table


def wrong_noise(*tensors):
    noise.REFERENCE.load().normal(*tensors)
    tensors[-1][-1, -1] += 1e-6


def wrong_frames(frames, rows, out, threads):
    """The last value is left as it was."""
    whole = out.clone()
    window_gather.reference.fill(frames, rows, whole, threads)
    out.flatten()[:-1] = whole.flatten()[:-1]
    return -1


def mutant(function):
    return Choice(name="cpu", function=function, passed_over={})


def embedding_with(monkeypatch, **parts):
    monkeypatch.setattr(operators, "CPU", mutant(EMBEDDING._replace(**parts)))


def noise_with(normal):
    pair = noise.REFERENCE.load()._replace(normal=normal)
    return Implementation(name="cpu", load=lambda: pair)


MUTANTS = {
    f"{EMBED} in": lambda patch: embedding_with(patch, forward=wrong_forward),
    f"{EMBED_BOTH} in": lambda patch: embedding_with(patch, backward=wrong_backward),
    f"{NOISE} in": lambda patch: patch.setitem(noise.IMPLEMENTATIONS, "cpu", (noise_with(wrong_noise),)),
    f"{GATHER} in float32": lambda patch: patch.setattr("w4rl_kernels._native.gather_windows", wrong_frames),
}


@needs_native
@pytest.mark.parametrize("said", MUTANTS)
def test_wrong_numbers_are_never_timed(said, monkeypatch) -> None:
    MUTANTS[said](monkeypatch)
    with pytest.raises(
        UserError, match=rf"{re.escape(said)}.*by 'cpu': a relative error of .*reference.*tests/kernels"
    ):
        measured()


@pytest.mark.parametrize("made", [torch.tensor([1.0, torch.nan]), torch.ones(3), torch.ones(2).bfloat16()])
def test_what_is_no_number_or_of_another_kind_is_wrong_without_bound(made) -> None:
    assert kernels.error_of(made, torch.ones(2)) == torch.inf


def test_a_zero_of_the_other_sign_is_not_bit_for_bit() -> None:
    wanted = torch.tensor([1.0, 0.0])
    assert kernels.error_of(wanted.clone(), wanted) == 0
    assert kernels.error_of(wanted * torch.tensor([1.0, -1.0]), wanted) > 0


def test_a_fallback_says_so_and_has_no_ratio(monkeypatch) -> None:
    missing = "the native module was not built"
    fill = window_gather.reference.fill
    choice = Choice(name="reference", function=fill, passed_over={"cpu": missing})
    monkeypatch.setattr(window_gather, "CHOICE", choice)
    monkeypatch.setitem(sys.modules, "w4rl_kernels._native", None)
    rows = [row for row in measured() if row.op == GATHER]
    assert [row.dtype for row in without_torch(rows)] == ["float32", "bfloat16"]
    for row in without_torch(rows):
        assert (row.implementation, row.ratio_to_reference, row.error) == ("reference", None, None)
        assert row.note == f"fell back to the reference: cpu: {missing}"
    assert f"fell back to the reference: cpu: {missing}" in in_words(rows)


def test_the_page_and_the_summary_hold_every_row(tmp_path) -> None:
    rows = measured()
    summary = write_kernels_report(tmp_path / "new", rows, PEAK, "w4rl bench kernels")
    assert set(summary) == {"rows", "roofline", "environment", "command", "page"}
    assert json.loads((tmp_path / "new" / "kernels.json").read_text()) == summary
    page = (tmp_path / "new" / "kernels.html").read_text()
    for row in rows:
        assert page.count(f"{row.op}, {row.dtype}: {row.implementation}") >= 2
        assert row.note in page
    assert "bit for bit" in page
    assert len(in_words(rows).splitlines()) == len(rows) + 1


@pytest.mark.parametrize(("options", "said"), [({"threads": 0}, "0 thread"), ({"samples": 0}, "0 sample")])
def test_what_cannot_be_measured_is_refused(options, said) -> None:
    with pytest.raises(UserError, match=said):
        measure_kernels(**options, sizes=SMALL, peak=PEAK)


@pytest.mark.parametrize("size", [{"rows": 0}, {"bins": 1}, {"frames": 5}])
def test_a_size_that_holds_nothing_is_refused(size) -> None:
    with pytest.raises(ValueError, match="at least 1 each"):
        Sizes(**size)
