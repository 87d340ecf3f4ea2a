"""Episodes on disk: sealed segments, finished episodes that wait to be sealed, and one file that says which count.

STORE/store.json            the one commit point: schema, tasks, segments with their digests, its own checksum
STORE/segments/NAME/        immutable zarr v3 groups in the layout of a Diffusion Policy replay buffer
STORE/pending/KEY.episode   finished episodes, one file each
STORE/cache/                decoded frames for training; may be deleted at any time
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from w4rl_fast.data.episode import Episode, EpisodeInfo, Schema
from w4rl_fast.data.index import Index, SegmentEntry, describe, publish_index, read_index
from w4rl_fast.data.pending import SUFFIX, load_pending, save_pending
from w4rl_fast.data.segment import Segment, damaged, digest_of, is_rows, read_checksums, write_segment
from w4rl_fast.errors import UserError
from w4rl_fast.files import disk_errors, sync, sync_tree

FOLDERS = ("segments", "pending")
SEGMENT_ROWS = 32_000
SEAL_ROWS = 4_000
RETRIES = 5


class Episodes(Protocol):
    """Recorded episodes, wherever they lie: what windows are cut from."""

    path: Path
    keys: list[str]
    infos: list[EpisodeInfo]
    lengths: list[int]

    @property
    def schema(self) -> Schema: ...

    @property
    def digest(self) -> str:
        """Changes whenever the episodes change."""
        ...

    @property
    def cache(self) -> Path:
        """Where decoded frames may be kept."""
        ...

    def __len__(self) -> int: ...

    def read(self, number: int) -> Episode: ...


class Store:
    """A store opened for reading. Episodes are ordered by key, whatever the order in which they were collected."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for _ in range(RETRIES):
            self.index = read_index(path)
            try:
                self._open()
                return
            except (OSError, KeyError, UserError):
                if read_index(path) == self.index:
                    raise  # a writer that seals meanwhile publishes another index before it removes anything
        raise UserError(f"store {path}", rule="it changes faster than it can be opened", remedy="Try again")

    def _open(self) -> None:
        path = self.path
        self.segments = [open_segment(path, entry) for entry in self.index.segments]
        places: dict[str, tuple[Segment, int] | Path] = {}
        for file in sorted((path / "pending").glob("*" + SUFFIX)):
            places[file.name.removesuffix(SUFFIX)] = file
        for segment in self.segments:
            places.update({info.key: (segment, number) for number, info in enumerate(segment.infos)})
        self.keys = sorted(places)
        self._places = [places[key] for key in self.keys]
        heads = [head(place) for place in self._places]
        self.infos: list[EpisodeInfo] = [info for info, _ in heads]
        self.lengths: list[int] = [length for _, length in heads]

    @property
    def schema(self) -> Schema:
        return self.index.schema

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    @property
    def digest(self) -> str:
        text = "\n".join([*(entry.digest for entry in self.index.segments), *self.keys])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, number: int) -> Episode:
        place = self._places[number]
        return load_pending(place) if isinstance(place, Path) else read_sealed(*place)


