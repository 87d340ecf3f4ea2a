"""What works on this machine and what does not, with the reason and the command that fixes it."""

import importlib.metadata
import importlib.util
import os
import platform
import resource
import shutil
import tempfile
from collections.abc import Iterator
from ctypes.util import find_library
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from w4rl_engines.registry import BACKENDS, unavailable, version
from w4rl_fast.measure import cpu_model, memory_bytes, package_version
from w4rl_fast.progress import format_bytes
from w4rl_kernels import probe
from w4rl_kernels.threads import physical_cores

DISTRIBUTION = "w4rl-fast"
SHARED_MEMORY_BYTES = 512_000_000
"""What a few worker processes exchange through /dev/shm; containers often have 64 MB of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing looked at: whether it works, what is there or why it does not work, and what to do."""

    room: str
    name: str
    ok: bool
    detail: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at everything, room by room; takes a few seconds, since torch and numba are really tried."""
    rooms = (_machine, _torch, _accelerators, _kernels, _engines, _robot, _extras, _renderers, _disk)
    return [finding for room in rooms for finding in room()]


def is_usable(findings: list[Finding]) -> bool:
    """Whether numpy and torch work, without which nothing does."""
    return all(finding.ok for finding in findings if finding.room == "torch")


def recommended_threads() -> int:
    """Physical cores minus one: small models slow down many times over when threads wait for a busy core."""
    return max(1, physical_cores() - 1)


def _machine() -> Iterator[Finding]:
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    yield Finding(room="machine", name="system", ok=True, detail=system)
    cores = f"{cpu_model()}, {physical_cores()} physical cores"
    yield Finding(room="machine", name="processor", ok=True, detail=cores)
    yield Finding(room="machine", name="memory", ok=True, detail=format_bytes(memory_bytes()))


def _torch() -> Iterator[Finding]:
    for name in ("numpy", "torch"):
        try:
            importlib.import_module(name).ones(2).sum().item()
        except Exception as error:
            detail = f"cannot be used: {type(error).__name__}: {error}"
            yield Finding(room="torch", name=name, ok=False, detail=detail, remedy=_install(""))
            return
        yield Finding(room="torch", name=name, ok=True, detail=package_version(name) or "of unknown version")
    import torch

    threads, recommended = torch.get_num_threads(), recommended_threads()
    remedy = f"export OMP_NUM_THREADS={recommended}" if threads > recommended else ""
    detail = f"{threads}, recommended {recommended} (physical cores minus one)"
    yield Finding(room="torch", name="threads", ok=True, detail=detail, remedy=remedy)


def _accelerators() -> Iterator[Finding]:
    try:
        import torch

        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        built = torch.version.cuda
    except Exception as error:
        yield Finding(room="accelerators", name="cuda", ok=False, detail=f"torch cannot tell: {error}")
        return
    if names:
        yield Finding(room="accelerators", name="cuda", ok=True, detail=f"{', '.join(names)}; CUDA {built}")
    elif built:
        detail = f"torch is built for CUDA {built} but finds no GPU with a working driver"
        yield Finding(
            room="accelerators", name="cuda", ok=False, detail=detail, remedy="nvidia-smi tells what is there"
        )
    else:
        remedy = "install a CUDA build of torch" if find_library("cuda") else ""
        detail = "this build of torch is for CPUs" + (", but there is an NVIDIA driver" if remedy else "")
        yield Finding(room="accelerators", name="cuda", ok=False, detail=detail, remedy=remedy)


def _kernels() -> Iterator[Finding]:
    native = _is_there("w4rl_kernels._native")
    yield Finding(
        room="kernels",
        name="native",
        ok=native,
        detail="C++ kernels are built" if native else "C++ kernels are not built; numba or torch does their work",
        remedy=""
        if native
        else f"install a C++20 compiler, then pip install --force-reinstall --no-deps {DISTRIBUTION}",
    )
    yield _numba()
    yield _triton()
    yield _window_gather()
    for op in ("noise", "attention", "norm_act", "edm_step"):
        yield _switch(op)


def _numba() -> Finding:
    try:
        import numba

        answer = numba.njit(lambda number: number + 1)(41)
    except Exception as error:
        detail = f"cannot compile: {type(error).__name__}: {error}"
        return Finding(room="kernels", name="numba", ok=False, detail=detail, remedy=_install(""))
    return Finding(room="kernels", name="numba", ok=answer == 42, detail=f"{numba.__version__}, compiles")


def _triton() -> Finding:
    reason, _, remedy = (probe.triton_on_gpu() or "").partition("; ")
    if reason:
        return Finding(room="kernels", name="triton", ok=False, detail=reason, remedy=remedy)
    interpreted = probe.triton_interpreted() is None
    how = "interpreted on the CPU (TRITON_INTERPRET=1)" if interpreted else "compiled; it needs a GPU to run"
    return Finding(room="kernels", name="triton", ok=True, detail=f"{probe.triton_release()}, {how}")


def _window_gather() -> Finding:
    try:
        from w4rl_kernels.window_gather import CHOICE
    except Exception as error:
        detail = f"cannot be used: {type(error).__name__}: {error}"
        return Finding(room="kernels", name="window_gather", ok=False, detail=detail, remedy=_install(""))
    detail = f"{CHOICE.name} implementation" + (f" ({CHOICE.why})" if CHOICE.why else "")
    return Finding(room="kernels", name="window_gather", ok=True, detail=detail)


def _switch(op: str) -> Finding:
    """Of an op that is chosen call by call: what serves it on this machine, and why not Triton's kernel."""
    try:
        import torch

        switch = import_module(f"w4rl_kernels.{op}").SWITCH
        device = "cuda" if torch.cuda.is_available() else "cpu"
        lacks = {each.name: each.unavailable() for each in switch.there(device)}
    except Exception as error:
        detail = f"cannot be used: {type(error).__name__}: {error}"
        variable = f"W4RL_{op.upper()}"
        remedy = f"unset {variable}" if variable in str(error) else _install("")
        return Finding(room="kernels", name=op, ok=False, detail=detail, remedy=remedy)
    works = [name for name, lack in lacks.items() if lack is None]
    if switch.asked == "auto":
        return Finding(room="kernels", name=op, ok=True, detail=_auto(op, device, works, lacks["gpu"]))
    asked = f"{switch.asked}, as {switch.variable} asks"
    if switch.asked in works:
        return Finding(room="kernels", name=op, ok=True, detail=asked)
    why, _, cure = (lacks.get(switch.asked) or f"on {device} it has only {', '.join(lacks)}").partition("; ")
    remedy = f"unset {switch.variable}, or ask for {' or '.join(works)}" + (f"; {cure}" if cure else "")
    return Finding(room="kernels", name=op, ok=False, detail=f"{asked}, cannot run: {why}", remedy=remedy)


