"""store.json: the one file that says which episodes of a store count."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w4rl_fast.data.episode import Schema
from w4rl_fast.data.segment import damaged
from w4rl_fast.errors import UserError
from w4rl_fast.files import publish

FORMAT, VERSION = "w4rl-store", 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SegmentEntry:
    """One sealed segment: folder name, number of episodes and rows, digest of its table of checksums."""

    name: str
    episodes: int
    rows: int
    digest: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """What store.json says. `tasks` maps each task to the settings it was recorded with (camera, horizon, ...)."""

    schema: Schema
    tasks: dict[str, dict[str, Any]]
    segments: tuple[SegmentEntry, ...] = ()
    next_segment: int = 0


def describe(schema: Schema) -> str:
    size = schema.image_size
    there = f"{schema.action_dim} action, {schema.proprio_dim} proprioception and {schema.landmark_dim} landmark"
    return f"{size}x{size} frames with {there} dimensions"


def publish_index(path: Path, index: Index) -> None:
    publish(path / "store.json", encode_index(index))


def encode_index(index: Index) -> bytes:
    body: dict[str, Any] = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(index)}
    body["sha256"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return json.dumps(body, indent=1, sort_keys=True).encode()


def read_index(path: Path) -> Index:
    """Read store.json, refusing one whose bytes are not exactly those that were published."""
    file = path / "store.json"
    try:
        body = file.read_bytes()
    except OSError as error:
        raise UserError(
            f"store {path}", rule="there is no store.json in it", remedy="Give the folder that `w4rl collect` wrote"
        ) from error
    try:
        data = json.loads(body)
        index = decode_index(data)
        intact = encode_index(index) == body
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(file, "its bytes differ from those that were published") from error
    if not intact:
        raise damaged(file, "its bytes differ from those that were published")
    return index


def decode_index(data: Mapping[str, Any]) -> Index:
    schema = dict(data["schema"])
    for bound in ("action_low", "action_high"):
        schema[bound] = tuple(schema[bound])
    segments = tuple(SegmentEntry(**entry) for entry in data["segments"])
    return Index(schema=Schema(**schema), tasks=data["tasks"], segments=segments, next_segment=data["next_segment"])
