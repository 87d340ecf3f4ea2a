"""Reading files of others and writing new ones, with errors a user can act on."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from w4rl_fast.errors import UserError
from w4rl_fast.files import disk_errors, sync, sync_tree


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What an export wrote, and in `note` what the format has no place for."""

    episodes: int
    rows: int
    note: str


@contextlib.contextmanager
def readable(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a library says about a missing, truncated or foreign file into one error."""
    if not path.exists():
        raise UserError(f"{path}", rule="there is nothing of that name", remedy="Check the path.")
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError):
            raise
        detail = f"{type(error).__name__}: {str(error).strip() or 'no detail'}"
        raise UserError(
            f"{path} cannot be read as {kind}",
            rule=f"it must be complete and of that format ({detail})",
            remedy="Copy or download it again, or choose the format it really has.",
        ) from error


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A temporary sibling to write to: it takes the name `path` at the end, and is removed if anything fails."""
    if path.exists():
        raise UserError(f"{path}", rule="an export never replaces what is there", remedy="Choose another name.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            (sync_tree if temporary.is_dir() else sync)(temporary)
            temporary.rename(path)
            sync(path.parent)
        finally:
            if temporary.is_dir():
                shutil.rmtree(temporary)
            temporary.unlink(missing_ok=True)
