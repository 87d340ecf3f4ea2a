"""Files that are either wholly there or not there at all."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from w4rl_fast.errors import UserError


def publish(path: Path, payload: bytes) -> None:
    """Write `payload` to `path` so that a kill at any moment leaves the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with disk_errors(path):
            with open(temporary, "wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """What a JSON file of ours holds; one that cannot be read is named."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it is no JSON: {error}"
        raise UserError(
            f"cannot read {path}", rule=str(reason), remedy="Restore it from a copy, or delete it"
        ) from error


def sync(path: Path) -> None:
    """Bring one file, or the names in one folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or unwritable disk into an error a user can act on."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}",
            rule=f"the system answered: {error.strerror or error}",
            remedy="Free some space, or choose a folder you may write to. What was finished before is kept.",
        ) from error


def sync_tree(path: Path) -> None:
    """Bring every file and folder below `path` to the disk."""
    for folder, _, files in os.walk(path):
        for name in files:
            sync(Path(folder) / name)
        sync(Path(folder))
