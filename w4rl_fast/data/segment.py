"""A sealed part of a store: one immutable zarr v3 group in the layout of a Diffusion Policy replay buffer."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.data.episode import SOURCES, Episode, EpisodeInfo, Schema
from w4rl_fast.errors import UserError

CHUNK, SHARD = 20, 2000
SMALL_CHUNK, SMALL_SHARD = 1000, 40_000
CHECKSUMS = "checksums.json"
COLUMNS = {"frames": "img", "actions": "action", "proprio": "state", "success": "success", "landmarks": "landmarks"}
"""What an episode has, and what the array is called that holds it; landmarks are there if the schema has any."""


class Segment:
    """Reads the episodes of one sealed folder."""

    def __init__(self, path: Path) -> None:
        import zarr

        self.path = path
        group: Any = zarr.open_group(path, mode="r")
        self.group = group
        attributes: Any = self.group.attrs
        meta = {name: np.asarray(self.group[f"meta/{name}"][:]) for name in ("task", "source", "seed", "succeeded")}
        origins = np.asarray(self.group["meta/origin"][:])
        self.ends = np.asarray(self.group["meta/episode_ends"][:], dtype=np.int64)
        self.infos = [
            EpisodeInfo(
                task=attributes["tasks"][int(task)],
                source=SOURCES[int(source)],
                seed=int(seed),
                succeeded=bool(succeeded),
                origin=attributes["origins"][int(origin)],
            )
            for task, source, seed, succeeded, origin in zip(*meta.values(), origins, strict=True)
        ]

    @cached_property
    def arrays(self) -> dict[str, Any]:
        names = [name for name in COLUMNS.values() if f"data/{name}" in self.group]
        return {name: self.group[f"data/{name}"] for name in names}

    def rows(self, episode: int) -> tuple[int, int]:
        """First row and the row behind the last of an episode."""
        return (int(self.ends[episode - 1]) if episode else 0), int(self.ends[episode])

    def read(self, episode: int) -> Episode:
        first, last = self.rows(episode)
        rows = {name: np.asarray(array[first:last]) for name, array in self.arrays.items()}
        return Episode(
            rows["img"], rows["action"], rows["state"], rows["success"], self.infos[episode], rows.get("landmarks")
        )


@dataclass(slots=True)
class Column:
    """Appends rows to one zarr array in whole shards, so that a shard is written once and memory stays at one shard."""

    array: Any
    shard: int
    buffer: list[NDArray[Any]]
    held: int = 0
    written: int = 0

    def append(self, rows: NDArray[Any]) -> None:
        self.buffer.append(rows)
        self.held += len(rows)
        while self.held >= self.shard:
            self.flush(self.shard)

    def flush(self, count: int) -> None:
        if not count:
            return
        rows = np.concatenate(self.buffer)
        self.array[self.written : self.written + count] = rows[:count]
        self.written += count
        self.buffer, self.held = [rows[count:]], len(rows) - count


def write_segment(path: Path, schema: Schema, episodes: Iterable[Episode], lengths: Sequence[int]) -> str:
    """Write episodes of known lengths into a new folder; returns the digest of its table of checksums."""
    import zarr

    group = zarr.create_group(path)
    rows = sum(lengths)
    size = schema.image_size
    small = (SMALL_CHUNK, SMALL_SHARD)
    shapes: dict[str, tuple[Any, tuple[int, ...], tuple[int, int]]] = {
        "frames": (np.uint8, (rows, size, size, 3), (CHUNK, SHARD)),
        "actions": (np.float32, (rows, schema.action_dim), small),
        "proprio": (np.float32, (rows, schema.proprio_dim), small),
        "success": (np.bool_, (rows,), small),
    }
    if schema.landmark_dim:
        shapes["landmarks"] = (np.float32, (rows, schema.landmark_dim), small)
    columns = {
        name: new_column(group, f"data/{COLUMNS[name]}", dtype, shape, *pieces)
        for name, (dtype, shape, pieces) in shapes.items()
    }
    infos = []
    for episode, length in zip(episodes, lengths, strict=True):
        assert len(episode) == length, f"{episode.info.key} has {len(episode)} rows, announced were {length}"
        for name, column in columns.items():
            column.append(getattr(episode, name))
        infos.append(episode.info)
    for column in columns.values():
        column.flush(column.held)
    write_table(group, infos, lengths)
    return write_checksums(path)


def write_table(group: Any, infos: list[EpisodeInfo], lengths: Sequence[int]) -> None:
    """Write one row per episode under `meta`; names of tasks and origins stand in the attributes."""
    tasks = sorted({info.task for info in infos})
    origins = sorted({info.origin for info in infos})
    table: dict[str, NDArray[Any]] = {
        "episode_ends": np.cumsum(lengths, dtype=np.int64),
        "task": np.array([tasks.index(info.task) for info in infos], dtype=np.int32),
        "source": np.array([SOURCES.index(info.source) for info in infos], dtype=np.int8),
        "seed": np.array([info.seed for info in infos], dtype=np.int64),
        "succeeded": np.array([info.succeeded for info in infos], dtype=np.bool_),
        "origin": np.array([origins.index(info.origin) for info in infos], dtype=np.int32),
    }
    for name, values in table.items():
        new_array(group, f"meta/{name}", values.dtype, values.shape, len(values), len(values))[:] = values
    group.attrs.update({"tasks": tasks, "sources": list(SOURCES), "origins": origins, "last_action": "none"})


def new_column(group: Any, name: str, dtype: Any, shape: tuple[int, ...], chunk: int, shard: int) -> Column:
    return Column(new_array(group, name, dtype, shape, chunk, shard), shard, [])


def new_array(group: Any, name: str, dtype: Any, shape: tuple[int, ...], chunk: int, shard: int) -> Any:
    """A lossless array whose every chunk carries a checksum, `shard` rows to a file."""
    from zarr.codecs import Crc32cCodec, ZstdCodec

    inner = [max(1, width) for width in shape[1:]]  # a robot without proprioception has rows of no numbers
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(chunk, *inner),
        shards=(shard, *inner),
        compressors=[ZstdCodec(level=3), Crc32cCodec()],
    )


def write_checksums(path: Path) -> str:
    """Write the SHA-256 of every file of a segment beside them; returns the digest of that table."""
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != CHECKSUMS)
    table = {file.relative_to(path).as_posix(): digest_of(file) for file in files}
    body = json.dumps(table, indent=0, sort_keys=True).encode()
    (path / CHECKSUMS).write_bytes(body)
    return hashlib.sha256(body).hexdigest()


def read_checksums(path: Path, digest: str) -> dict[str, str]:
    """The table of checksums of a segment, refused if it is not the one that was sealed."""
    try:
        body = (path / CHECKSUMS).read_bytes()
    except OSError as error:
        raise damaged(path / CHECKSUMS, "it cannot be read") from error
    if hashlib.sha256(body).hexdigest() != digest:
        raise damaged(path / CHECKSUMS, "its bytes differ from those that were sealed")
    table: dict[str, str] = json.loads(body)
    return table


def is_rows(name: str) -> bool:
    """Whether a file of a segment holds rows of episodes, rather than describing them."""
    return name.startswith("data/") and "/c/" in name


def digest_of(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def damaged(path: Path, what: str) -> UserError:
    return UserError(
        str(path), rule=what, remedy="`w4rl data check STORE` names the episodes; restore the file from a copy"
    )
