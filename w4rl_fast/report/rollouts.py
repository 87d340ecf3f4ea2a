"""RUN/rollout.html: imagined frames a second, and how true each case is."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from w4rl_fast.files import publish
from w4rl_fast.measure import environment_card
from w4rl_fast.report.figures import NOTHING, number
from w4rl_fast.report.page import Figure, Section, bars, environment, page, table
from w4rl_fast.speed.rollouts import BASELINE, Row, ThroughputConfig, not_timed

PAGE, SUMMARY = "rollout.html", "rollout.json"
HEAD = (
    "case", "times the baseline", "p10", "p99 to median", "grey levels, p99", "fit", "GFLOP a frame",
    "of the GEMM peak", "load", "first rollout",
)  # fmt: skip


def write_throughput_report(
    run: Path, rows: Sequence[Row], peak: Mapping[str, float], config: ThroughputConfig, command: str
) -> dict[str, Any]:
    """Write the page and, last, the summary, which is returned."""
    card = environment_card()
    summary: dict[str, Any] = {
        "rows": [dataclasses.asdict(each) for each in rows],
        "roofline": dict(peak),
        "not_timed": not_timed(run, rows, config),
        "page": str(run / PAGE),
        "command": command,
        "environment": card,
    }
    base, best = rows[0], max(rows, key=lambda each: each.frames_per_s * each.fit_for_refinement)
    text = (
        f"Rollouts of {base.worlds} imagined worlds with the policy of the run: all cases in one process, in turns,"
        f" median of {base.timing.samples}. The baseline is the published loop: float32, eager, three Euler steps, a"
        " rolled history, a look from the host at every step."
    )
    figures = [
        Figure("Baseline", f"{base.frames_per_s:,.0f} /s", "imagined frames"),
        Figure("Best that is fit", f"{best.frames_per_s:,.0f} /s", name_of(best)),
        Figure("That is", f"{best.ratio_to_baseline:.1f}x", "the baseline"),
    ]
    said = (
        "Grey levels are the errors of one step against eager float32, on held-out moments, when an engine was built."
        " The share of the peak is of a GEMM in the same precision (of float32 for int8), measured in the same run. The"
        " teacher is fit as its audit saw it, in its own number of steps; in others nothing has judged it."
    )
    drawn = [(name_of(each), each.frames_per_s, each.fit_for_refinement) for each in rows]
    sections = [
        Section(
            "By world, engine and steps",
            said,
            bars("case", "frames/s", drawn) + table(HEAD, [cells(each) for each in rows]),
        ),
        Section("Where the time goes", "Shares of a rollout; an engine is one piece.", table(*shares(rows))),
        environment(card, command),
    ]
    publish(run / PAGE, page("How fast does it imagine?", text, figures, sections).encode())
    publish(run / SUMMARY, json.dumps(summary, indent=1, allow_nan=False).encode())
    return summary


def name_of(each: Row) -> str:
    if each.engine == BASELINE:
        return BASELINE
    return f"{each.world} {each.steps}, {each.engine} {each.precision}"


def cells(each: Row) -> list[str]:
    return [
        name_of(each), f"{each.ratio_to_baseline:.2f}x", f"{each.timing.p10_s:.2f} s",
        f"{each.timing.p99_s / each.timing.median_s:.2f}", number(each.parity_p99, 2),
        "yes" if each.fit_for_refinement else "no", f"{each.gflop_per_frame:.3f}", f"{each.share_of_peak:.0%}",
        NOTHING if each.load_s is None else f"{each.load_s:.1f} s", f"{each.first_s:.1f} s",
    ]  # fmt: skip


def shares(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    names = list(dict.fromkeys(name for each in rows for name in each.shares))
    body = [
        [name_of(each), *(f"{each.shares[name]:.1%}" if name in each.shares else NOTHING for name in names)]
        for each in rows
        if each.shares
    ]
    return ["case", *names], body


def in_words(rows: Sequence[Row], run: Path) -> str:
    """The same for a terminal."""
    lines = [
        f"{name_of(each):52} {each.frames_per_s:8,.0f} {each.ratio_to_baseline:6.2f}x"
        f" {number(each.parity_p99, 2):>9} {each.gflop_per_frame:6.3f} {each.share_of_peak:8.0%}"
        f"  {'yes' if each.fit_for_refinement else 'no'}"
        for each in rows
    ]
    return "\n".join([f"{'case':52} frames/s   ratio  grey p99  GFLOP  of peak  fit", *lines, str(run / PAGE)])
