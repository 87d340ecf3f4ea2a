import os
import subprocess
import sys
from pathlib import Path

import pytest

from w4rl_engines import registry

MODULES = {need for backend in registry.BACKENDS.values() for need in (*backend.build, *backend.run)} - {
    *registry._MACHINE
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The modules that are there; a test adds and removes names."""
    names = set(MODULES)
    monkeypatch.setattr(registry, "_is_installed", names.__contains__)
    monkeypatch.setattr(registry, "_MACHINE", {need: lambda: None for need in registry._MACHINE})
    return names


def test_everything_works_where_everything_is_installed(installed: set[str]) -> None:
    assert installed
    assert set(registry.available().values()) == {None}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_exactly_the_backends_that_need_a_module_say_that_it_lacks(installed: set[str], module: str) -> None:
    installed.remove(module)
    for name, backend in registry.BACKENDS.items():
        assert (registry.cannot_build(name) is not None) == (module in backend.build)
        assert (registry.cannot_run(name) is not None) == (module in backend.run)
        reason = registry.unavailable(name)
        assert (reason is not None) == (module in {*backend.build, *backend.run})
        if reason:
            assert module in reason
            assert 'pip install "w4rl-fast' in reason


def test_a_missing_torch_is_not_blamed_on_an_extra(installed: set[str]) -> None:
    installed.remove("torch")
    assert registry.unavailable("eager") == 'torch not installed; pip install "w4rl-fast"'


def test_tensorrt_rtx_builds_without_a_driver_and_says_that_it_does_not_run(
    installed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "tensorrt_rtx" in installed
    monkeypatch.setitem(registry._MACHINE, "NVIDIA driver", lambda: "no driver")
    assert registry.cannot_build("tensorrt-rtx") is None
    assert registry.unavailable("tensorrt-rtx") == "builds here but does not run: no driver"
    assert registry.unavailable("tensorrt") == "no driver"


def test_aoti_runs_without_the_compiler_it_builds_with(installed: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "torch" in installed
    monkeypatch.setitem(registry._MACHINE, "C++ compiler", lambda: "no compiler")
    assert registry.cannot_run("aoti") is None
    assert registry.unavailable("aoti") == "runs what was built elsewhere but does not build: no compiler"
    assert registry.unavailable("compiled") == "no compiler"


def test_a_compiler_is_looked_for_where_torch_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "g++-of-my-own"))
    reason = registry._lacks_compiler.__wrapped__()
    assert reason is not None
    assert "g++-of-my-own" in reason


def test_what_an_uninstall_leaves_behind_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "left_behind").mkdir()
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "__init__.py").write_text("raise RuntimeError('probing must not import')")
    assert not registry._is_installed("left_behind")
    assert not registry._is_installed("nowhere_at_all")
    assert registry._is_installed("whole")
    assert "whole" not in sys.modules


def test_an_unknown_backend_is_answered_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"'onx'.*onnxruntime"):
        registry.unavailable("onx")


def test_asking_imports_no_backend() -> None:
    probe = f"import sys, w4rl_engines; w4rl_engines.available(); print(set({sorted(MODULES)}) & sys.modules.keys())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command_line = [sys.executable, "-c", probe]
    output = subprocess.run(command_line, env=environment, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "set()"
