"""Laws of choosing an implementation: a wish is met or refused with reasons, and only auto falls back."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch

from w4rl_kernels import attention, edm_step, noise, norm_act
from w4rl_kernels.select import Implementation, ImplementationUnavailable, Switch, select

Double = Callable[[int], int]


def refuse_to_load() -> Double:
    raise AssertionError("loaded although it was not chosen")


REFERENCE = Implementation[Double](name="reference", load=lambda: lambda x: 2 * x)
CPU = Implementation[Double](name="cpu", load=lambda: lambda x: x + x)
NO_GPU = Implementation[Double](name="gpu", load=refuse_to_load, unavailable=lambda: "no GPU here; use another machine")


def test_a_name_is_met_exactly_and_nothing_else_is_loaded() -> None:
    choice = select("double", [NO_GPU, CPU, REFERENCE], "reference")
    assert (choice.name, choice.function(21), choice.why) == ("reference", 42, "")


def test_auto_takes_the_first_that_runs_and_says_why_not_the_others() -> None:
    choice = select("double", [NO_GPU, CPU, REFERENCE])
    assert choice.name == "cpu"
    assert choice.why == "gpu: no GPU here; use another machine"


def test_what_auto_passes_over_is_logged_and_a_name_that_is_met_is_not(caplog) -> None:
    with caplog.at_level("INFO", "w4rl_kernels"):
        select("double", [NO_GPU, CPU, REFERENCE])
        select("double", [NO_GPU, CPU, REFERENCE], "cpu")
    assert [each.message for each in caplog.records] == ["double: not gpu: no GPU here; use another machine"]


def test_auto_without_a_fallback_gives_no_reason() -> None:
    assert select("double", [CPU, REFERENCE]).why == ""


def test_a_name_that_cannot_run_is_refused_with_the_reason_and_those_that_can() -> None:
    with pytest.raises(ImplementationUnavailable, match=r"'gpu' of double.*no GPU here.*Available: cpu, reference"):
        select("double", [NO_GPU, CPU, REFERENCE], "gpu")


@pytest.mark.parametrize("name", ["gpu", "gpuu", ""])
def test_a_name_the_op_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(ImplementationUnavailable, match="double has only cpu, reference"):
        select("double", [CPU, REFERENCE], name)


def test_auto_is_refused_when_nothing_runs() -> None:
    with pytest.raises(ImplementationUnavailable, match=r"no GPU here.*Available: none"):
        select("double", [NO_GPU])


def test_an_implementation_has_a_known_name() -> None:
    with pytest.raises(ValueError, match="reference, torch, cpu, gpu"):
        Implementation[Double](name="fast", load=refuse_to_load)


# ---- a choice for each call


def switch(**gpu) -> Switch[Double]:
    ours = Implementation[Double](name="gpu", load=lambda: lambda x: x << 1, **gpu)
    return Switch("double", {"cuda": (ours, CPU, REFERENCE), "cpu": (CPU, REFERENCE)})


def test_auto_takes_what_is_proven_for_the_problem_and_logs_once_what_it_passes_over(caplog) -> None:
    chooses = switch(unproven=lambda size: "not measured to win" if size < 100 else None)
    with caplog.at_level("INFO", "w4rl_kernels"):
        assert [chooses.serve("cuda", size) for size in (5, 100, 6)] == ["cpu", "gpu", "cpu"]
    assert [each.message for each in caplog.records] == ["double on cuda: not gpu: not measured to win"]
    assert chooses.function("cuda", "gpu")(21) == 42


def test_what_is_asked_for_is_met_though_nobody_proved_it_and_refused_where_it_cannot() -> None:
    odd = {"refuses": lambda size: "it takes even sizes" if size % 2 else None}
    chooses = switch(unproven=lambda _: "never measured", **odd)
    chooses.use("gpu")
    assert chooses.serve("cuda", 4) == "gpu"
    with pytest.raises(ImplementationUnavailable, match=r"'gpu' of double cannot take 5: it takes even.*cpu or refer"):
        chooses.serve("cuda", 5)
    with pytest.raises(ImplementationUnavailable, match="on cpu it has only cpu, reference"):
        chooses.serve("cpu", 4)
    assert switch(**odd).serve("cuda", 5) == "cpu", "auto goes on"


def test_the_environment_asks_too_and_a_wrong_name_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("W4RL_DOUBLE", "reference")
    assert switch().serve("cuda", 1) == "reference"
    monkeypatch.setenv("W4RL_DOUBLE", "fast")
    with pytest.raises(ImplementationUnavailable, match="W4RL_DOUBLE"):
        switch()


class Problem(NamedTuple):
    size: int
    dtype: torch.dtype


def test_a_choice_is_a_constant_of_a_compiled_graph_that_knows_the_whole_problem() -> None:
    picky = dataclasses.replace(CPU, refuses=lambda problem: "not 2" if problem.size != 2 else None)
    chooses = Switch("double", {"cpu": (picky, REFERENCE)}, Problem)

    def call(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if chooses.of(x.device.type, x.shape[0], x.dtype) == "cpu" else x

    compiled = torch.compile(call, fullgraph=True, dynamic=True, backend="eager")
    assert [compiled(torch.zeros(size))[0] for size in (3, 2, 4)] == [0, 1, 0]

    assert torch.compile(call, fullgraph=True, backend="eager")(torch.zeros(2))[0] == 1


# ---- an answer is kept


def counting(**gpu) -> tuple[Switch[Double], list[int]]:
    """A switch, and the sizes that its kernel for a GPU was asked about."""
    seen: list[int] = []
    return switch(refuses=lambda size: seen.append(size) or ("odd" if size % 2 else None), **gpu), seen


def test_on_a_gpu_each_problem_is_asked_about_once_until_another_name_is_asked_for() -> None:
    chooses, seen = counting()
    assert [chooses.of("cuda", size) for size in (2, 3, 2, 3, 2)] == ["gpu", "cpu", "gpu", "cpu", "gpu"]
    assert seen == [2, 3]
    chooses.use("reference")
    assert chooses.of("cuda", 2) == "reference"
    chooses.use("auto")
    assert chooses.of("cuda", 2) == "gpu"
    assert seen == [2, 3, 2]


def test_use_forgets_so_that_what_has_changed_is_seen() -> None:
    lacks = ["no compiler"]
    chooses = switch(unavailable=lambda: lacks[0] if lacks else None)
    assert chooses.of("cuda", 2) == "cpu"
    lacks.clear()
    assert chooses.of("cuda", 2) == "cpu"
    assert chooses.serve("cuda", 2) == "gpu", "asked anew"
    chooses.use("auto")
    assert chooses.of("cuda", 2) == "gpu"


def test_an_answer_belongs_to_what_was_asked_for_the_device_and_every_fact() -> None:
    ours = Implementation[Double](name="gpu", load=refuse_to_load, refuses=lambda facts: "no" if 2 in facts else None)
    chooses = Switch("double", {"cuda": (ours, CPU), "xpu": (REFERENCE,)}, lambda *facts: facts)
    assert [chooses.of("cuda", *facts) for facts in ((1, 2), (1, 3), (2, 1), (3, 1))] == ["cpu", "gpu", "cpu", "gpu"]
    assert chooses.of("xpu", 1, 3) == "reference"
    chooses.asked = "cpu"
    assert chooses.of("cuda", 1, 3) == "cpu"


def test_a_refusal_is_not_kept_and_a_cpu_is_asked_each_time() -> None:
    chooses, seen = counting()
    chooses.use("gpu")
    for _ in range(2):
        with pytest.raises(ImplementationUnavailable, match="odd"):
            chooses.of("cuda", 3)
    assert seen.count(3) >= 2
    said = ["no interpreter"]
    ours = Implementation[Double](name="gpu", load=refuse_to_load, unavailable=lambda: said[0])
    chooses = Switch("double", {"cpu": (ours, CPU)})
    assert chooses.of("cpu", 1) == "cpu"
    said[0] = None
    assert chooses.of("cpu", 1) == "gpu"


def test_a_compiled_graph_keeps_answers_too_and_is_not_compiled_anew_for_them() -> None:
    chooses, seen = counting()
    graphs = []

    def call(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if chooses.of("cuda", x.shape[0]) == "gpu" else x

    def count(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(call, fullgraph=True, backend=count)
    for _ in range(3):
        assert [compiled(torch.zeros(size))[0] for size in (3, 2, 4)] == [0, 1, 1]
        chooses.of("cuda", 100 + len(seen))
    assert len(graphs) == 3, "one for each size"
    torch.compiler.reset()


# ---- devices of other kinds


def test_a_device_without_kernels_of_ours_takes_torchs_own_or_else_the_definition() -> None:
    torchs = Implementation[Double](name="torch", load=lambda: lambda x: x * 2.0)
    assert switch().serve("mps", 1) == switch().of("xpu", 1) == "reference"
    chooses = Switch("double", {"cuda": (NO_GPU,), "cpu": (CPU, REFERENCE, torchs)})
    assert chooses.serve("mps", 1) == "torch"
    assert chooses.function("mps", "torch")(21) == 42
    for name in ("torch", "reference"):
        chooses.use(name)
        assert chooses.serve("mps", 1) == name
    for name in ("gpu", "cpu"):
        chooses.use(name)
        words = f"{name!r} of double cannot take 1: on mps it has only torch, reference. torch or reference would serve"
        with pytest.raises(ImplementationUnavailable, match=words):
            chooses.serve("mps", 1)


# ---- the ops that have a switch


@pytest.fixture
def auto(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every op by "auto" until the test ends."""
    for op in (attention, norm_act, edm_step, noise):
        monkeypatch.setattr(op.SWITCH, "asked", "auto")
        monkeypatch.setattr(op.SWITCH, "_answers", {})


