"""The backends that can run a step, and whether each works here: told without importing any of them."""

import functools
import importlib.metadata
import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Backend:
    """A way to run a step: what it is for, the extra that brings it, and what building and running need.

    A need is the name of a module or a key of `_MACHINE`; `note` says what the installation command alone does not do.
    `module` is its file beside this one. An artifact of it runs only with the same versions of the libraries in
    `exact`, and if it is `tied`, only on the same kind of processor.
    """

    name: str
    purpose: str
    module: str
    suffix: str
    precisions: tuple[str, ...] = ("float32", "bfloat16")
    devices: tuple[str, ...] = ("cpu", "cuda")
    exact: tuple[str, ...] = ()
    tied: bool = False
    extra: str | None = None
    build: tuple[str, ...]
    run: tuple[str, ...]
    note: str = ""


BACKENDS = {
    each.name: each
    for each in (
        Backend(
            name="eager",
            purpose="plain torch, the definition of every other",
            module="eager",
            suffix="pt2",
            exact=("torch",),
            build=("torch",),
            run=("torch",),
        ),
        Backend(
            name="compiled",
            purpose="torch.compile in this process",
            module="compiled",
            suffix="pt2",
            exact=("torch",),
            build=("torch", "C++ compiler"),
            run=("torch", "C++ compiler"),
        ),
        Backend(
            name="aoti",
            purpose="AOTInductor: torch.compile ahead of time, loads in an instant",
            module="aoti",
            suffix="pt2",
            exact=("torch",),
            tied=True,
            build=("torch", "C++ compiler"),
            run=("torch",),
        ),
        Backend(
            name="onnxruntime",
            purpose="portable fp32 on any CPU",
            module="onnxruntime",
            suffix="onnx",
            precisions=("float32",),
            devices=("cpu",),
            extra="onnx",
            build=("torch", "onnx", "onnxscript", "onnxruntime"),
            run=("onnxruntime",),
        ),
        Backend(
            name="openvino",
            purpose="fastest on Intel and AMD CPUs, bf16 and int8",
            module="openvino",
            suffix="blob",
            precisions=("float32", "bfloat16", "bfloat16-fast", "int8"),
            devices=("cpu",),
            exact=("openvino",),
            tied=True,
            extra="openvino",
            build=("torch", "onnx", "onnxscript", "openvino", "nncf"),
            run=("openvino",),
        ),
        Backend(
            name="tensorrt-rtx",
            purpose="RTX cards; builds without a GPU",
            module="tensorrt",
            suffix="engine",
            devices=("cuda",),
            exact=("tensorrt_rtx",),
            extra="tensorrt-rtx",
            build=("torch", "onnx", "onnxscript", "onnxruntime", "tensorrt_rtx"),
            run=("tensorrt_rtx", "NVIDIA driver"),
        ),
        Backend(
            name="tensorrt",
            purpose="full TensorRT for data-centre cards",
            module="tensorrt",
            suffix="engine",
            devices=("cuda",),
            exact=("tensorrt",),
            tied=True,
            extra="tensorrt",
            build=("torch", "onnx", "onnxscript", "onnxruntime", "tensorrt", "NVIDIA driver"),
            run=("tensorrt", "NVIDIA driver"),
            note=" (its wheels come from NVIDIA's own package index)",
        ),
        Backend(
            name="torch-tensorrt",
            purpose="TensorRT inside torch",
            module="torch_tensorrt",
            suffix="pt2",
            devices=("cuda",),
            exact=("torch", "torch_tensorrt"),
            tied=True,
            extra="tensorrt",
            build=("torch", "torch_tensorrt", "NVIDIA driver"),
            run=("torch", "torch_tensorrt", "NVIDIA driver"),
            note=" (its wheels come from NVIDIA's own package index)",
        ),
    )
}

_EXTRAS = {"onnx": "onnx", "onnxscript": "onnx", "onnxruntime": "onnx"}
"""Modules that another extra than the backend's own brings."""


def available() -> dict[str, str | None]:
    """Every backend by name: None if it builds and runs here, else why not and what to do about it."""
    return {name: unavailable(name) for name in BACKENDS}


def unavailable(name: str) -> str | None:
    """Why a backend cannot both build and run here, and the command that fixes it; None if it can."""
    building, running = cannot_build(name), cannot_run(name)
    if running and not building:
        return f"builds here but does not run: {running}"
    if building and not running:
        return f"runs what was built elsewhere but does not build: {building}"
    return building


def cannot_build(name: str) -> str | None:
    """Why no artifact of this backend can be built here; None if one can."""
    return _first_lack(backend(name), backend(name).build)


def cannot_run(name: str) -> str | None:
    """Why an artifact of this backend cannot run here; None if it can."""
    return _first_lack(backend(name), backend(name).run)


def backend(name: str) -> Backend:
    """The backend of a name."""
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; there are {', '.join(BACKENDS)}")
    return BACKENDS[name]


def version(module: str) -> str | None:
    """The installed version of a module whose distribution has the same name; None if it is not to be found."""
    for distribution in (module, f"{module}-cu13", f"{module}-cu12"):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _first_lack(lacking: Backend, needs: tuple[str, ...]) -> str | None:
    lacks = [need for need in needs if need not in _MACHINE and not _is_installed(need)]
    if lacks:
        extras = dict.fromkeys(_EXTRAS.get(module, lacking.extra) for module in lacks if module != "torch")
        names = ",".join(extra for extra in extras if extra)
        distribution = f"w4rl-fast[{names}]" if names else "w4rl-fast"
        return f'{", ".join(lacks)} not installed; pip install "{distribution}"{lacking.note}'
    return next((lack for need in needs if need in _MACHINE and (lack := _MACHINE[need]())), None)


def _is_installed(module: str) -> bool:
    """A folder left behind by an uninstall is found too, but has no file to start from."""
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:
        return False
    return spec is not None and spec.origin is not None


@functools.cache
def _lacks_compiler() -> str | None:
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if not shutil.which(compiler):
        return f"no C++ compiler {compiler}; install g++, or name another in CXX"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        return "the headers of Python are missing; install python3-dev"
    return None


@functools.cache
def _lacks_driver() -> str | None:
    return None if find_library("cuda") else "no NVIDIA driver; install one from NVIDIA on a machine with such a card"


_MACHINE: dict[str, Callable[[], str | None]] = {"C++ compiler": _lacks_compiler, "NVIDIA driver": _lacks_driver}
