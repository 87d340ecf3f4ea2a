"""Memory that two processes share under a name: a servo's channel, and what a scene looks like."""

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.errors import UserError

FOLDER = Path("/dev/shm")  # noqa: S108 - POSIX shared memory on Linux
HEAD = 4  # version before, version after, tick, length
TRIES = 1000


def file_of(name: str) -> Path:
    if not name or "/" in name:
        raise UserError(f"shared memory {name!r}", rule="its name is a plain file name", remedy="Choose another name")
    return FOLDER / name


def create(name: str, size: int) -> NDArray[np.uint8]:
    """New memory of zeros under a name, which replaces what was left there; whole from its first moment on."""
    path = file_of(name)
    fresh = path.with_name(f"{name}.{os.getpid()}")
    fresh.write_bytes(bytes(size))
    os.replace(fresh, path)
    return attach(name)


def attach(name: str) -> NDArray[np.uint8]:
    """The memory that another process made."""
    try:
        with open(file_of(name), "r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
    except FileNotFoundError:
        raise UserError(
            f"shared memory {name!r}", rule="there is none of that name", remedy="Start the process that makes it first"
        ) from None
    return np.frombuffer(memory, dtype=np.uint8)


def remove(name: str) -> None:
    """Take the name away; who has the memory keeps it."""
    file_of(name).unlink(missing_ok=True)


def vector(data: Any) -> NDArray[np.float64]:
    """What a MuJoCo scene shows and what it is judged by, in one vector: `qpos`, `qvel`, `ctrl` and mocap bodies."""
    return np.concatenate([part.ravel() for part in parts(data)])


def parts(data: Any) -> tuple[NDArray[np.float64], ...]:
    return data.qpos, data.qvel, data.ctrl, data.mocap_pos, data.mocap_quat


def draw(data: Any, values: NDArray[np.float64]) -> None:
    """Take such a vector into the data of the same model; `mj_forward` then makes it a scene."""
    for part in parts(data):
        part.flat[:], values = values[: part.size], values[part.size :]


class SceneWriter:
    """Publishes a vector of fixed length; readers check its versions, so that they see it whole (on x86, where stores
    are seen in order)."""

    def __init__(self, name: str, length: int) -> None:
        self.name = name
        memory = create(name, 8 * (HEAD + length))
        self._head, self._values = memory[: 8 * HEAD].view(np.int64), memory[8 * HEAD :].view(np.float64)
        self._head[3] = length

    def write(self, tick: int, values: NDArray[np.float64]) -> None:
        version = self._head[0] + 1
        self._head[0] = version
        self._head[2] = tick
        self._values[:] = values
        self._head[1] = version

    def close(self) -> None:
        remove(self.name)


class SceneReader:
    """Reads the newest whole vector and its tick."""

    def __init__(self, name: str) -> None:
        memory = attach(name)
        self._head, self._values = memory[: 8 * HEAD].view(np.int64), memory[8 * HEAD :].view(np.float64)

    def read(self) -> tuple[int, NDArray[np.float64]]:
        for _ in range(TRIES):
            version = int(self._head[1])
            tick, values = int(self._head[2]), self._values.copy()
            if int(self._head[0]) == version:
                return tick, values
        raise UserError(
            "the shared scene",
            rule=f"it was being written {TRIES} times in a row: its writer died half way",
            remedy="Start that process again",
        )
