"""What a run measures of itself, step by step: `metrics.jsonl` for programs, a TensorBoard event file for eyes."""

import json
import math
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from w4rl_fast.errors import UserError
from w4rl_fast.files import disk_errors, publish

LINES_NAME = "metrics.jsonl"
EVENTS_NAME = "events.out.tfevents.0.w4rl"


class MetricsLog:
    """Appends to the two files of a folder; a kill leaves at most a half-written end, dropped when opened again.

    With `resume_step` everything after that step is dropped too, so that a resumed run leaves what an uninterrupted
    one leaves. A value that is not finite is written as null, since JSON has no word for it.
    """

    def __init__(self, folder: Path, *, resume_step: int | None = None) -> None:
        lines, events = folder / LINES_NAME, folder / EVENTS_NAME
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _repair_lines(lines, resume_step)
            _repair_events(events, resume_step)
            self._lines, self._events = _appender(lines), _appender(events)
        if not events.stat().st_size:
            self._append(self._events, _record(_event(0, _bytes_field(3, b"brain.Event:2"))))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line and one event with the values of a step."""
        if "step" in values:
            raise ValueError("'step' is the name of the step itself")
        numbers = {name: float(value) for name, value in values.items()}
        plain = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        summary = b"".join(
            _bytes_field(1, _bytes_field(1, name.encode()) + _key(2, 5) + struct.pack("<f", _as_float32(value)))
            for name, value in numbers.items()
        )
        self._append(self._events, _record(_event(step, _bytes_field(5, summary))))
        self._append(self._lines, json.dumps({"step": step, **plain}).encode() + b"\n")

    def image(self, step: int, tag: str, png: bytes, width: int, height: int) -> None:
        """Append a PNG picture (width x height pixels, RGB) to the TensorBoard file."""
        sizes = _int_field(1, height) + _int_field(2, width) + _int_field(3, 3)
        value = _bytes_field(1, tag.encode()) + _bytes_field(4, sizes + _bytes_field(4, png))
        self._append(self._events, _record(_event(step, _bytes_field(5, _bytes_field(1, value)))))

    def close(self) -> None:
        """Close both files; nothing is held back until then."""
        self._lines.close()
        self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, file: BinaryIO, payload: bytes) -> None:
        with disk_errors(Path(file.name)):
            file.write(payload)
            file.flush()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a metrics.jsonl, each with its "step"; null reads as nan, a half-written last line is left out."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}", rule=str(error.strerror or error), remedy="Check the path") from error
    rows = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
            values = {name: math.nan if value is None else float(value) for name, value in row.items()}
            rows.append({**values, "step": int(row["step"])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"line {number} of {path}", rule="a line is a JSON object with a step", remedy="Remove that line"
            ) from error
    return rows


def _appender(path: Path) -> BinaryIO:
    return open(path, "ab")


def _repair_lines(path: Path, resume_step: int | None) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if resume_step is not None:
        steps = [row["step"] for row in read_metrics(path)]
        kept = zip(whole.splitlines(keepends=True), steps, strict=True)
        whole = b"".join(line for line, step in kept if step <= resume_step)
    if whole != content:
        publish(path, whole)


def _repair_events(path: Path, resume_step: int | None) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    records = list(_records(content))
    if resume_step is not None:
        records = [record for record in records if _step(record) <= resume_step]
    whole = b"".join(map(_record, records))
    if whole != content:
        publish(path, whole)


def _records(content: bytes) -> Iterator[bytes]:
    """The records of a TFRecord file up to the first that is cut short or damaged."""
    start = 0
    while start + 12 <= len(content):
        length = int.from_bytes(content[start : start + 8], "little")
        record = content[start + 12 : start + 12 + length]
        if content[start : start + 16 + length] != _record(record):
            return
        yield record
        start += 16 + length


def _record(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + _masked_crc(length) + payload + _masked_crc(payload)


def _masked_crc(payload: bytes) -> bytes:
    import google_crc32c

    crc = google_crc32c.value(payload)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _event(step: int, content: bytes) -> bytes:
    return _key(1, 1) + struct.pack("<d", time.time()) + _int_field(2, step) + content


def _step(event: bytes) -> int:
    """The step of an event that `_event` made: a varint after the 9 bytes of the time and its own key."""
    step = 0
    for shift, byte in enumerate(event[10:20]):
        step |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            break
    return step


def _bytes_field(number: int, payload: bytes) -> bytes:
    return _key(number, 2) + _varint(len(payload)) + payload


def _int_field(number: int, value: int) -> bytes:
    return _key(number, 0) + _varint(value)


def _key(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(value: int) -> bytes:
    if value < 0:
        raise ValueError(f"{value} is negative; steps and sizes are not")
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _as_float32(value: float) -> float:
    """The value, or an infinity where it exceeds what 32 bits hold."""
    return math.copysign(math.inf, value) if abs(value) > 3.4028234e38 else value
