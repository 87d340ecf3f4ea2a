"""Laws of choosing an implementation: a wish is met or refused with reasons, and only auto falls back."""

from collections.abc import Callable

import pytest

from w4rl_kernels.select import Implementation, ImplementationUnavailable, select

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
    with pytest.raises(ValueError, match="reference, cpu, gpu"):
        Implementation[Double](name="fast", load=refuse_to_load)
