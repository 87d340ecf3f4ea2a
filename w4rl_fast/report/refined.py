"""RUN/report.html: did the policy get better, and was the dream true?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from w4rl_fast.files import publish
from w4rl_fast.metrics import LINES_NAME, read_metrics
from w4rl_fast.refine.imagined import REFINED, world_behind
from w4rl_fast.refine.proof import Judgement, beyond_controls, gains
from w4rl_fast.report.chart import Series, bar_chart, line_chart
from w4rl_fast.report.film import encode_film
from w4rl_fast.report.page import Figure, Section, environment, films, page, picture, row, table
from w4rl_fast.report.png import encode_apng
from w4rl_fast.report.policies import policy_rows
from w4rl_fast.report.sheet import animation
from w4rl_fast.run import latest
from w4rl_fast.truth.again import imagine_again
from w4rl_fast.truth.intervals import Share

PAGE = "report.html"
SHOWN = 6
Curves = Mapping[str, list[float | None]]


def write_refined_report(
    run: Path, judged: Mapping[str, Judgement], last: str, summary: Mapping[str, Any], command: str
) -> Path:
    """Write the page, and say where it lies; `last` names the policy that everything ended with."""
    curves = {name: metrics_of(folder) for name, folder in refinements(run).items()}
    sections = [
        success_section(judged, curves),
        dream_section(run, judged[last]),
        learning(curves),
        guards_section(curves),
        *([rounds_section(summary["rounds"])] if summary["rounds"] else []),
        stages(summary),
        failures(judged, last),
    ]
    before, steps = judged["cloned"].real.share, summary["real_steps"]
    counts = ", ".join(f"{count:,} {source}" for source, count in steps.items() if source != "all")
    text = (
        f"{summary['task']}, seed {summary['seed']}. Every policy ran {before.episodes} episodes in the real simulator,"
        f" on the same seeds, which nothing was ever trained on. {steps['all']:,} real steps were used: {counts}."
    )
    figures = headline(judged, last)
    shown = page("Did it get better?", text, figures, [*sections, environment(summary["environment"], command)])
    publish(run / PAGE, shown.encode())
    return run / PAGE


def headline(judged: Mapping[str, Judgement], last: str) -> list[Figure]:
    before, after = judged["cloned"], judged[last]
    gain, imagined = gains(judged)[last], after.imagined
    assert imagined is not None
    assert after.gap is not None
    return [
        Figure("Real success before", percent(before.real.share), interval(before.real.share)),
        Figure("Real success after", percent(after.real.share), interval(after.real.share)),
        Figure("Gain", f"{100 * gain.difference:+.1f} points", f"{gain.gained} seeds gained, {gain.lost} lost"),
        Figure("Paired p", f"{gain.p:.1g}", "McNemar, exact, same seeds"),
        Figure("Imagined after", percent(imagined), f"{interval(imagined)}, of held-out starts"),
        Figure("Dream minus reality", f"{100 * after.gap:+.1f} points", "of the same policy"),
    ]


def percent(share: Share) -> str:
    return f"{share.successes / share.episodes:.1%}"


def interval(share: Share) -> str:
    return f"{share.successes} of {share.episodes}; 95 % from {share.low:.1%} to {share.high:.1%}"


def refinements(run: Path) -> dict[str, Path]:
    """The refinement before any repair, and the one of the last round."""
    last = latest(run)
    return {"refined": run / REFINED, **({last.name: last / REFINED} if last != run else {})}


def metrics_of(folder: Path) -> Curves:
    """What a refinement logged, by iteration; shares in per cent."""
    steps = [row for row in read_metrics(folder / LINES_NAME) if "refine/success" in row]
    names = sorted({name.removeprefix("refine/") for row in steps for name in row if name != "step"})
    logged: dict[str, list[float | None]] = {}
    for name in names:
        factor = 100 if name in ("success", "score") or name.startswith("guard_") else 1
        logged[name] = [factor * row[f"refine/{name}"] if f"refine/{name}" in row else None for row in steps]
    return logged


def success_section(judged: Mapping[str, Judgement], curves: Mapping[str, Curves]) -> Section:
    """All policies side by side, as bars and as a table, and how the dream got better."""
    colours = ("c0", "c2")
    lines = [
        Series(name, held(each.get("score", [])), colour)
        for (name, each), colour in zip(curves.items(), colours, strict=False)
    ]
    curve = line_chart(lines, title="Imagined success", unit="% of held-out starts", x_label="iteration")
    bars = bar_chart(
        list(judged),
        [
            real_series([each.real.share for each in judged.values()]),
            Series("in the dream", [rate(each.imagined) for each in judged.values()], "c2"),
        ],
        title="Success", unit="% of episodes, with 95 % intervals",
    )  # fmt: skip
    said = (
        "Refined policies were chosen by their success in imagined worlds; the real ones only judge them. The controls"
        " are cloned with as many steps: “all demos” from every demonstration of the run, “successes” from every"
        " episode that succeeded, whoever acted."
    )
    said += "".join(f" Against {name}: {gain}." for name, gain in beyond_controls(judged).items())
    return Section("Before and after", said, row(bars, curve) + table(*policy_rows(judged, gains(judged))))


def real_series(shares: Sequence[Share]) -> Series:
    return Series(
        "real", [rate(share) for share in shares], "c0", intervals=[(100 * s.low, 100 * s.high) for s in shares]
    )


def rate(share: Share | None) -> float | None:
    return None if share is None else 100 * share.successes / share.episodes


def dream_section(run: Path, after: Judgement) -> Section:
    """The first judged episodes of the last policy: real, imagined from the same start and actions, and apart."""
    episodes = after.real.watched[:SHOWN]
    shown = []
    for episode, again in zip(episodes, imagine_again(world_behind(latest(run)), episodes), strict=True):
        outcome = "succeeds" if episode.info.succeeded else "fails"
        note = "real, imagined from its start and actions alone, and the difference"
        shown.append(picture(encode_film(again), f"seed {episode.info.seed}: {outcome}", note, width=440))
    said = "The refined policy in the real simulator, and what the world makes of the same actions, open loop."
    return Section("The dream beside the real thing", said, films(shown))


def learning(curves: Mapping[str, Curves]) -> Section:
    """How the dream got better, and how far the policy went from the clone."""
    charts = []
    for name, each in curves.items():
        lines = [
            Series("exploring", each.get("success", []), "c0"),
            Series("held out, mean", held(each.get("score", [])), "c2"),
        ]
        moved = [
            Series("from the clone", each.get("anchor_kl", []), "c0"),
            Series("in an iteration", each.get("kl", []), "c2"),
        ]
        charts.append(line_chart(lines, title=f"{name}: imagined success", unit="%", x_label="iteration"))
        charts.append(line_chart(moved, title=f"{name}: moved", unit="nats", x_label="iteration", digits=2))
    return Section("How it learnt", "Each refinement begins with the cloned policy.", row(*charts))


GUARDS = (("far_states", "c0"), ("far_successes", "c2"), ("unsure", "c3"), ("undecided", "c1"))


def guards_section(curves: Mapping[str, Curves]) -> Section:
    charts = []
    for name, each in curves.items():
        lines = [
            Series(guard.replace("_", " "), each[f"guard_{guard}"], colour)
            for guard, colour in GUARDS
            if f"guard_{guard}" in each
        ]
        charts.append(line_chart(lines, title=f"{name}: guards", unit="% of moments", x_label="iteration"))
    said = "Refinement stops when success rises while a guard says that the world is being exploited."
    return Section("Was the dream believed or exploited?", said, row(*charts))


def rounds_section(rounds: Sequence[Mapping[str, Any]]) -> Section:
    """What each round of repair found and did."""
    head = ["round", "real steps", "real success", "agreement before", "false successes", "after", "false successes"]
    rows = []
    for each in rounds:
        before, after = each["before"], each["after"]
        kept = audit_cells(after) if after is not None else ["nothing to repair", ""]
        real = f"{each['real']['successes']} of {each['real']['episodes']}"
        rows.append([str(each["number"]), f"{each['real_steps']:,}", real, *audit_cells(before), *kept])
    said = (
        "The refined policy runs for real. Before: its own rollouts, replayed by the world it was refined in. After:"
        " held-out rollouts of all policies, replayed by the repaired world."
    )
    return Section("Repair", said, table(head, rows))


def audit_cells(audit: Mapping[str, Any]) -> list[str]:
    each = audit["fidelity"]["imagined"]
    failures = each["true_failures"] + each["false_successes"]
    return [f"{each['agreement']:.1%} of {each['n']}", f"{each['false_successes']} of {failures}"]


def held(values: list[float | None]) -> list[float | None]:
    """Values that are known now and then, each held until the next."""
    shown: list[float | None] = []
    for value in values:
        shown.append(value if value is not None else (shown[-1] if shown else None))
    return shown


def stages(summary: Mapping[str, Any]) -> Section:
    rows = [[each["name"], f"{each['seconds']:.0f} s", each["figure"]] for each in summary["stages"]]
    total = sum(each["seconds"] for each in summary["stages"])
    return Section("Stages", f"{total / 60:.1f} minutes in all.", table(["stage", "time", "outcome"], rows))


def failures(judged: Mapping[str, Judgement], last: str) -> Section:
    """Films of what failed before, and of what still fails."""
    shown = [
        picture(encode_apng(animation(judged[name].real.failures), fps=10), f"{name} fails", "", width=440)
        for name in ("cloned", last)
        if judged[name].real.failures
    ]
    return Section("What fails", "The first failures of each policy, in the real simulator.", films(shown))
