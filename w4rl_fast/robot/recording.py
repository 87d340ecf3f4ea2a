"""What a robot did, as an episode of a store: every turn is handed to the system before the next one, so that no crash
of a process loses it (a power cut may)."""

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.data.episode import Episode, EpisodeInfo
from w4rl_fast.data.store import Writer
from w4rl_fast.errors import UserError
from w4rl_fast.files import disk_errors
from w4rl_fast.robot.arm import State
from w4rl_fast.robot.camera import Frame, Shot
from w4rl_fast.robot.loop import Turn

FOLDER, SUFFIX = "recording", ".journal"
MAGIC = b"W4RLJR01"
HEAD = struct.Struct("<II")  # length, checksum


class Journal:
    """An append-only file: what an episode is called, then one record for each turn, each with its checksum."""

    def __init__(self, path: Path, info: EpisodeInfo) -> None:
        self.path = path
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - it stays open from turn to turn
            self._file.write(MAGIC)
        self._append(json.dumps(asdict(info)).encode())

    def add(self, frame: Frame, action: NDArray[np.float32], proprio: NDArray[np.float32], success: bool) -> None:
        from safetensors.numpy import save

        rows = {"frame": frame, "action": action, "proprio": proprio, "success": np.array(success)}
        self._append(save({name: np.ascontiguousarray(row) for name, row in rows.items()}))

    def close(self) -> None:
        self._file.close()

    def _append(self, payload: bytes) -> None:
        record = HEAD.pack(len(payload), zlib.crc32(payload)) + payload
        with disk_errors(self.path):
            if self._file.write(record) != len(record):
                raise OSError("the disk took a part of it")


def read_journal(path: Path) -> Episode | None:
    """The episode of a journal as far as it is whole; None if that is not a single action."""
    from safetensors.numpy import load

    records = _records(path)
    first = next(records, None)
    if first is None:
        return None
    info = EpisodeInfo(**json.loads(first))
    rows = [load(record) for record in records]
    if len(rows) < 2:
        return None
    actions = np.stack([row["action"] for row in rows])
    actions[-1] = 0.0
    return Episode(
        np.stack([row["frame"] for row in rows]),
        actions,
        np.stack([row["proprio"] for row in rows]),
        np.array([bool(row["success"]) for row in rows]),
        info,
    )


def recover(writer: Writer) -> list[str]:
    """Add the episodes that an interrupted session left in a store; returns their keys."""
    kept = []
    for path in sorted((writer.path / FOLDER).glob("*" + SUFFIX)):
        episode = read_journal(path)
        if episode is not None and writer.add(episode):
            kept.append(episode.info.key)
        path.unlink()
    return kept


def require_new(writer: Writer, info: EpisodeInfo) -> None:
    """Refuse an episode that the store has."""
    there = writer.keys()
    if info.key in there:
        raise UserError(
            f"episode {info.key}", rule="the store has it already", remedy="Choose another --seed, or another store"
        )


class Recorder:
    """Records one episode; `judge` says whether the present moment shows success."""

    def __init__(self, writer: Writer, info: EpisodeInfo, judge: Callable[[], bool]) -> None:
        require_new(writer, info)
        self._writer, self.info, self._judge = writer, info, judge
        self._width = 0
        self.succeeded = False
        self._journal = Journal(writer.path / FOLDER / (info.key + SUFFIX), info)

    def turn(self, turn: Turn) -> None:
        success = self._seen()
        self._width = len(turn.action)
        self._journal.add(turn.shot.frame, turn.action, turn.proprio, success)

    def end(self, state: State, shot: Shot, proprio: NDArray[np.float32]) -> None:
        if self._width:
            self._journal.add(shot.frame, np.zeros(self._width, np.float32), proprio, self._seen())

    def keep(self, succeeded: bool) -> bool:
        """Put the episode into the store; False where there is not one action of it."""
        self._journal.close()
        episode = read_journal(self._journal.path)
        if episode is not None:
            info = EpisodeInfo(**{**asdict(self.info), "succeeded": succeeded})
            self._writer.add(Episode(episode.frames, episode.actions, episode.proprio, episode.success, info))
        self._journal.path.unlink()
        return episode is not None

    def _seen(self) -> bool:
        success = self._judge()
        self.succeeded |= success
        return success


def _records(path: Path) -> Iterator[bytes]:
    """The records of a journal up to the first that is not whole."""
    blob = path.read_bytes()
    if not blob.startswith(MAGIC):
        return
    at = len(MAGIC)
    while at + HEAD.size <= len(blob):
        length, checksum = HEAD.unpack_from(blob, at)
        payload = blob[at + HEAD.size : at + HEAD.size + length]
        if len(payload) < length or zlib.crc32(payload) != checksum:
            return
        yield payload
        at += HEAD.size + length
