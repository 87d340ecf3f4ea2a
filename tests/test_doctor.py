import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from click.testing import CliRunner

from w4rl_fast import doctor
from w4rl_fast.cli.doctor import doctor as command
from w4rl_fast.doctor import Finding
from w4rl_kernels import attention, measured, probe

Machine = Callable[..., None]

ROOMS = ["machine", "torch", "accelerators", "kernels", "engines", "robot", "extras", "renderers", "disk"]


@pytest.fixture(scope="module")
def findings() -> list[Finding]:
    return doctor.examine()


def by_name(findings: object) -> dict[str, Finding]:
    assert hasattr(findings, "__iter__")
    return {finding.name: finding for finding in findings}


def test_every_room_is_examined_once_and_in_order(findings: list[Finding]) -> None:
    assert list(dict.fromkeys(finding.room for finding in findings)) == ROOMS
    names = [(finding.room, finding.name) for finding in findings]
    assert len(set(names)) == len(names)
    assert all(finding.detail for finding in findings)
    assert doctor.is_usable(findings)


def test_examining_loads_no_renderer_and_no_engine() -> None:
    names = {"OpenGL", "mujoco", "metaworld", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "torch_tensorrt"}
    probe = f"import sys; from w4rl_fast.doctor import examine; examine(); print({names} & sys.modules.keys())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command_line = [sys.executable, "-c", probe]
    output = subprocess.run(command_line, env=environment, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["torch", "numpy"])