def _auto(op: str, device: str, works: list[str], lack: str | None) -> str:
    """What `auto` serves: on a CPU the first that works, on a GPU Triton's kernel where it was measured to win."""
    first, other = works[0], next(name for name in works if name != "gpu")
    if device == "cuda" and lack is None:
        return f"auto: gpu where it was measured to win, {other} elsewhere; {_measurements(op)}"
    why = (lack or "interpreted, so only if asked for").partition("; ")[0]
    return f"auto: {first}; not gpu: {why}"


def _measurements(op: str) -> str:
    """On which architectures the kernel of an op was measured; those on another than this GPU's count for nothing."""
    import torch

    from w4rl_kernels import measured

    here = "sm_{}{}".format(*torch.cuda.get_device_capability())
    there = [architecture for architecture, ops in measured.table().items() if ops.get(op)]
    if not there:
        return "no measurements: python -m bench.gpu ops"
    found = f"measured on {', '.join(there)}"
    return found if here in there else f"{found}, not on {here}: python -m bench.gpu ops"


def _engines() -> Iterator[Finding]:
    for name, backend in BACKENDS.items():
        reason, _, remedy = (unavailable(name) or "").partition("; ")
        found = version(backend.run[0])
        detail = reason or backend.purpose + (f" ({backend.run[0]} {found})" if found else "")
        yield Finding(room="engines", name=name, ok=not reason, detail=detail, remedy=remedy)


