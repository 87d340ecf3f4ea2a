"""What a long stage says: its plan before, a bar with rate and remaining time meanwhile, one line at the end."""

import math
import shutil
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from w4rl_fast.errors import UserError
from w4rl_fast.measure import resident_bytes

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

REFRESH_S = 0.1
FIRST_WORD_S, WORD_S = 10.0, 60.0
"""Where there is no bar: when a stage first says how far it is, and how often after that."""


class Progress:
    """A bar on a terminal; elsewhere a plain line at the end, and on long stages now and then; nothing if quiet.

    `completed` is what an earlier run already did: it counts as done, but not for the rate. The bar is drawn by
    `advance` itself, ten times a second at most and from no thread of its own, so forking while it shows is safe.
    """

    def __init__(
        self,
        stage: str,
        *,
        total: int | None = None,
        unit: str = "items",
        completed: int = 0,
        quiet: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self.stage, self.total, self.unit, self.completed = stage, total, unit, completed
        self._first, self._quiet = completed, quiet
        self._stream = stream or sys.stderr
        self._fields: dict[str, object] = {}
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        self._start = self._drawn = time.monotonic()
        self._next_word = self._start + FIRST_WORD_S
        if not self._quiet and self._stream.isatty():
            self._bar = _bar(self._stream)
            self._task = self._bar.add_task(self.stage, total=self.total, detail="")
            self._bar.start()
            self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._draw()
            self._bar.stop()
        elif not self._quiet:
            print(self._closing_line(stopped=kind is not None), file=self._stream, flush=True)

    def advance(self, count: int = 1, **fields: object) -> None:
        """Count `count` more as done; `fields` are shown behind the bar until others of the same name replace them."""
        self.completed += count
        self._fields.update(fields)
        now = time.monotonic()
        if self._bar and now - self._drawn >= REFRESH_S:
            self._draw()
        elif not self._bar and not self._quiet and now >= self._next_word:
            print(f"{self.stage}: {self._detail()}", file=self._stream, flush=True)
            self._next_word = now + WORD_S

    def rate(self) -> float:
        """New units per second since the start."""
        return (self.completed - self._first) / max(time.monotonic() - self._start, 1e-9)

    def remaining_s(self) -> float | None:
        """Seconds until the total at the rate so far; None while that is unknown."""
        if self.total is None or self.completed == self._first:
            return None
        return max(self.total - self.completed, 0) / self.rate()

    def _draw(self) -> None:
        assert self._bar
        self._drawn = time.monotonic()
        self._bar.update(self._task, completed=self.completed, detail=self._detail())
        self._bar.refresh()

    def _detail(self) -> str:
        remaining = self.remaining_s()
        parts = [
            f"{self._count()} {self.unit}",
            f"{self.rate():.3g}/s",
            *([] if remaining is None else [f"{format_seconds(remaining)} left"]),
            format_bytes(resident_bytes().total),
            *(f"{name} {value}" for name, value in self._fields.items()),
        ]
        return " · ".join(parts)

    def _count(self) -> str:
        return f"{self.completed}" if self.total is None else f"{self.completed}/{self.total}"

    def _closing_line(self, *, stopped: bool) -> str:
        outcome = f"stopped at {self._count()}" if stopped else f"{self.completed}"
        elapsed = format_seconds(time.monotonic() - self._start)
        fields = "".join(f", {name} {value}" for name, value in self._fields.items())
        return f"{self.stage}: {outcome} {self.unit} in {elapsed}, {self.rate():.3g}/s{fields}"


def plan(
    stage: str,
    *,
    memory_bytes: int,
    disk_bytes: int | None = None,
    seconds: float | None = None,
    folder: Path | None = None,
    stream: TextIO | None = None,
) -> None:
    """Say what a stage will need before it starts; refuse it if `folder` lies on a disk with less free space."""
    needs = [f"{format_bytes(memory_bytes)} memory"]
    if disk_bytes is not None:
        needs.append(f"{format_bytes(disk_bytes)} disk")
    if seconds is not None:
        needs.append(format_seconds(seconds))
    print(f"{stage}: needs about {', '.join(needs)}", file=stream or sys.stderr, flush=True)
    if disk_bytes is not None and folder is not None:
        _require_space(stage, disk_bytes, folder)


def format_bytes(count: float) -> str:
    """Bytes in decimal units with two digits or more, such as 1.2 GB or 300 MB."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 999.5 and len(units) > 1:
        count /= 1000
        del units[0]
    return f"{count:.1f} {units[0]}" if count < 9.95 and units[0] != "B" else f"{count:.0f} {units[0]}"


def format_seconds(seconds: float) -> str:
    """A duration in the units a person would use, such as 1.5 s, 40 s, 4 min or 2 h 5 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _bar(stream: TextIO) -> "Bar":
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    detail = TextColumn("{task.fields[detail]}", markup=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), detail)
    return Bar(*columns, console=Console(file=stream), auto_refresh=False, expand=True)


def _require_space(stage: str, needed: int, folder: Path) -> None:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise UserError(
            f"{stage} needs {format_bytes(needed)} in {folder}",
            rule=f"that disk has {format_bytes(free)} free",
            remedy="Free some space, choose another folder or ask for less",
        )
