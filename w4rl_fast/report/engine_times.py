"""RUN/engines.html: what a call of every engine takes, beside eager torch."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from w4rl_fast.files import publish
from w4rl_fast.measure import environment_card
from w4rl_fast.report.figures import NOTHING, number
from w4rl_fast.report.page import Figure, Section, bars, environment, page, table
from w4rl_fast.speed.engines import EngineRow

PAGE, SUMMARY = "engines.html", "engines.json"
HEAD = ("engine", "median", "p10", "p99", "times eager", "p99 error", "passed", "load", "first call")


def write_engines_report(
    run: Path, rows: Sequence[EngineRow], refused: Mapping[str, str], command: str
) -> dict[str, Any]:
    """Write the page and, last, the summary, which is returned."""
    card = environment_card()
    summary: dict[str, Any] = {
        "rows": [dataclasses.asdict(each) for each in rows],
        "not_timed": dict(refused),
        "page": str(run / PAGE),
        "command": command,
        "environment": card,
    }
    best = max(rows, key=lambda each: each.ratio_to_eager * each.passed)
    figures = [Figure("Most gained", f"{best.ratio_to_eager:.1f}x", f"{best.part}: {name_of(best)}")]
    text = (
        f"Calls of every engine that the run has, in one process and in turns, {rows[0].timing.samples} each, beside"
        " eager torch in float32. Errors are measured now, on the engine that was timed, on held-out moments."
    )
    groups: dict[tuple[str, int], list[EngineRow]] = {}
    for each in rows:
        groups.setdefault((each.part, each.batch), []).append(each)
    sections = [Section(f"{part}, batch {batch}", "", drawn(some)) for (part, batch), some in groups.items()]
    if refused:
        sections.append(Section("Not timed", "", table(("engine", "why"), list(refused.items()))))
    sections.append(environment(card, command))
    publish(run / PAGE, page("How fast are its engines?", text, figures, sections).encode())
    publish(run / SUMMARY, json.dumps(summary, indent=1, allow_nan=False).encode())
    return summary


def drawn(rows: Sequence[EngineRow]) -> str:
    entries = [(name_of(each), each.rows_per_s, each.passed) for each in rows]
    return bars("engine", "rows/s", entries) + table(HEAD, [cells(each) for each in rows])


def name_of(each: EngineRow) -> str:
    return f"{each.engine} {each.precision}"


def cells(each: EngineRow) -> list[str]:
    times = [f"{1e3 * seconds:.2f} ms" for seconds in (each.timing.median_s, each.timing.p10_s, each.timing.p99_s)]
    return [
        name_of(each), *times, f"{each.ratio_to_eager:.2f}x", f"{each.parity_p99:.3g} {each.unit}",
        "yes" if each.passed else "no", NOTHING if each.load_s is None else number(each.load_s, 2, " s"),
        f"{each.first_s:.2f} s",
    ]  # fmt: skip


def in_words(rows: Sequence[EngineRow], run: Path) -> str:
    """The same for a terminal."""
    head = f"{'part':18} {'engine':28} batch  median ms   p99 ms  times eager  p99 error           load s  passed"
    lines = [
        f"{each.part:18} {name_of(each):28} {each.batch:5d} {1e3 * each.timing.median_s:10.2f}"
        f" {1e3 * each.timing.p99_s:8.2f} {each.ratio_to_eager:11.2f}x  {f'{each.parity_p99:.3g} {each.unit}':18}"
        f" {'-' if each.load_s is None else f'{each.load_s:.2f}':>7}  {'yes' if each.passed else 'no'}"
        for each in rows
    ]
    return "\n".join([head, *lines, str(run / PAGE)])