GROUP = norm_act.Problem("group", 2, 256, 48, 1, torch.bfloat16, "picture", torch.bfloat16, True, True)
STEP = edm_step.Problem("advance", 2, 588, torch.float32, None, torch.bfloat16)
HEADS = attention.Problem(256, 12, 8, torch.bfloat16)


@pytest.mark.usefixtures("auto")
@pytest.mark.parametrize(
    ("op", "good", "changed", "takes"),
    [
        (attention, HEADS, {"dtype": torch.float64}, "it takes float32, bfloat16, float16"),
        (attention, HEADS, {"tokens": 5000}, "5000 tokens: it takes 1 to 4096"),
        (attention, HEADS, {"heads": 1 << 24}, "16777216 heads.* it takes fewer. Use fewer heads"),
        (norm_act, GROUP, {"dtype": torch.float64}, "the kernel takes float32, bfloat16 and float16"),
        (norm_act, GROUP, {"channels": 5000}, "5000 channels normed together: the kernel takes up to 4096"),
        (edm_step, STEP, {"made": torch.float64}, "it takes float32, bfloat16 and float16"),
        (edm_step, STEP, {"size": 1 << 31}, "2 pictures of 2147483648 numbers: "),
    ],
)
def test_a_refusal_names_the_call_what_is_taken_and_what_would_serve(monkeypatch, op, good, changed, takes) -> None:
    bad = good._replace(**changed)
    ours = dataclasses.replace(op.SWITCH.implementations["cuda"][0], unavailable=lambda: None, unproven=lambda _: None)
    monkeypatch.setattr(op.SWITCH, "implementations", {"cuda": (ours, *op.SWITCH.implementations["cuda"][1:])})
    assert (op.SWITCH.serve("cuda", good), op.SWITCH.serve("cuda", bad)) == ("gpu", "torch")
    op.SWITCH.use("gpu")
    assert op.SWITCH.serve("cuda", good) == "gpu"
    with pytest.raises(ImplementationUnavailable, match=takes) as refused:
        op.SWITCH.serve("cuda", bad)
    assert f"'gpu' of {op.SWITCH.op} cannot take {bad}: " in str(refused.value)
    assert "torch or reference would serve it: choose that, or 'auto'" in str(refused.value)