def test_without_torch_or_numpy_nothing_is_usable_and_the_rest_is_still_told(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = importlib.import_module

    def break_one(module: str) -> ModuleType:
        if module == name:
            raise OSError("libsomething.so: cannot open shared object file")
        return whole(module)

    monkeypatch.setattr(importlib, "import_module", break_one)
    result = CliRunner().invoke(command, ["--json"])
    assert result.exit_code == 1
    findings = [Finding(**finding) for finding in json.loads(result.output)["findings"]]
    broken = by_name(finding for finding in findings if finding.room == "torch")[name]
    assert not broken.ok
    assert "libsomething.so" in broken.detail
    assert "pip install" in broken.remedy
    assert {finding.room for finding in findings} == set(ROOMS)


@pytest.mark.parametrize(("cores", "threads", "remedy"), [(8, 8, "OMP_NUM_THREADS=7"), (8, 7, ""), (1, 1, "")])
def test_more_threads_than_recommended_get_advice(
    cores: int, threads: int, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(doctor, "physical_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    finding = by_name(doctor._torch())["threads"]
    assert finding.ok
    assert finding.remedy.endswith(remedy)
    assert bool(finding.remedy) == bool(remedy)


def test_an_extra_is_there_if_each_of_its_requirements_is_met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "w4rl_fast-9.dist-info"
    folder.mkdir()
    requirements = {
        "met": "numpy>=1.5",
        "absent": "no-such-distribution",
        "old": "numpy<1",
        "elsewhere": "no-such-distribution; sys_platform == 'atari'",
    }
    lines = ["Metadata-Version: 2.4", "Name: w4rl-fast", "Version: 9", "Requires-Dist: click"]
    for extra, requirement in requirements.items():
        name, _, marker = requirement.partition("; ")
        condition = f"({marker}) and " if marker else ""
        lines += [f"Provides-Extra: {extra}", f"Requires-Dist: {name}; {condition}extra == '{extra}'"]
    (folder / "METADATA").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = by_name(doctor._extras())
    assert {name: finding.ok for name, finding in found.items()} == {
        "met": True,
        "absent": False,
        "old": False,
        "elsewhere": True,
    }
    assert "numpy" in found["met"].detail
    assert "click" not in found["met"].detail
    assert found["absent"].remedy == 'pip install "w4rl-fast[absent]"'
    assert "numpy<1 (there is" in found["old"].detail


@pytest.mark.parametrize(
    ("libraries", "display", "works"),
    [
        ({"EGL"}, False, True),
        ({"OSMesa"}, False, True),
        ({"GL"}, True, True),
        ({"GL"}, False, False),
        (set(), True, False),
    ],
)
def test_opengl_needs_a_library_that_has_somewhere_to_draw(
    libraries: set[str], display: bool, works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_is_there", lambda _: True)
    monkeypatch.setattr(doctor, "find_library", lambda name: name if name in libraries else None)
    monkeypatch.delenv("DISPLAY", raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", ":0")
    found = by_name(doctor._renderers())
    assert (found["ray"].ok, found["gl"].ok) == (True, works)
    assert bool(found["gl"].remedy) == (not works)


def test_without_mujoco_neither_renderer_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_is_there", lambda _: False)
    assert {finding.remedy for finding in doctor._renderers()} == {'pip install "w4rl-fast[sim]"'}
    assert not any(finding.ok for finding in doctor._renderers())


def test_a_folder_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    finding = by_name(doctor._disk())["this folder"]
    assert (finding.ok, finding.detail) == (False, "cannot be written: Permission denied")


@pytest.mark.skipif(not Path("/dev", "shm").is_dir(), reason="this system has no /dev/shm")
@pytest.mark.parametrize(("free", "ok"), [(64_000_000, False), (2_000_000_000, True)])
def test_little_shared_memory_is_told(free: int, ok: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    finding = by_name(doctor._disk())["shared memory"]
    assert (finding.ok, "--shm-size" in finding.remedy) == (ok, not ok)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Triton 3.7.1, a C compiler and attention by "auto"; a GPU of some architecture where a test gives one."""
    import torch

    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: object())
    monkeypatch.setattr(probe, "triton_release", lambda: "3.7.1")
    monkeypatch.setattr(probe, "no_compiler", lambda: None)
    monkeypatch.setattr(attention.SWITCH, "asked", "auto")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    def give(gpu: tuple[int, int] | None, table: dict[str, dict[str, dict[str, float]]] | None = None) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: gpu)
        monkeypatch.setattr(measured, "table", lambda: table or {})

    give(None)
    return give


@pytest.mark.usefixtures("machine")
def test_triton_says_its_release_and_whether_it_is_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._triton().detail == "3.7.1, compiled; it needs a GPU to run"
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(probe, "no_compiler", lambda: "no C compiler")
    finding = doctor._triton()
    assert (finding.ok, finding.detail) == (True, "3.7.1, interpreted on the CPU (TRITON_INTERPRET=1)")


LACKS: dict[str, tuple[object, str, object, str, str]] = {
    "absent": (importlib.util, "find_spec", None, "triton is not installed", 'pip install "triton>=3.6,<3.8"'),
    "old": (
        probe, "triton_release", "2.1.0",
        "triton 2.1.0 is installed, which our kernels were not checked with", 'pip install "triton>=3.6,<3.8"',
    ),
    "no compiler": (probe, "no_compiler", "no C compiler; install gcc", "no C compiler", "install gcc"),
}  # fmt: skip


@pytest.mark.parametrize("lack", LACKS)
def test_what_triton_lacks_is_told_with_the_remedy_and_auto_takes_torchs_own(
    lack: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, name, answer, detail, remedy = LACKS[lack]
    machine((9, 0))
    monkeypatch.setattr(where, name, lambda *_: answer)
    finding = doctor._triton()
    assert (finding.ok, finding.detail, finding.remedy) == (False, detail, remedy)
    finding = doctor._switch("attention")
    assert (finding.ok, finding.detail) == (True, f"auto: torch; not gpu: {detail}")
    attention.SWITCH.use("gpu")
    finding = doctor._switch("attention")
    assert (finding.ok, finding.detail) == (False, f"gpu, as W4RL_ATTENTION asks, cannot run: {detail}")
    assert finding.remedy == f"unset W4RL_ATTENTION, or ask for torch or reference; {remedy}"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "no measurements: python -m bench.gpu ops"),
        ({"sm_90": {"norm_act": {"some": 1.5}, "attention": {}}}, "no measurements: python -m bench.gpu ops"),
        ({"sm_90": {"attention": {"some": 1.5}}}, "measured on sm_90"),
        ({"sm_80": {"attention": {"some": 1.5}}}, "measured on sm_80, not on sm_90: python -m bench.gpu ops"),
    ],
)
def test_on_a_gpu_an_op_says_on_what_it_was_measured(
    machine: Machine, table: dict[str, dict[str, dict[str, float]]], words: str
) -> None:
    machine((9, 0), table)
    finding = doctor._switch("attention")
    assert (finding.ok, finding.detail) == (True, f"auto: gpu where it was measured to win, torch elsewhere; {words}")


@pytest.mark.usefixtures("machine")
def test_on_a_cpu_an_op_says_what_serves_it_and_why_not_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    detail = "auto: torch; not gpu: Triton's kernels need a GPU, or TRITON_INTERPRET=1"
    assert doctor._switch("attention").detail == detail
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert doctor._switch("attention").detail == "auto: torch; not gpu: interpreted, so only if asked for"


@pytest.mark.parametrize(
    ("asked", "ok", "words"),
    [
        ("torch", True, "torch, as W4RL_ATTENTION asks"),
        ("reference", True, "reference, as W4RL_ATTENTION asks"),
        ("gpu", False, "gpu, as W4RL_ATTENTION asks, cannot run: Triton's kernels need a GPU, or TRITON_INTERPRET=1"),
        ("cpu", False, "cpu, as W4RL_ATTENTION asks, cannot run: on cpu it has only torch, reference, gpu"),
    ],
)
@pytest.mark.usefixtures("machine")
def test_a_name_that_was_asked_for_is_met_or_told_with_the_remedy(asked: str, ok: bool, words: str) -> None:
    attention.SWITCH.use(asked)
    finding = doctor._switch("attention")
    assert (finding.ok, finding.detail) == (ok, words)
    assert finding.remedy == ("" if ok else "unset W4RL_ATTENTION, or ask for torch or reference")


def test_an_op_that_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("w4rl_fast.doctor.import_module", lambda _: 1 / 0)
    finding = doctor._switch("attention")
    assert (finding.ok, finding.remedy) == (False, "pip install w4rl-fast")


def test_a_name_that_nobody_knows_is_told_with_the_variable_that_asks_for_it(run_python) -> None:
    code = """import os
os.environ["W4RL_ATTENTION"] = "fast"
from w4rl_fast import doctor
finding = doctor._switch("attention")
print(finding.ok, finding.remedy, finding.detail, sep="|")"""
    ok, remedy, detail = run_python(code).split("|")
    assert (ok, remedy) == ("False", "unset W4RL_ATTENTION")
    assert "a name is one of reference, torch, cpu, gpu or auto" in detail


def test_a_probe_finds_modules_and_submodules_and_survives_missing_parents() -> None:
    assert doctor._is_there("json.decoder")
    assert not doctor._is_there("w4rl_kernels.nothing")
    assert not doctor._is_there("no_such_package.part")


def test_the_table_fits_80_columns_and_says_in_words_what_works(
    findings: list[Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("w4rl_fast.cli.doctor"), "examine", lambda: findings)
    result = CliRunner().invoke(command, env={"COLUMNS": "80"})
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in result.output
    for finding in findings:
        namesakes = [other for other in findings if other.name == finding.name]
        shown = [line.split() for line in lines if line.startswith(f" {finding.name} ")]
        assert len(shown) == len(namesakes)
        assert all(("ok" if other.ok else "no") in words for other, words in zip(namesakes, shown, strict=True))
    words = " ".join(result.output.split())
    assert all(" ".join(f"{finding.detail} {finding.remedy}".split()) in words for finding in findings)


def test_the_json_is_one_object_with_the_card_and_the_findings() -> None:
    result = CliRunner().invoke(command, ["--json"])
    assert result.exit_code == 0
    report = json.loads(result.output)
    assert set(report) == {"environment", "findings"}
    assert set(report["findings"][0]) == {"room", "name", "ok", "detail", "remedy"}
