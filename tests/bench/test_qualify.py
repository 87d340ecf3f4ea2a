"""What a qualification measures decides what `auto` takes, and its page says what was won, lost and not measured."""

import dataclasses
import json
import math

import pytest
import torch

import bench.gpu
from bench.qualify import cases, ops, plan, problems, rollouts, trace
from bench.qualify.page import page_of
from bench.qualify.session import LIMIT_S, Session
from bench.qualify.targets import targets_of
from w4rl_kernels import attention, edm_step, measured, noise, norm_act

SMALL = {
    "attention": attention.Problem(16, 2, 8, torch.float32),
    "norm_act": norm_act.Problem("group", 1, 16, 64, 2, torch.float32, "picture", torch.float32, True, True),
    "edm_step": edm_step.Problem("finish", 1, 48, torch.float32, torch.float32, torch.float32, True, 2),
    "noise": noise.Problem(1, 8),
}
GRADIENTS = [("attention", True), ("norm_act", True), *((op, False) for op in SMALL)]
PEAKS = {"copy_gb_per_s": 100.0, "gemm_bf16_tflops": 10.0, "gemm_fp32_tflops": 1.0, "gemm_tf32_tflops": 5.0}


@pytest.fixture
def session():
    made = Session(dry=True)
    made.peaks = dict(PEAKS)
    return made


@pytest.fixture
def interpreted(monkeypatch):
    """Our kernels beside torch's, as on a GPU, by Triton's interpreter."""
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU, and then no interpreter")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    theirs = ops.names
    monkeypatch.setattr(ops, "names", lambda session, case: ("gpu", theirs(session, case)[1]))
    monkeypatch.setattr(ops, "REPEATS", 1)


def row_of(op="attention", key="64 tokens", *, ratio=1.5, gradient=False, ours="gpu", **named):
    """A made-up row of the section `ops`."""
    times = {ours: 0.1, "torch": 0.2, "compiled": 0.1 * ratio}
    return {
        "op": op, "key": key, "gradient": gradient, "dtype": "bfloat16", "pictures": 1024, "ours": ours,
        "timings": {name: {"median_ms": each} for name, each in times.items()}, "predicted_ms": 0.08,
        "median_ms": 0.1, "share_of_copy": 0.85, "share_of_gemm": 0.1, "share_of_roof": 0.8, "fastest": "compiled",
        "ratio": ratio, "errors": {ours: 1e-3}, "without": {}, **named,
    }  # fmt: skip


def rollout_of(**named):
    """A made-up row of the section `rollouts`: the case of a target."""
    case = plan.Case(
        backbone="small", engine="eager", precision="bfloat16", steps=1, worlds=1024, graph="rollout", kernels="on"
    )
    found = {
        **dataclasses.asdict(case), "frames_per_s": 1e5, "ms_a_step": 10.0, "alone_ms": 9.8, "overhead": 0.02,
        "parity_p99": 0.0, "gflop_per_frame": 6.1, "share_of_peak": 0.5, "alone_share_of_peak": 0.65,
        "peak_memory_mb": 100.0, "horizon": 10, "samples": 5, "ratio_to_baseline": 40.0, **named,
    }  # fmt: skip
    return {**found, "way": plan.way_of(found)}


def result_of(*, dry=False, rows=(), **sections):
    """A made-up gpu.json."""
    ratios = ops.measured(list(rows))
    return {
        "dry": dry, "stood_in_for": [], "seconds": {}, "failed": {}, "left_out": {}, "elapsed_s": 1.0,
        "ops": {"rows": list(rows), "measured": ratios, "capability": None if dry else [9, 0]}, **sections,
    }  # fmt: skip


# ---- what worlds ask


@pytest.mark.parametrize("preset", ["tiny", "tiny-dit", pytest.param("small", marks=pytest.mark.slow)])
def test_a_world_without_numbers_asks_what_a_rollout_does(session, preset) -> None:
    from bench.qualify.parts import parts_of

    case = plan.Case(backbone=preset, engine="eager", precision="bfloat16", steps=3, worlds=2, kernels="auto")
    wanted = problems.asked_by(preset, torch.bfloat16)
    with problems.listening() as found:
        rollouts.imagination_of(session, parts_of(preset, "cpu"), case)[0](1)
    assert set(found) == set(wanted)
    assert all(found[each][2:] == wanted[each][2:] for each in found if each[0] == "edm_step")
    assert {op for op, _ in wanted} == set(problems.SWITCHES)