@pytest.mark.usefixtures("auto")
def test_every_op_runs_on_a_device_without_kernels_of_ours() -> None:
    """The device meta, where tensors have shapes and nothing else."""

    def made(*size: int) -> torch.Tensor:
        return torch.zeros(size, device="meta")

    calls = {
        attention.SWITCH: lambda: attention.attention(made(2, 6, 3, 4, 8), frame=3),
        norm_act.SWITCH: lambda: norm_act.group_norm(made(2, 8, 3, 5), 2, made(2, 8), made(2, 8), act=True),
        edm_step.SWITCH: lambda: edm_step.advance(
            *(made(2, 3, 4, 4), made(2, 3, 4, 4), None), skip=0.3, out=0.5, sigma=1.7, after=0.2, into=0.8,
            rounding=True, dtype=torch.float32,
        )[0],
        noise.SWITCH: lambda: noise.normal_noise(*(made(2).long() for _ in range(3)), (3, 4)),
    }  # fmt: skip
    for chooses, call in calls.items():
        plain = ["reference"] if chooses is noise.SWITCH else ["torch", "reference"]
        for name in ("auto", *plain):
            chooses.use(name)
            assert call().device.type == "meta"
        chooses.use("gpu")
        with pytest.raises(ImplementationUnavailable, match=f"on meta it has only {', '.join(plain)}"):
            call()
