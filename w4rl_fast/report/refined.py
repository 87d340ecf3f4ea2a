"""RUN/report.html: did the policy get better, and was the dream true?"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w4rl_fast.files import publish
from w4rl_fast.report.chart import Series, bar_chart, line_chart
from w4rl_fast.report.page import Figure, Section, environment, films, page, picture, row, table
from w4rl_fast.report.png import encode_apng
from w4rl_fast.report.sheet import animation
from w4rl_fast.truth.intervals import Share
from w4rl_fast.truth.paired import Paired
from w4rl_fast.truth.success import Verdict

PAGE = "report.html"


def write_refined_report(
    run: Path, verdicts: Mapping[str, Verdict], gain: Paired, summary: Mapping[str, Any], command: str
) -> Path:
    """Write the page, and say where it lies."""
    before, after = verdicts["before"].share, verdicts["after"].share
    imagined = Share(**summary["imagined_after"])
    figures = [
        Figure("Real success before", percent(before), interval(before)),
        Figure("Real success after", percent(after), interval(after)),
        Figure("Gain", f"{100 * gain.difference:+.1f} points", f"{gain.gained} seeds gained, {gain.lost} lost"),
        Figure("Paired p", f"{gain.p:.1g}", "McNemar, exact, same seeds"),
        Figure("Imagined after", percent(imagined), f"{interval(imagined)}, of held-out starts"),
    ]
    curves = metrics_of(run)
    sections = [
        success_section(before, after, imagined, curves),
        learning(curves),
        stages(summary),
        failures(verdicts),
    ]
    text = (
        f"{summary['task']}, seed {summary['seed']}. {before.episodes} episodes each in the real simulator, on seeds"
        f" that nothing was ever trained on; {summary['real_steps']:,} real steps were used in all."
    )
    shown = page("Did it get better?", text, figures, [*sections, environment(summary["environment"], command)])
    publish(run / PAGE, shown.encode())
    return run / PAGE


def percent(share: Share) -> str:
    return f"{share.successes / share.episodes:.1%}"


def interval(share: Share) -> str:
    return f"{share.successes} of {share.episodes}; 95 % from {share.low:.1%} to {share.high:.1%}"


Curves = Mapping[str, list[float | None]]


def metrics_of(run: Path) -> Curves:
    """What the refinement logged, by iteration; shares in per cent."""
    lines = [json.loads(line) for line in (run / "refined" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "refine/success" in line]
    shares = ("success", "score", "guard_far_states", "guard_far_successes", "guard_unsure")
    logged: dict[str, list[float | None]] = {}
    for name in (*shares, "anchor_kl", "kl"):
        factor = 100 if name in shares else 1
        logged[name] = [factor * line[f"refine/{name}"] if f"refine/{name}" in line else None for line in steps]
    return logged


def success_section(before: Share, after: Share, imagined: Share, curves: Curves) -> Section:
    """Before, after and dreamt, side by side, and how the dream got better."""
    shares = [100 * each.successes / each.episodes for each in (before, after, imagined)]
    bars = bar_chart(
        ["cloned, real", "refined, real", "refined, imagined"], [Series("success", shares, "c0")],
        title="Success", unit="% of episodes",
    )  # fmt: skip
    lines = [
        Series("exploring", curves["success"], "c0"),
        Series("held out, by its mean", points(curves["score"]), "c2"),
    ]
    learnt = line_chart(lines, title="Imagined success", unit="%", x_label="iteration")
    said = "The refined policy was chosen by its success in imagined worlds; the real ones only judge it."
    return Section("Before and after", said, row(bars, learnt))


def learning(curves: Curves) -> Section:
    """How far the policy went from the clone, and what the guards said."""
    moved = [Series("from the clone", curves["anchor_kl"], "c0"), Series("within an iteration", curves["kl"], "c2")]
    guards = [
        Series("far states", curves["guard_far_states"], "c0"),
        Series("far successes", curves["guard_far_successes"], "c2"),
        Series("unsure", curves["guard_unsure"], "c3"),
    ]
    charts = (
        line_chart(moved, title="How far the policy moved", unit="nats", x_label="iteration", digits=2),
        line_chart(guards, title="Guards", unit="% of moments", x_label="iteration"),
    )
    said = "Refinement stops when success rises while a guard says that the world is being exploited."
    return Section("Was the dream believed or exploited?", said, row(*charts))


def points(values: list[float | None]) -> list[float | None]:
    """Values that are known now and then, each held until the next."""
    held: list[float | None] = []
    for value in values:
        held.append(value if value is not None else (held[-1] if held else None))
    return held


def stages(summary: Mapping[str, Any]) -> Section:
    rows = [[each["name"], f"{each['seconds']:.0f} s", each["figure"]] for each in summary["stages"]]
    total = sum(each["seconds"] for each in summary["stages"])
    return Section("Stages", f"{total / 60:.1f} minutes in all.", table(["stage", "time", "outcome"], rows))


def failures(verdicts: Mapping[str, Verdict]) -> Section:
    """Films of what still fails, and of what failed before."""
    shown = [
        picture(encode_apng(animation(verdict.failures), fps=10), f"fails {name}", "", width=440)
        for name, verdict in verdicts.items()
        if verdict.failures
    ]
    return Section("What fails", "The first failures of each policy, in the real simulator.", films(shown))