def test_what_is_asked_holds_within_and_is_as_it_was_afterwards() -> None:
    attention.SWITCH.use("reference")
    try:
        with problems.asking("cpu", ("norm_act",)):
            assert {op: switch.asked for op, switch in problems.SWITCHES.items()} == {
                "attention": "torch", "norm_act": "gpu", "edm_step": "torch", "noise": "cpu",
            }  # fmt: skip
        with problems.asking("cpu", None):
            assert attention.SWITCH.asked == "reference"
        assert attention.SWITCH.asked == "reference"
        assert norm_act.SWITCH.asked == "auto"
    finally:
        attention.SWITCH.use("auto")


# ---- what is measured


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(("op", "grad"), GRADIENTS)
def test_a_kernel_stands_beside_its_rivals_and_its_prediction(session, op, grad) -> None:
    case = cases.case_of(op, SMALL[op], torch.float32, few=True, grad=grad)
    (row,) = ops.row_of(session, case, "tiny")
    assert session.failed == {}
    assert row["gradient"] is grad
    assert set(row["timings"]) >= {"gpu", "reference" if op == "noise" else "torch"}
    assert ("compiled" in row["timings"]) is not grad
    assert row["ratio"] == pytest.approx(row["timings"][row["fastest"]]["median_ms"] / row["median_ms"])
    by_copy, by_roof = case.moved / 1e6 / 100, case.flops / 1e9 / PEAKS[case.roof]
    assert row["predicted_ms"] == pytest.approx(max(by_copy, by_roof))
    assert row["share_of_roof"] == pytest.approx(row["predicted_ms"] / row["median_ms"])
    assert max(row["errors"].values()) < 1e-4
    assert (op in ops.measured([row])) is (op != "norm_act")
    assert problems.SWITCHES[op].asked == "auto"


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("grad", [False, True])
def test_a_kernel_that_is_off_the_definition_is_no_row(session, grad) -> None:
    case = cases.case_of("attention", SMALL["attention"], torch.float32, few=True, grad=grad)

    def off(qkv):
        (made,) = case.call(qkv)
        return (made * 1.01 if attention.SWITCH.asked == "gpu" else made,)

    assert ops.row_of(session, dataclasses.replace(case, call=off), "tiny") == []
    assert "off the definition" in session.failed[f"ops: {case}"]


def test_a_gradient_of_what_pictures_share_is_a_sum_over_all_of_them(session, monkeypatch) -> None:
    monkeypatch.setattr(ops, "CHUNK", 1)
    problem = SMALL["norm_act"]._replace(scaled_by="channel")
    case = cases.case_of("norm_act", problem, torch.float32, few=True, grad=True)
    (row,) = ops.row_of(session, case, "tiny")
    assert row["errors"]["torch"] < 1e-4


def test_gradients_cost_more_than_none() -> None:
    for op in ops.LEARNED:
        plain, both = (
            cases.case_of(op, SMALL[op], torch.float32, few=True, grad=grad) for grad in (False, True)
        )  # fmt: skip
        assert both.moved > plain.moved
        assert both.flops > plain.flops


def test_no_kernel_that_loses_in_training_is_measured_to_win() -> None:
    rows = [
        row_of("norm_act", "both", ratio=2.0), row_of("norm_act", "both", ratio=0.8, gradient=True),
        row_of("norm_act", "no training", ratio=2.0), row_of("attention", "64 tokens", ratio=1.4),
        row_of("attention", "64 tokens, with gradient", ratio=0.7, gradient=True), row_of("noise", "dry", ours="torch"),
    ]  # fmt: skip
    assert ops.measured(rows) == {
        "norm_act": {"both": 0.8}, "attention": {"64 tokens": 1.4, "64 tokens, with gradient": 0.7},
    }  # fmt: skip


def test_each_section_has_its_part_of_what_is_left(monkeypatch) -> None:
    session, begun = Session(dry=True), []
    monkeypatch.setattr(bench.gpu, "section", lambda name, given: begun.append((name, given.deadline_s)))
    monkeypatch.setattr(bench.gpu, "publish", lambda _, result, *__: result)
    bench.gpu.qualify(session, ["peaks", "ops"])
    assert [name for name, _ in begun] == ["peaks", "ops"]
    assert begun[0][1] < 0.05 * LIMIT_S
    assert begun[1][1] == pytest.approx(LIMIT_S)
    session.begin(0.0)
    assert session.is_late("this")
    assert "the time is up" in session.left_out["this"]


