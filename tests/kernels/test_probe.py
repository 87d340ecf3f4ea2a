"""Whether Triton's kernels can run here: release, compiler, interpreter; and what runs where they cannot."""

import importlib.metadata
import importlib.util
import json
import tomllib
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from w4rl_kernels import ahead, attention, edm_step, measured, noise, norm_act, probe
from w4rl_kernels.select import ImplementationUnavailable, select
from w4rl_kernels.two_hot import operators as two_hot

ROOT = Path(__file__).parents[2]
PROBLEMS = [
    (attention, attention.Problem(256, 12, 8, torch.bfloat16)),
    (norm_act, norm_act.Problem("group", 2, 256, 48, 1, torch.bfloat16, "picture", torch.bfloat16, True, True)),
    (edm_step, edm_step.Problem("advance", 2, 588, torch.float32, None, torch.bfloat16)),
    (noise, noise.Problem(2, 588)),
]
LACKS = {
    "absent": ("triton is not installed", 'pip install "triton>=3.6,<3.8"'),
    "old": ("triton 2.1.0 is installed, which our kernels were not checked with", 'pip install "triton>=3.6,<3.8"'),
    "no compiler": (
        "no C compiler: Triton builds the launch of a kernel with one",
        "install gcc or clang, or set CC",
    ),
}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A machine with a GPU, Triton 3.7.1 and gcc; a name of LACKS takes one of these away."""
    (tmp_path / "gcc").touch(mode=0o755)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(probe, "triton_release", lambda: "3.7.1")
    monkeypatch.setattr(measured, "unproven", lambda *_: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    def without(lack: str) -> None:
        if lack == "absent":
            monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
        elif lack == "old":
            monkeypatch.setattr(probe, "triton_release", lambda: "2.1.0")
        elif lack == "no compiler":
            (tmp_path / "gcc").unlink()

    return without


@pytest.fixture(params=PROBLEMS, ids=lambda pair: pair[0].SWITCH.op)
def chosen(request, monkeypatch: pytest.MonkeyPatch):
    """The switch of an op that asks for "auto" until the test ends, and a problem that its kernel takes."""
    op, problem = request.param
    monkeypatch.setattr(op.SWITCH, "asked", "auto")
    return op.SWITCH, problem


@pytest.mark.usefixtures("machine")
def test_with_all_that_it_takes_nothing_is_missing_and_the_kernels_run(chosen) -> None:
    switch, problem = chosen
    assert (probe.no_triton(), probe.no_compiler(), probe.triton_on_gpu()) == (None, None, None)
    assert switch.serve("cuda", problem) == "gpu"
    assert select("two_hot", two_hot.ON_GPU).name == "gpu"


@pytest.mark.parametrize("lack", LACKS)
def test_whatever_is_missing_what_is_plain_torch_runs_and_a_wish_is_refused_with_the_reason_and_the_remedy(
    machine, chosen, lack: str
) -> None:
    switch, problem = chosen
    machine(lack)
    words = "; ".join(LACKS[lack])
    assert probe.triton_on_gpu() == words
    served = "reference" if switch is noise.SWITCH else "torch"
    assert switch.serve("cuda", problem) == served
    choice = select("two_hot", two_hot.ON_GPU)
    assert (choice.name, choice.why) == ("reference", f"gpu: {words}")
    switch.use("gpu")
    with pytest.raises(ImplementationUnavailable) as refused:
        switch.serve("cuda", problem)
    assert words in str(refused.value)
    assert f". {served}" in str(refused.value)
    assert "reference would serve it: choose that, or 'auto'" in str(refused.value)


@pytest.mark.parametrize(
    ("release", "fits"),
    [("3.6.0", True), ("3.7.1", True), ("3.7.0+git9844da95", True)]
    + [(each, False) for each in ("2.1.0", "3.5.1", "3.8.0", "3.10.0", "4.6.0", "13.6.0", "of unknown release", "3")],
)
def test_the_minor_release_decides(monkeypatch: pytest.MonkeyPatch, release: str, fits: bool) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(probe, "triton_release", lambda: release)
    assert (probe.no_triton() is None) == fits
    if release[0].isdigit():
        assert Requirement(probe.TRITON).specifier.contains(release) == fits, "the remedy says the same"


def test_what_the_kernels_were_compiled_with_and_what_we_install_is_accepted() -> None:
    wanted = Requirement(probe.TRITON).specifier
    assert wanted.contains(json.loads(ahead.TABLE.read_text())["triton"])
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("triton==")]
    assert [wanted.contains(pin.removeprefix("triton==")) for pin in pins] == [True]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    extra = Requirement(extras["triton"][0]).specifier
    assert all(extra.contains(release) for release in ("3.6.0", "3.6.1", "3.7.0", "3.7.1"))


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason=f'pip install "{probe.TRITON}"')
def test_the_release_is_read_without_importing_triton(run_python) -> None:
    code = """import sys
from w4rl_kernels import probe
print(probe.no_triton(), "triton" in sys.modules)
import triton
print(probe.triton_release() == triton.__version__)"""
    assert run_python(code).split() == ["None", "False", "True"]


def test_a_nightly_release_goes_by_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"pytorch-triton": "3.7.0+git9844da95"}

    def version(name: str) -> str:
        if name not in there:
            raise importlib.metadata.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert probe.triton_release.__wrapped__() == "3.7.0+git9844da95"
    there.clear()
    assert probe.triton_release.__wrapped__() == "of unknown release"


@pytest.mark.parametrize(
    ("programs", "asked", "words"),
    [
        (["gcc"], None, None),
        (["clang"], None, None),
        (["cc"], None, "no C compiler: "),  # Triton does not look for it
        ([], None, "no C compiler: "),
        (["cc"], "cc", None),
        (["gcc"], "icx", "no C compiler at 'icx', where CC points: "),
        (["gcc"], "", "no C compiler at '', where CC points: "),
    ],
)
def test_a_compiler_is_looked_for_where_triton_does(monkeypatch, tmp_path, programs, asked, words) -> None:
    for name in programs:
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    if asked is not None:
        monkeypatch.setenv("CC", asked)
    reason = probe.no_compiler()
    assert reason == words or (words is not None and reason is not None and reason.startswith(words))
    assert reason is None or reason.endswith("; install gcc or clang, or set CC")


def test_the_interpreter_is_asked_about_anew_and_needs_triton_but_no_compiler(machine, monkeypatch) -> None:
    machine("no compiler")
    for _ in range(2):
        monkeypatch.delenv("TRITON_INTERPRET", raising=False)
        assert probe.triton_interpreted() == "Triton's kernels need a GPU, or TRITON_INTERPRET=1"
        assert str(probe.triton_on_gpu()).startswith("no C compiler")
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        assert probe.triton_interpreted() is probe.triton_on_gpu() is None
    machine("old")
    assert "2.1.0" in str(probe.triton_interpreted())
    assert "2.1.0" in str(probe.triton_on_gpu())


@pytest.mark.usefixtures("machine")
def test_a_wish_on_a_cpu_follows_the_interpreter_from_one_call_to_the_next(chosen, monkeypatch) -> None:
    switch, problem = chosen
    switch.use("gpu")
    for _ in range(2):
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        assert switch.of("cpu", *problem) == "gpu"
        monkeypatch.setenv("TRITON_INTERPRET", "0")
        with pytest.raises(ImplementationUnavailable, match="need a GPU, or TRITON_INTERPRET=1"):
            switch.of("cpu", *problem)