class Writer:
    """The one process that may change a store; use `writing`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.index = read_index(path)
        for name in FOLDERS:  # a copy often leaves out empty folders
            (path / name).mkdir(exist_ok=True)
        self.sealed = self._sealed_keys()
        self._clear_leftovers()
        for file in [*path.glob(".store.json.*.tmp"), *(path / "pending").glob(".*.tmp")]:
            file.unlink()

    @property
    def pending(self) -> list[Path]:
        return sorted((self.path / "pending").glob("*" + SUFFIX))

    def keys(self) -> set[str]:
        """Every finished episode, sealed or not."""
        return self.sealed | {file.name.removesuffix(SUFFIX) for file in self.pending}

    def add(self, episode: Episode) -> bool:
        """Keep an episode: when this returns it survives a kill. False if one of its name is there already."""
        episode.check(self.index.schema)
        key = episode.info.key
        if key in self.sealed or (self.path / "pending" / (key + SUFFIX)).exists():
            return False
        save_pending(self.path / "pending", episode)
        return True

    def seal(self) -> None:
        """Move pending episodes into a segment, together with the last one while that is small."""
        if (index := read_index(self.path)) != self.index:  # Ctrl-C broke a seal off behind its commit
            self.index = index
            self.sealed = self._sealed_keys()
        self._clear_leftovers()
        files = self.pending
        if not files:
            return
        segments = list(self.index.segments)
        small = segments.pop() if segments and segments[-1].rows < SEGMENT_ROWS // 2 else None
        number = self.index.next_segment
        name = f"{number:06d}"
        temporary = self.path / "segments" / f".{name}.tmp"
        with disk_errors(temporary):
            entry = self._write(temporary, name, files, small)
            sync_tree(temporary)
            temporary.rename(self.path / "segments" / name)
            sync(self.path / "segments")
        self._commit(dataclasses.replace(self.index, segments=(*segments, entry), next_segment=number + 1))
        self._clear_leftovers()

    def _write(self, folder: Path, name: str, files: list[Path], small: SegmentEntry | None) -> SegmentEntry:
        old = open_segment(self.path, small) if small else None
        lengths = [rows[1] - rows[0] for rows in map(old.rows, range(len(old.infos)))] if old else []
        lengths += [head(file)[1] for file in files]

        def episodes() -> Iterator[Episode]:
            if old:
                for episode in range(len(old.infos)):
                    yield read_sealed(old, episode)
            for file in files:
                yield load_pending(file)

        digest = write_segment(folder, self.index.schema, episodes(), lengths)
        return SegmentEntry(name=name, episodes=len(lengths), rows=sum(lengths), digest=digest)

    def _commit(self, index: Index) -> None:
        publish_index(self.path, index)
        self.index = index
        self.sealed = self._sealed_keys()

    def _sealed_keys(self) -> set[str]:
        return {info.key for entry in self.index.segments for info in open_segment(self.path, entry).infos}

    def _clear_leftovers(self) -> None:
        """Remove what an interrupted append left: folders that do not count, and files that are sealed already."""
        counted = {entry.name for entry in self.index.segments}
        for folder in (self.path / "segments").iterdir():
            if folder.name not in counted:
                shutil.rmtree(folder)
        for file in self.pending:
            if file.name.removesuffix(SUFFIX) in self.sealed:
                file.unlink()


@contextlib.contextmanager
def writing(path: Path, schema: Schema, tasks: Mapping[str, dict[str, Any]]) -> Iterator[Writer]:
    """Open a store to append to, or make it; what is pending at the end is sealed, also after an error or Ctrl-C."""
    prepare(path, schema)
    with open(path / "lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"store {path}", rule="another process is writing to it", remedy="Wait until that process is done"
            ) from error
        writer = Writer(path)
        writer._commit(with_tasks(writer.index, path, schema, tasks))
        try:
            yield writer
        finally:
            writer.seal()


def prepare(path: Path, schema: Schema) -> None:
    """Make an empty store, unless there is one; refuse a folder that holds something else."""
    if (path / "store.json").exists():
        return
    if path.exists() and (not path.is_dir() or foreign(path)):
        raise UserError(
            f"output {path}", rule="it exists and is not a store of this toolkit", remedy="Choose another --out"
        )
    with disk_errors(path):
        for name in FOLDERS:
            (path / name).mkdir(parents=True, exist_ok=True)
    publish_index(path, Index(schema=schema, tasks={}))


def foreign(path: Path) -> list[Path]:
    """What lies in a folder besides the traces of a store whose making was interrupted: two empty folders."""
    others = [c for c in path.iterdir() if c.name not in FOLDERS and not c.name.startswith(".store.json.")]
    return others + [c for name in FOLDERS for c in (path / name).glob("*")]


def with_tasks(index: Index, path: Path, schema: Schema, tasks: Mapping[str, dict[str, Any]]) -> Index:
    """The index with these tasks added; refuses another schema, or a task recorded with other settings."""
    if index.schema != schema:
        raise UserError(
            f"store {path}",
            rule=f"it holds {describe(index.schema)}, these episodes are {describe(schema)}",
            remedy="Choose another --out, or collect with the store's settings",
        )
    for name, settings in tasks.items():
        there = index.tasks.get(name, settings)
        differing = [f"{key}={there.get(key)}" for key in settings if there.get(key) != settings[key]]
        if differing:
            raise UserError(
                f"task {name} in store {path}",
                rule=f"it was recorded with {', '.join(differing)}",
                remedy="Collect with these settings, or choose another --out",
            )
    return dataclasses.replace(index, tasks={**index.tasks, **tasks})


def open_segment(path: Path, entry: SegmentEntry) -> Segment:
    """Open a sealed segment after checking its table of checksums and every small file that describes it."""
    folder = path / "segments" / entry.name
    for name, digest in read_checksums(folder, entry.digest).items():
        if not (folder / name).is_file():
            raise damaged(folder / name, "it is missing")
        # Rows carry a checksum for every chunk, which is met when they are decoded.
        if not is_rows(name) and digest_of(folder / name) != digest:
            raise damaged(folder / name, "its bytes differ from those that were sealed")
    return Segment(folder)


def read_sealed(segment: Segment, episode: int) -> Episode:
    """Read an episode; a chunk whose checksum does not fit is refused with the episode's name."""
    try:
        return segment.read(episode)
    except Exception as error:
        if not segment.path.exists():
            raise UserError(
                f"segment {segment.path}",
                rule="it was merged into another since this store was opened",
                remedy="Open the store again",
            ) from error
        raise damaged(segment.path, f"episode {segment.infos[episode].key} cannot be decoded ({error})") from error


def head(place: tuple[Segment, int] | Path) -> tuple[EpisodeInfo, int]:
    """Who an episode is and how many rows it has."""
    if isinstance(place, Path):
        episode = load_pending(place)
        return episode.info, len(episode)
    segment, number = place
    first, last = segment.rows(number)
    return segment.infos[number], last - first
