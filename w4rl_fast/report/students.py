"""RUN/students.html: how true are the few-step students, and what does every step cost?"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from w4rl_fast.distill.compare import Comparison, Film, Row
from w4rl_fast.files import publish
from w4rl_fast.measure import environment_card
from w4rl_fast.report import chart
from w4rl_fast.report.figures import NOTHING, centimetres, decimal, number
from w4rl_fast.report.film import beside, moving
from w4rl_fast.report.imagined import to_bytes
from w4rl_fast.report.page import Figure, Section, environment, films, page, picture, row, table
from w4rl_fast.truth.failure import Confusion
from w4rl_fast.truth.intervals import Share

PAGE, SUMMARY = "students.html", "students.json"
COLOURS = {"teacher": "c1", "naive": "c2", "student": "c0"}
RADIUS, BESIDE, LETTER = 4.5, 9, 6.3
"""Of a point, how far from its middle its name begins, and how wide a letter of it is, in pixels."""
FILMED, COLUMN, FPS = 2, 150, 5.0
"""Students that are shown in films, how wide a column of them is, and how fast they go."""
COSTS = ("world", "steps", "weights", "GFLOP a frame", "frames/s", "time a frame, of the teacher's")
PICTURES = ("world", "moving PSNR, step 1", "last step", "over naive 1 step", "blends", "wrong outcome", "mixed pixels")
BEHAVIOUR = (
    "world",
    "action response",
    "outcomes agree",
    "false successes",
    "hand error",
    "draws differ by",
    "verdict",
)


class Point(NamedTuple):
    """A world at frames a second and a figure of fidelity."""

    name: str
    x: float
    y: float
    colour: str


def write_students_report(run: Path, found: Comparison, command: str) -> dict[str, object]:
    """Write the page and, last, the summary, which is returned with where they lie."""
    card = environment_card()
    summary: dict[str, object] = {
        "rows": [dataclasses.asdict(each) for each in found.rows],
        "referee": found.referee,
        "page": str(run / PAGE),
        "command": command,
        "environment": card,
    }
    episodes, steps = found.rows[0].truth.fidelity.episodes, len(found.rows[0].truth.fidelity.psnr)
    text = (
        f"The teacher, the teacher drawn naively in fewer steps, and its students, on the same {episodes} held-out"
        f" episodes of {steps} steps and the same noise."
    )
    sections = [price(found), pictures(found), behaviour(found), to_look_at(found), environment(card, command)]
    shown = page("Few steps: what they save, and what they cost", text, headline(found.rows), sections)
    publish(run / PAGE, shown.encode())
    publish(run / SUMMARY, json.dumps(summary, indent=1, allow_nan=False).encode())
    return summary


def best_of(rows: Sequence[Row]) -> list[Row]:
    """The students, those that are fit first, then by their last picture."""
    students = [each for each in rows if each.kind == "student"]
    return sorted(students, key=lambda each: (bool(each.why), -(last_psnr(each) or 0.0)))


def headline(rows: Sequence[Row]) -> list[Figure]:
    """The best student beside its teacher."""
    if not (students := best_of(rows)):
        return [Figure("Students", "none", "w4rl distill makes one")]
    teacher, student = rows[0], students[0]
    mine, theirs = student.truth, teacher.truth
    why = "; ".join(student.why) or "within the margins of the gate"
    replays = f"teacher: {theirs.failure.agreement:.1%} of {theirs.failure.n}"
    last = f"teacher: {number(last_psnr(teacher), 1, ' dB')}"
    return [
        Figure(f"Verdict on {student.name}", verdict(student), why),
        Figure("Time a frame", f"{student.cost.share:.0%}", f"of the teacher's in {teacher.steps} step(s)"),
        Figure("Moving pixels, last step", number(last_psnr(student), 1, " dB"), last),
        Figure("Action response", decimal(mine.response), f"teacher: {decimal(theirs.response)}"),
        Figure("Outcomes agree", f"{mine.failure.agreement:.1%}", replays),
        Figure("Blends", blends(student), f"frames of contact; teacher: {blends(teacher)}"),
    ]


def price(found: Comparison) -> Section:
    """Fidelity against speed."""
    rows = found.rows
    cost = rows[0].cost
    said = (
        f"Frames a second of the whole step, classifier included: {cost.batch} worlds at once in {cost.precision},"
        f" eager, all in turns in one process, median of {cost.samples}. Each point is a world: the teacher, naive"
        " samplers of it, and students."
    )
    charts = row(
        scatter(points(rows, [last_psnr(each) for each in rows]), title="PSNR on moving pixels, last step", unit="dB"),
        scatter(points(rows, [each.truth.response for each in rows]), title="Action response", unit="correlation"),
    )
    cells = [
        [
            each.name, str(each.steps), f"{each.weights / 1e6:.2f}M", f"{each.cost.gflop:.3f}",
            f"{each.cost.frames_per_s:,.0f}", f"{each.cost.share:.0%}",
        ]
        for each in rows
    ]  # fmt: skip
    return Section("The price of a step", said, charts + table(COSTS, cells))


def pictures(found: Comparison) -> Section:
    """Moving pixels by horizon, and frames of contact."""
    said = (
        "The gain over the teacher drawn naively in one step is the mean over episodes at the last step, with its 95 %"
        " interval. A frame of contact is a blend where more than a quarter of the pixels that tell the two outcomes"
        " apart, judged by a real frame of each with the hand in the same place, lies between both; its outcome is"
        " wrong where it is nearer to the other one."
    )
    curves = [
        chart.Series(each.name, each.truth.fidelity.psnr_moving, COLOURS[each.kind], dashed=each.kind == "naive")
        for each in [found.rows[0], *[each for each in found.rows if each.name == "naive 1"], *best_of(found.rows)[:1]]
    ]
    drawn = row(chart.line_chart(curves, title="PSNR on moving pixels", unit="dB, higher is better"))
    cells = [
        [
            each.name, number(each.truth.fidelity.psnr_moving[0], 1, " dB"), number(last_psnr(each), 1, " dB"),
            gained(each), blends(each), wrong(each), mixed_pixels(each),
        ]
        for each in found.rows
    ]  # fmt: skip
    return Section("Pictures", said, drawn + table(PICTURES, cells))


def behaviour(found: Comparison) -> Section:
    """Whether actions do what they do, and failures stay failures."""
    said = (
        "Action response is the correlation over all pixels between what other actions change in the imagined picture"
        f" and what they change for {found.referee}. A student that is worse than its teacher by more than the margins"
        " of the gate is not fit for refinement."
    )
    cells = [
        [
            each.name,
            decimal(each.truth.response),
            f"{each.truth.failure.agreement:.1%} of {each.truth.failure.n}",
            false_successes(each.truth.failure),
            centimetres(each.truth.fidelity.proprio_error_m[-1]),
            f"{each.truth.spread:.1%}",
            verdict(each),
        ]
        for each in found.rows
    ]
    return Section("Behaviour", said, table(BEHAVIOUR, cells))


def to_look_at(found: Comparison) -> Section:
    """Rollouts side by side."""
    best = [each.name for each in best_of(found.rows)[:FILMED]]
    names = ["teacher", *best, *(each.name for each in found.rows if each.name == "naive 1")]
    at = [[each.name for each in found.rows].index(name) for name in names]
    said = "Nothing real is shown to a world after the first picture."
    note = f"from left to right: real, {', '.join(names)}"
    return Section("To look at", said, films(film_of(each, at, note) for each in found.films))


def film_of(film: Film, at: Sequence[int], note: str) -> str:
    real = to_bytes(film.real)
    columns = [real, *(np.concatenate([real[:1], to_bytes(film.imagined[number])]) for number in at)]
    return picture(moving(beside(columns), FPS), film.title, note, width=COLUMN * len(columns))


def scatter(shown: Sequence[Point], *, title: str, unit: str) -> str:
    """Points with their names, frames a second from left to right."""
    across, up = (chart.nice_ticks(min(each), max(each)) for each in ([0.0, *xs(shown)], [p.y for p in shown] or [0.0]))
    x = chart.Scale(across[0], across[-1], chart.LEFT, chart.WIDTH - chart.RIGHT)
    y = chart.Scale(up[0], up[-1], chart.HEIGHT - chart.BOTTOM, chart.TOP)
    parts = [*chart.grid(y, up, chart.WIDTH - chart.RIGHT)]
    parts += [chart.text(x(tick), chart.HEIGHT - chart.BOTTOM + 16, f"{tick:g}", "middle") for tick in across]
    middle = (chart.LEFT + chart.WIDTH - chart.RIGHT) / 2
    parts.append(chart.text(middle, chart.HEIGHT - 6, "frames/s", "middle"))
    return chart.frame(title, unit, [*parts, *dots(shown, x, y)])


def xs(shown: Sequence[Point]) -> list[float]:
    return [each.x for each in shown]


def dots(shown: Sequence[Point], x: chart.Scale, y: chart.Scale) -> Iterator[str]:
    """Each point, and its name on the side that has room, below names and points that would lie under it."""
    named = [(x(each.x) - RADIUS, x(each.x) + RADIUS, y(each.y)) for each in shown]
    for each in sorted(shown, key=lambda each: -each.y):
        left, top, size = x(each.x), y(each.y), 2 * RADIUS
        corner = f'x="{left - RADIUS:.1f}" y="{top - RADIUS:.1f}"'
        yield f'<rect class="{each.colour}" {corner} width="{size}" height="{size}" rx="{RADIUS}"/>'
        is_left, width = left < (chart.LEFT + chart.WIDTH) / 2, LETTER * len(each.name)
        begins = left + BESIDE if is_left else left - BESIDE - width
        beside_it = [at for begin, end, at in named if begins < end and begin < begins + width]
        while any(abs(top - at) < chart.LABEL_GAP for at in beside_it):
            top += 1
        named.append((begins, begins + width, top))
        away, anchor = (BESIDE, "start") if is_left else (-BESIDE, "end")
        yield chart.text(left + away, top + 4, each.name, anchor, f"value {each.colour}")


def points(rows: Sequence[Row], values: Sequence[float | None]) -> list[Point]:
    return [
        Point(each.name, each.cost.frames_per_s, value, COLOURS[each.kind])
        for each, value in zip(rows, values, strict=True)
        if value is not None
    ]


def last_psnr(each: Row) -> float | None:
    return each.truth.fidelity.psnr_moving[-1]


def verdict(each: Row) -> str:
    return NOTHING if each.kind != "student" else "not fit" if each.why else "fit"


def blends(each: Row) -> str:
    blend = each.truth.blend
    return NOTHING if blend is None else count(blend.blended)


def mixed_pixels(each: Row) -> str:
    blend = each.truth.blend
    return NOTHING if blend is None else f"{blend.mixed_pixels:.1%}"


def wrong(each: Row) -> str:
    blend = each.truth.blend
    return NOTHING if blend is None else count(blend.other)


def false_successes(each: Confusion) -> str:
    return f"{each.false_successes} of {each.false_successes + each.true_failures}"


def count(share: Share) -> str:
    return f"{share.successes} of {share.episodes}"


def gained(each: Row) -> str:
    gain = each.gain
    return NOTHING if gain is None else f"{gain.mean:+.2f} dB ({gain.low:+.2f} to {gain.high:+.2f})"


def in_words(found: Comparison, run: Path) -> str:
    """The comparison for a terminal."""
    lines = [f"{'world':24} steps  frames/s  GFLOP  moving PSNR  response  agree  blends  verdict"]
    for each in found.rows:
        truth = each.truth
        lines.append(
            f"{each.name:24} {each.steps:5d} {each.cost.frames_per_s:9,.0f} {each.cost.gflop:6.3f}"
            f" {number(last_psnr(each), 1, ' dB'):>12} {truth.response:9.3f} {truth.failure.agreement:6.1%}"
            f" {blends(each):>7}  {verdict(each)}"
        )
    lines += [f"{each.name} is not fit for refinement: {'; '.join(each.why)}" for each in found.rows if each.why]
    return "\n".join([*lines, str(run / PAGE)])
