"""kernels.html: every kernel beside its definition in torch, and how exact what was timed is."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from w4rl_fast.files import disk_errors, publish
from w4rl_fast.measure import environment_card
from w4rl_fast.report.figures import NOTHING, number
from w4rl_fast.report.page import Figure, Section, bars, environment, page, table
from w4rl_fast.speed.kernels import TORCH, KernelRow

PAGE, SUMMARY = "kernels.html", "kernels.json"
HEAD = ("case", "ms", "p10", "p99", "ratio", "error", "GB/s", "of copy")


def write_kernels_report(
    folder: Path, rows: Sequence[KernelRow], peak: Mapping[str, float], command: str
) -> dict[str, Any]:
    """Write the page and, last, the summary, which is returned."""
    card = environment_card()
    summary: dict[str, Any] = {
        "rows": [dataclasses.asdict(each) for each in rows],
        "roofline": dict(peak),
        "page": str(folder / PAGE),
        "command": command,
        "environment": card,
    }
    text = (
        "Every operation with an implementation of its own: the one that runs here, its reference (the definition in"
        " plain torch) and the fastest torch expression of the same numbers, in one process, in turns."
    )
    said = (
        "How many times as fast as the reference; torch's own expressions are pale. The error is the largest difference"
        " from the reference over its largest number, of the very results that were timed. GB/s count inputs read once"
        f" and results written once; the processor copies {peak['copy_gb_per_s']:.0f} GB/s in memory, and more in its"
        " caches, so that a share may pass 100 %; a GPU is held to its own copy."
    )
    sections = [
        Section("By operation", said, drawn(rows) + table(HEAD, [cells(each) for each in rows])),
        Section("What was timed", "The sizes, and why each way is here.", table(*reasons(rows))),
        environment(card, command),
    ]
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    publish(folder / PAGE, page("How fast are the kernels?", text, headline(rows), sections).encode())
    publish(folder / SUMMARY, json.dumps(summary, indent=1, allow_nan=False).encode())
    return summary


def headline(rows: Sequence[KernelRow]) -> list[Figure]:
    """Each implementation against the best that torch does: its fastest expression, or else the reference."""
    figures = []
    for each in rows:
        if each.ratio_to_reference is None or each.implementation.startswith(TORCH):
            continue
        other, defined = against(each, rows), f"{each.ratio_to_reference:.1f}x"
        said = f"the fastest in torch; {defined} the reference" if other else "the reference"
        figures.append(Figure(operation_of(each), f"{other:.1f}x" if other else defined, said))
    return figures


def against(each: KernelRow, rows: Sequence[KernelRow]) -> float | None:
    """How many times as fast as the fastest torch expression of the same operation; None where there is none."""
    for other in rows:
        same = (other.op, other.dtype) == (each.op, each.dtype) and other.implementation.startswith(TORCH)
        if same and other.median_s and each.median_s:
            return other.median_s / each.median_s
    return None


def drawn(rows: Sequence[KernelRow]) -> str:
    """One bar a case that has a ratio."""
    entries = [
        (name_of(each), each.ratio_to_reference, not each.implementation.startswith(TORCH))
        for each in rows
        if each.ratio_to_reference is not None
    ]
    return bars("case", "times the reference", entries, ".1f") if entries else ""


def operation_of(each: KernelRow) -> str:
    return f"{each.op}, {each.dtype}"


def name_of(each: KernelRow) -> str:
    return f"{operation_of(each)}: {each.implementation}"


def cells(each: KernelRow) -> list[str]:
    return [
        name_of(each), milliseconds(each.median_s), milliseconds(each.p10_s), milliseconds(each.p99_s),
        number(each.ratio_to_reference, 1, "x"), error_of(each), number(each.gb_per_s, 1), share_of(each),
    ]  # fmt: skip


def reasons(rows: Sequence[KernelRow]) -> tuple[list[str], list[list[str]]]:
    return ["case", "size", "why"], [[name_of(each), each.shape, each.note] for each in rows]


def milliseconds(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{1e3 * seconds:.2f}"


def error_of(each: KernelRow) -> str:
    if each.error is None:
        return NOTHING
    return f"{each.error:.1e}" if each.error else "bit for bit"


def share_of(each: KernelRow) -> str:
    return NOTHING if each.share_of_copy is None else f"{each.share_of_copy:.0%}"


def in_words(rows: Sequence[KernelRow]) -> str:
    """The same for a terminal; beside the ratio to the reference, the one to the fastest torch expression."""
    lines = [
        f"{name_of(each):54} {milliseconds(each.median_s):>8} {milliseconds(each.p99_s):>8}"
        f" {number(each.ratio_to_reference, 1, 'x'):>9} {number(against(each, rows), 1, 'x'):>8}"
        f" {error_of(each):>11} {number(each.gb_per_s, 1):>6} {share_of(each):>8}  {each.note}"
        for each in rows
    ]
    head = f"{'case':54} {'ms':>8} {'p99':>8} {'reference':>9} {'torch':>8} {'error':>11} {'GB/s':>6} {'of copy':>8}"
    return "\n".join([head, *lines])
