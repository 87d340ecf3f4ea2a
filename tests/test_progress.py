import io
import re
import shutil
import threading
import time
from pathlib import Path

import pytest

from w4rl_fast.errors import UserError
from w4rl_fast.progress import REFRESH_S, Progress, format_bytes, format_seconds, plan


class Terminal(io.StringIO):
    """A terminal that keeps what was written to it, and counts how often."""

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only moves when a test moves its single entry."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    return now


def run(stream: io.StringIO, clock: list[float], **options: int | None) -> None:
    with Progress("collect", unit="episodes", stream=stream, **options) as bar:  # type: ignore[arg-type]
        for _ in range(10):
            clock[0] += 2.0
            bar.advance(1, success="95 %")


def test_a_terminal_shows_count_rate_remaining_time_memory_and_fields(clock: list[float]) -> None:
    terminal = Terminal()
    run(terminal, clock, total=20)
    last = re.split(r"[\r\n]", terminal.text().rstrip())[-1]
    assert re.search(r"collect .*10/20 episodes · 0\.5/s · 20 s left · \d+(\.\d)? [MG]B · success 95 %", last)


def test_the_rate_counts_new_work_only(clock: list[float]) -> None:
    terminal = Terminal()
    run(terminal, clock, total=100, completed=80)
    assert "90/100 episodes · 0.5/s · 20 s left" in terminal.text()


def test_without_a_total_there_is_a_count_and_no_remaining_time(clock: list[float]) -> None:
    terminal = Terminal()
    run(terminal, clock, total=None)
    assert "10 episodes · 0.5/s" in terminal.text()
    assert "left" not in terminal.text()


def test_many_small_advances_draw_ten_times_a_second_at_most(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    draws: list[float] = []

    def detail(_: Progress) -> str:
        draws.append(clock[0])
        return ""

    monkeypatch.setattr(Progress, "_detail", detail)
    with Progress("train", total=10_000, stream=Terminal()) as bar:
        for _ in range(10_000):
            clock[0] += 1e-4
            bar.advance()
    assert bar.completed == 10_000
    assert 8 <= len(draws) <= 2 + 1 / REFRESH_S


def test_a_bar_has_no_thread_of_its_own() -> None:
    before = threading.active_count()
    with Progress("collect", total=2, stream=Terminal()) as bar:
        bar.advance()
        assert threading.active_count() == before


def test_elsewhere_a_long_stage_says_how_far_it_is_and_one_plain_line_ends_it(clock: list[float]) -> None:
    stream = io.StringIO()
    run(stream, clock, total=20)
    meanwhile, end = stream.getvalue().splitlines()
    assert meanwhile.startswith("collect: 5/20 episodes · 0.5/s · 30 s left")
    assert end == "collect: 10 episodes in 20 s, 0.5/s, success 95 %"


def test_elsewhere_a_short_stage_says_nothing_meanwhile_and_a_long_one_not_more_than_once_a_minute(
    clock: list[float],
) -> None:
    for seconds, words in ((9.0, 0), (69.0, 1), (71.0, 2), (300.0, 5)):
        stream = io.StringIO()
        with Progress("train", unit="steps", stream=stream) as bar:
            for _ in range(600):
                clock[0] += seconds / 600
                bar.advance()
        assert len(stream.getvalue().splitlines()) == words + 1


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_quiet_is_silent(stream: io.StringIO) -> None:
    with Progress("collect", total=1, quiet=True, stream=stream) as bar:
        bar.advance()
    assert stream.getvalue() == ""


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interruption_passes_and_leaves_the_terminal_usable(error: type[BaseException], clock: list[float]) -> None:
    terminal, stream = Terminal(), io.StringIO()
    for output in (terminal, stream):
        with pytest.raises(error), Progress("collect", total=9, stream=output) as bar:
            clock[0] += 2.0
            bar.advance(4)
            raise error
    assert terminal.getvalue().rfind("\x1b[?25h") > terminal.getvalue().rfind("\x1b[?25l")
    assert "4/9 items" in terminal.text()
    assert stream.getvalue() == "collect: stopped at 4/9 items in 2.0 s, 2/s\n"


def test_names_with_markup_are_shown_as_they_are(clock: list[float]) -> None:
    terminal = Terminal()
    with Progress("[red]stage", total=1, stream=terminal) as bar:
        clock[0] += 1.0
        bar.advance(1, loss="[bold]")
    assert "[red]stage" in terminal.text()
    assert "loss [bold]" in terminal.text()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1.2e9, "1.2 GB"), (3e8, "300 MB"), (999.6e6, "1.0 GB")],
)
def test_bytes_read_well(count: float, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (1.54, "1.5 s"), (9.96, "10 s"), (99, "99 s"), (240, "4 min"), (241, "5 min"), (7500, "2 h 5 min")],
)
def test_seconds_read_well(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_a_plan_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan("collect", memory_bytes=1_200_000_000, disk_bytes=300_000_000, seconds=240.0)
    plan("train", memory_bytes=5_000_000)
    plan("store", memory_bytes=0, disk_bytes=0, folder=tmp_path)
    assert capsys.readouterr().err.splitlines() == [
        "collect: needs about 1.2 GB memory, 300 MB disk, 4 min",
        "train: needs about 5.0 MB memory",
        "store: needs about 0 B memory, 0 B disk",
    ]


def test_a_plan_that_exceeds_the_disk_is_refused_even_before_its_folder_exists(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    with pytest.raises(UserError, match="free") as caught:
        plan("collect", memory_bytes=1, disk_bytes=2 * shutil.disk_usage(tmp_path).total, folder=folder)
    assert str(folder) in str(caught.value)