# ---- the table that `auto` goes by


@pytest.fixture
def table(monkeypatch, tmp_path):
    """A table in the place of the one that is kept, on a GPU of an architecture."""
    path = tmp_path / "measured.json"
    for module in (ops, measured):
        monkeypatch.setattr(module, "TABLE", path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    measured.table.cache_clear()
    yield path
    measured.table.cache_clear()


def written(tmp_path, result):
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps({"result": result}))
    return str(path)


def test_auto_goes_by_what_was_measured(table, tmp_path, capsys) -> None:
    table.write_text('{"sm_80": {"attention": {"64 tokens": 3.0}}, "sm_90": {"attention": {"old": 2.0}}}')
    rows = [row_of(key="won", ratio=1.5), row_of(key="lost", ratio=0.5)]
    assert ops.main([written(tmp_path, result_of(rows=rows))]) == 0
    assert "sm_90: 2 classes of shapes, 1 of them won" in capsys.readouterr().out
    assert measured.unproven("attention", "won") is None
    assert "2.00 times faster" in measured.unproven("attention", "lost")
    assert "not measured" in measured.unproven("attention", "old")
    assert json.loads(table.read_text())["sm_80"] == {"attention": {"64 tokens": 3.0}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dry": True}, "a dry run measures nothing"),
        ({"ops": None}, "no kernel was measured"),
        ({"ops": {"measured": {}, "capability": [9, 0]}}, "no kernel was measured"),
        ({"ops": {"measured": {"noise": {"all": 2.0}}, "capability": None}}, "does not say which GPU"),
        ({"ops": {"measured": {"noise": {"all": "nan."}}, "capability": [9, 0]}}, "holds no ratios"),
    ],
)
def test_what_measured_nothing_on_a_gpu_is_refused(table, tmp_path, capsys, change, said) -> None:
    assert ops.main([written(tmp_path, result_of(rows=[row_of()]) | change)]) == 2
    out = capsys.readouterr().out
    assert out.startswith("error: ")
    assert said in out
    assert "gpu.json" in out
    assert not table.exists()


def test_no_file_and_no_json_are_refused_too(table, tmp_path, capsys) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for arguments in ([str(tmp_path / "absent.json")], [str(broken)], []):
        assert ops.main(arguments) == 2
        assert capsys.readouterr().out.startswith("error: ")
    assert not table.exists()


# ---- targets and the page


def test_a_target_counts_the_worst_and_is_met_or_missed() -> None:
    rows = [
        row_of(key="a", ratio=1.6), row_of(key="b", ratio=1.2), row_of("norm_act", "c", share_of_copy=0.9),
        row_of("norm_act", "d", share_of_copy=math.nan), row_of("norm_act", "e", share_of_copy=0.1, gradient=True),
    ]  # fmt: skip
    trace = {"auto": {"case": "small", "waits": {}, "reads": {}, "raised": None}, "on": None}
    found = {each.name: each for each in targets_of(result_of(rows=rows, rollouts=[rollout_of()], trace=trace))}
    by = {name.partition(":")[0]: (each.value, each.met) for name, each in found.items()}
    assert by["attention"] == (1.2, False)
    assert by["norm_act"] == (0.9, True)
    assert by["edm_step"] == (None, None)
    assert by["small, 1,024 worlds, one step, bfloat16"] == (40.0, True)
    assert by["rollout as a graph, our kernels"] == (0.02, True)
    assert by["waits of the host in the steps of a rollout"] == (0, True)
    assert "worst of 2: b" in found["attention: to the fastest of torch's own"].note


def test_a_dry_run_meets_and_misses_no_target() -> None:
    dry = result_of(dry=True, rows=[row_of()], rollouts=[rollout_of()])
    assert {(each.value, each.met) for each in targets_of(dry)} == {(None, None)}


def test_the_page_lists_what_does_not_win() -> None:
    key = "group norm of 4096 positions, 64 channels, groups 2, scaled by picture, SiLU, bfloat16"
    rows = [row_of("norm_act", key, ratio=0.5), row_of(key="<script>", ratio=1.5)]
    page = page_of(result_of(rows=rows, rollouts=[rollout_of()]), {"gpus": ["A <GPU>"]})
    lost = page.partition("does not win")[2].partition("<h2>")[0]
    assert "norm_act: 4096 x 64 in 2 by picture, SiLU" in lost
    assert "0.50x" in lost
    assert "script" not in lost
    assert "<script>" not in page
    assert "A &lt;GPU&gt;" in page
    won = page_of(result_of(rows=rows[1:]), {})
    assert "There is none among 1." in won


