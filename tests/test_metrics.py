import json
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from w4rl_fast.errors import UserError
from w4rl_fast.metrics import EVENTS_NAME, LINES_NAME, MetricsLog, _records, read_metrics

STEPS = [0, 1, 127, 128, 300, 2**31, 2**40]


def write(folder: Path, steps: list[int], resume_step: int | None = None) -> None:
    with MetricsLog(folder, resume_step=resume_step) as log:
        for step in steps:
            log.scalars(step, {"loss": 1 / (step + 1), "world/gain": step})
            log.image(step, "frame", png(4, 2), 4, 2)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(range(3 * width))) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def untimed(path: Path) -> list[bytes]:
    """The records of an event file without the wall time, which is their first 9 bytes."""
    return [record[9:] for record in _records(path.read_bytes())]


def tensorboard_events(folder: Path) -> list[Any]:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    return list(loader.LegacyEventFileLoader(str(folder / EVENTS_NAME)).Load())


def test_tensorboard_reads_back_what_was_logged(tmp_path: Path) -> None:
    write(tmp_path, STEPS)
    first, *events = tensorboard_events(tmp_path)
    assert first.file_version == "brain.Event:2"
    assert [event.step for event in events] == [step for step in STEPS for _ in (0, 1)]
    for event in events[::2]:
        values = {value.tag: value.simple_value for value in event.summary.value}
        assert values == {"loss": pytest.approx(1 / (event.step + 1)), "world/gain": pytest.approx(event.step)}
        assert event.wall_time > 1.6e9
    for event in events[1::2]:
        (value,) = event.summary.value
        picture = value.image
        assert (value.tag, picture.width, picture.height, picture.colorspace) == ("frame", 4, 2, 3)
        assert picture.encoded_image_string == png(4, 2)


def test_tensorboard_finds_the_file_in_its_folder(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write(tmp_path, STEPS)
    events = accumulator.EventAccumulator(str(tmp_path), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    assert [scalar.step for scalar in events.Scalars("world/gain")] == STEPS
    assert [image.step for image in events.Images("frame")] == STEPS


def test_lines_read_back_and_are_strict_json(tmp_path: Path) -> None:
    values = {"loss": 0.1, "big": 1e300, "nan": math.nan, "infinite": -math.inf, "name \"'\n é": 2.0}
    with MetricsLog(tmp_path) as log:
        log.scalars(7, values)
    path = tmp_path / LINES_NAME

    def refuse(word: str) -> None:
        raise AssertionError(word)

    (line,) = path.read_text().splitlines()
    assert json.loads(line, parse_constant=refuse)["nan"] is None
    (row,) = read_metrics(path)
    assert row["step"] == 7
    assert list(row) == ["step", *values]
    assert all(row[name] == values[name] for name in ("loss", "big", "name \"'\n é"))
    assert math.isnan(row["nan"])
    assert math.isnan(row["infinite"])
    scalars = {value.tag: value.simple_value for value in tensorboard_events(tmp_path)[1].summary.value}
    assert scalars["big"] == math.inf
    assert scalars["infinite"] == -math.inf
    assert math.isnan(scalars["nan"])


def test_nothing_is_held_back(tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as log:
        log.scalars(1, {"loss": 2.0})
        assert read_metrics(tmp_path / LINES_NAME) == [{"step": 1, "loss": 2.0}]
        assert len(untimed(tmp_path / EVENTS_NAME)) == 2


@pytest.mark.parametrize("resume_step", [-1, 0, 127, 200, 2**40])
def test_resuming_equals_never_having_stopped(tmp_path: Path, resume_step: int) -> None:
    write(tmp_path / "whole", STEPS)
    write(tmp_path / "stopped", [*STEPS, 2**41])
    write(tmp_path / "stopped", [step for step in STEPS if step > resume_step], resume_step=resume_step)
    assert (tmp_path / "stopped" / LINES_NAME).read_bytes() == (tmp_path / "whole" / LINES_NAME).read_bytes()
    assert untimed(tmp_path / "stopped" / EVENTS_NAME) == untimed(tmp_path / "whole" / EVENTS_NAME)


def test_a_kill_at_any_byte_loses_the_last_entry_only(tmp_path: Path) -> None:
    write(tmp_path, [1, 2])
    lines, events = (tmp_path / LINES_NAME).read_bytes(), (tmp_path / EVENTS_NAME).read_bytes()
    before = len(read_metrics(tmp_path / LINES_NAME)), len(untimed(tmp_path / EVENTS_NAME))
    last_line = len(lines) - len(lines.splitlines(keepends=True)[-1])
    last_event = len(events) - 16 - len(list(_records(events))[-1])
    for cut in range(max(len(lines) - last_line, len(events) - last_event)):
        (tmp_path / LINES_NAME).write_bytes(lines[: min(last_line + cut, len(lines) - 1)])
        (tmp_path / EVENTS_NAME).write_bytes(events[: min(last_event + cut, len(events) - 1)])
        assert len(read_metrics(tmp_path / LINES_NAME)) == before[0] - 1
        with MetricsLog(tmp_path) as log:
            log.scalars(3, {"loss": 0.0})
        assert [row["step"] for row in read_metrics(tmp_path / LINES_NAME)] == [1, 3]
        assert len(untimed(tmp_path / EVENTS_NAME)) == before[1]


def test_opening_again_adds_nothing_and_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, STEPS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write(tmp_path, [])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"loss": 1}', '{"step": 1, "loss": "x"}', '{"step": null}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / LINES_NAME
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(UserError, match="line 2"):
        read_metrics(path)


def test_what_has_no_place_in_a_log_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as log:
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(ValueError, match="negative"):
            log.scalars(-1, {"loss": 1.0})
        with pytest.raises(ValueError, match="step"):
            log.scalars(1, {"step": 1.0})
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(UserError, match="cannot read"):
        read_metrics(tmp_path / "absent.jsonl")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        MetricsLog(tmp_path / "file")
