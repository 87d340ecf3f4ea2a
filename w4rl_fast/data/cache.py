"""Decoded frames beside a store: plain arrays to be memory-mapped, since windows are read in random order."""

import fcntl
import json
import mmap
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.data.episode import Episode
from w4rl_fast.data.store import Episodes
from w4rl_fast.errors import UserError
from w4rl_fast.files import disk_errors, publish, sync_tree
from w4rl_fast.progress import Progress, plan

NAMES = ("frames", "actions", "proprio", "success", "landmarks")
TABLE = "cache.json"
BLOCK = 1 << 22


def decoded(store: Episodes) -> Path:
    """The folder of decoded arrays of this very store, made on first use and checked on every other.

    Of several processes one decodes, and the others wait for it.
    """
    folder, lock = store.cache / store.digest, store.cache.with_name(f".{store.cache.name}.lock")
    if whole(folder):
        return folder
    with disk_errors(lock), open(lock, "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if whole(folder):
            return folder
        shutil.rmtree(store.cache, ignore_errors=True)
        return build(store, folder)


def whole(folder: Path) -> bool:
    return (folder / TABLE).exists() and not check_cache(folder)


def build(store: Episodes, folder: Path) -> Path:
    """Decode every episode, in the order of the store, into one array file for each kind of row."""
    rows, size = sum(store.lengths), store.schema.image_size
    plan("decode", memory_bytes=64 << 20, disk_bytes=rows * (size * size * 3 + 64), folder=store.path.parent)
    temporary = folder.with_name(f".{folder.name}.tmp")
    with disk_errors(folder):
        temporary.mkdir(parents=True)
        writers = {name: ArrayFile(temporary / f"{name}.raw") for name in columns_of(store)}
        with Progress("decode", total=len(store), unit="episodes") as bar:
            for number in range(len(store)):
                episode = store.read(number)
                for name, writer in writers.items():
                    writer.append(row_bytes(episode, name))
                bar.advance()
        table = {f"{name}.raw": writer.close() for name, writer in writers.items()}
        publish(temporary / TABLE, encode(table))
        sync_tree(temporary)
        temporary.rename(folder)
    return folder


def columns_of(store: Episodes) -> tuple[str, ...]:
    """What there is of every row."""
    return NAMES if store.schema.landmark_dim else NAMES[:-1]


def row_bytes(episode: Episode, name: str) -> NDArray[Any]:
    return np.ascontiguousarray(getattr(episode, name))


class ArrayFile:
    """Rows appended to a raw file, with a running checksum."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb")  # noqa: SIM115
        self._crc = 0
        self._size = 0

    def append(self, rows: NDArray[Any]) -> None:
        view = rows.reshape(-1).view(np.uint8).data
        self._crc = zlib.crc32(view, self._crc)
        self._size += self._file.write(view)

    def close(self) -> dict[str, int]:
        self._file.close()
        return {"bytes": self._size, "crc32": self._crc}


def encode(table: dict[str, dict[str, int]]) -> bytes:
    body = json.dumps(table, sort_keys=True)
    return json.dumps({"crc32": zlib.crc32(body.encode()), "files": table}, sort_keys=True).encode()


def cache_folders(cache: Path) -> list[Path]:
    """The finished caches in a folder of them."""
    return sorted(folder for folder in cache.glob("[!.]*") if folder.is_dir())


def check_cache(folder: Path) -> list[tuple[str, str]]:
    """Files of a cache that are not what was written, with what is wrong; `decoded` makes such a cache anew."""
    try:
        body = (folder / TABLE).read_bytes()
        files = json.loads(body)["files"]
        if encode(files) != body:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        return [(TABLE, "it is missing or damaged; the cache is made anew when it is next needed")]
    wrong = [name for name, expected in files.items() if checksum(folder / name) != expected]
    return [(name, "its bytes changed; the cache is made anew when it is next needed") for name in wrong]


def checksum(path: Path) -> dict[str, int]:
    crc, size = 0, 0
    for block in blocks(path):
        crc, size = zlib.crc32(block, crc), size + len(block)
    return {"bytes": size, "crc32": crc}


def blocks(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            while block := file.read(BLOCK):
                yield block
    except FileNotFoundError:
        return


class Mapped:
    """A memory-mapped array (rows, ...) whose pages are given back once `resident_bytes` have been touched.

    The system keeps the file in its page cache as long as there is room; this process does not hold it.
    """

    def __init__(self, path: Path, dtype: Any, shape: tuple[int, ...], resident_bytes: int) -> None:
        count, size = int(np.prod(shape)), path.stat().st_size
        if size != count * np.dtype(dtype).itemsize:
            raise UserError(f"cache {path}", rule=f"it has {size} bytes, not those of {shape}", remedy="Delete it")
        with open(path, "rb") as file:
            # A private mapping may be written to without reaching the file: numpy and torch ask for no less.
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if size else mmap.mmap(-1, 1)
        self.array = np.frombuffer(self._map, dtype=dtype, count=count).reshape(shape)
        self._row = self.array.itemsize * int(np.prod(shape[1:]))
        self._budget, self._touched = resident_bytes, 0

    def touch(self, rows: int) -> None:
        """Say that this many rows were read in random order."""
        self._touched += rows * (self._row + READ_AROUND)
        if self._touched > self._budget:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._touched = 0


READ_AROUND = 1 << 16
"""How much the kernel maps around a page that is touched."""
