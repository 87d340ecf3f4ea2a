import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from click.testing import CliRunner

from w4rl_fast import doctor
from w4rl_fast.cli.doctor import doctor as command
from w4rl_fast.doctor import Finding

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


def test_triton_says_whether_it_is_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_is_there", lambda _: True)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert "interpreted" in doctor._triton().detail
    monkeypatch.delenv("TRITON_INTERPRET")
    assert "interpreted" not in doctor._triton().detail


def test_an_op_says_by_what_it_is_done_and_who_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from w4rl_kernels import attention

    before = attention.SWITCH.asked
    try:
        attention.SWITCH.use("auto")
        assert "torch's own" in doctor._switch("attention").detail
        attention.SWITCH.use("reference")
        assert "reference, as W4RL_ATTENTION asks" in doctor._switch("attention").detail
    finally:
        attention.SWITCH.use(before)
    monkeypatch.setattr("w4rl_fast.doctor.import_module", lambda _: 1 / 0)
    assert not doctor._switch("attention").ok


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
