"""Laws of choosing an implementation: a wish is met or refused with reasons, and only auto falls back."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch

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