def _robot() -> Iterator[Finding]:
    built = _is_there("w4rl_fast.robot._servo")
    detail = "C++ servo is built" if built else "C++ servo is not built: arms move in simulated time only"
    remedy = "" if built else f"install a C++20 compiler, then pip install --force-reinstall --no-deps {DISTRIBUTION}"
    yield Finding(room="robot", name="servo", ok=built, detail=detail, remedy=remedy)
    most = resource.getrlimit(resource.RLIMIT_RTPRIO)[1]
    granted = os.geteuid() == 0 or most != 0
    detail = "a servo's process may go before others" if granted else "no real-time priority: ticks can come late"
    remedy = "" if granted else "add `@GROUP - rtprio 99` and `@GROUP - memlock unlimited` to /etc/security/limits.conf"
    yield Finding(room="robot", name="priority", ok=granted, detail=detail, remedy=remedy)
    kernel = Path("/sys/kernel/realtime")
    is_realtime = kernel.exists() and kernel.read_text().strip() == "1"
    detail = "PREEMPT_RT" if is_realtime else "not PREEMPT_RT: libfranka wants it, or --allow-non-realtime"
    yield Finding(room="robot", name="kernel", ok=is_realtime, detail=detail)


def _extras() -> Iterator[Finding]:
    try:
        metadata = importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        detail = f"{DISTRIBUTION} runs from its sources without being installed, so its extras are unknown"
        yield Finding(room="extras", name="extras", ok=False, detail=detail, remedy="pip install -e .")
        return
    for extra in metadata.get_all("Provides-Extra") or []:
        there, lacking = _requirements(extra)
        detail = f"lacks {', '.join(lacking)}" if lacking else ", ".join(there) or "needs nothing here"
        remedy = _install(extra) if lacking else ""
        yield Finding(room="extras", name=extra, ok=not lacking, detail=detail, remedy=remedy)


def _requirements(extra: str) -> tuple[list[str], list[str]]:
    """The requirements of an extra on this system: those that are met, and those that are not."""
    from packaging.requirements import Requirement

    there, lacking = [], []
    for requirement in map(Requirement, importlib.metadata.requires(DISTRIBUTION) or []):
        if not requirement.marker or not requirement.marker.evaluate({"extra": extra}):
            continue
        installed = package_version(requirement.name)
        if installed is None:
            lacking.append(requirement.name)
        elif requirement.specifier.contains(installed, prereleases=True):
            there.append(f"{requirement.name} {installed}")
        else:
            lacking.append(f"{requirement.name}{requirement.specifier} (there is {installed})")
    return there, lacking


def _renderers() -> Iterator[Finding]:
    mujoco = _is_there("mujoco")
    remedy = "" if mujoco else _install("sim")
    lack = "mujoco is not installed"
    detail = f"runs anywhere, mujoco {package_version('mujoco')}" if mujoco else lack
    yield Finding(room="renderers", name="ray", ok=mujoco, detail=detail, remedy=remedy)
    libraries = [name for name in ("EGL", "OSMesa", "GL") if find_library(name)]
    works = bool({"EGL", "OSMesa"} & {*libraries}) or ("GL" in libraries and "DISPLAY" in os.environ)
    detail = f"libraries {', '.join(libraries)}" if works else "neither EGL nor OSMesa nor GLX with a display"
    remedy = remedy or ("" if works else "optional: apt-get install libegl1 or libosmesa6")
    yield Finding(room="renderers", name="gl", ok=mujoco and works, detail=detail if mujoco else lack, remedy=remedy)


def _disk() -> Iterator[Finding]:
    folder = Path.cwd()
    free = format_bytes(shutil.disk_usage(folder).free)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        detail = f"cannot be written: {error.strerror or error}"
        yield Finding(room="disk", name="this folder", ok=False, detail=detail, remedy="work in a folder of your own")
    else:
        yield Finding(room="disk", name="this folder", ok=True, detail=f"can be written, {free} free")
    shared = Path("/dev", "shm")
    if shared.is_dir():
        room = shutil.disk_usage(shared).free
        remedy = "" if room >= SHARED_MEMORY_BYTES else "start the container with --shm-size=2g"
        yield Finding(
            room="disk", name="shared memory", ok=not remedy, detail=f"{format_bytes(room)} free", remedy=remedy
        )


def _is_there(module: str) -> bool:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None


def _install(extra: str) -> str:
    return f'pip install "{DISTRIBUTION}[{extra}]"' if extra else f"pip install {DISTRIBUTION}"