def test_the_page_of_a_dry_run_has_no_speed() -> None:
    page = page_of(result_of(dry=True, rows=[row_of(ours="torch")], rollouts=[rollout_of()]), {})
    lost = page.partition("does not win")[2].partition("<h2>")[0]
    assert "Not measured." in lost
    for figure in ("0.100", "1.50x", "40.00x", "100,000", "2.0%", "85%"):
        assert figure not in page
    assert page.count("not measured") > 20


# ---- rollouts and their trace


def test_what_the_targets_name_comes_first_and_with_all_its_ways(session) -> None:
    backbone, worlds = plan.PLAN[0]
    session.dry, session.device = False, "cpu"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
        patch.setattr(measured, "table", lambda: {"sm_90": {"noise": {"all": 2.0}}})
        found = list(plan.cases(session, backbone, worlds, whole=True))
    ways = {(each.graph, each.kernels) for each in found if each.steps == 1 and each.precision == "bfloat16"}
    assert (backbone, worlds) == ("small", 1024)
    assert ways == {
        ("", "off"), ("", "on"), ("step", "off"), ("rollout", "off"), ("rollout", "on"), ("rollout", "auto"),
    }  # fmt: skip
    assert [(each.engine, each.precision) for each in found[:2]] == [("eager", "float32"), ("baseline", "float32")]
    assert len({str(each) for each in found}) == len(found)


def event(cat, name, ts, dur=1.0, correlation=None):
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "args": {"correlation": correlation}}


def test_a_wait_in_the_steps_of_a_rollout_is_seen() -> None:
    events = [
        event("cuda_runtime", "cudaMemcpyAsync", 1, correlation=1),
        event("gpu_memcpy", "Memcpy HtoD (Pageable -> Device)", 2, correlation=1),
        event("cuda_runtime", "cudaStreamSynchronize", 3, correlation=2),
        event("user_annotation", trace.LABEL, 10, 100),
        event("gpu_user_annotation", trace.LABEL, 12, 100),
        event("cuda_runtime", "cudaLaunchKernel", 11, correlation=3),
        event("cuda_driver", "cuLaunchKernel", 12, correlation=4),
        event("kernel", "gemm", 20, 30, correlation=3),
        event("kernel", "norm", 60, 50, correlation=4),
        event("cuda_runtime", "cudaDeviceSynchronize", 120, correlation=5),
        {"ph": "i", "name": "cudaStreamSynchronize", "ts": 50},
    ]  # fmt: skip
    calm = trace.facts(events, on_gpu=True)
    assert (calm["waits"], calm["reads"], calm["launches"]) == ({}, {}, 2)
    assert calm["waits_before"] == {"cudaStreamSynchronize": 1, "Memcpy HtoD (Pageable -> Device)": 1}
    assert calm["busy"] == pytest.approx(0.8)
    assert [(each["name"], each["calls"]) for each in calm["kernels"]] == [("norm", 1), ("gemm", 1)]
    events += [
        event("cpu_op", "aten::_local_scalar_dense", 49),
        event("cuda_runtime", "cudaMemcpyAsync", 50, correlation=6),
        event("gpu_memcpy", "Memcpy DtoH (Device -> Pageable)", 115, correlation=6),
        event("cuda_runtime", "cudaStreamSynchronize", 51, correlation=7),
    ]
    found = trace.facts(events, on_gpu=True)
    assert found["waits"] == {"cudaStreamSynchronize": 1, "Memcpy DtoH (Device -> Pageable)": 1}
    assert found["reads"] == {"aten::_local_scalar_dense": 1}
    assert trace.facts(events, on_gpu=False)["busy"] is None


def test_a_trace_plays_each_rollout_as_it_is() -> None:
    watched, played = trace.Watched(Session(dry=True)), []
    replay = watched(lambda: played.append("begin"), lambda: played.append("play"))
    replay()
    assert played == ["begin", "play", "play"]
    assert trace.raised(lambda: (_ for _ in ()).throw(RuntimeError("waited\nhere"))) == "waited"
    assert trace.raised(lambda: None) is None
