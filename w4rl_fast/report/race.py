"""RACE/race.html: ways to refine, by imagined frames and by seconds, judged in the real simulator."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from w4rl_fast.files import publish
from w4rl_fast.measure import environment_card
from w4rl_fast.refine.race import Curve, RaceConfig
from w4rl_fast.refine.standings import Standing, apart, frames_needed, of_method, standings
from w4rl_fast.report.chart import Series, line_chart
from w4rl_fast.report.page import Figure, Section, environment, page, row, table
from w4rl_fast.truth.spread import interquartile_mean, spread

PAGE = "race.html"
COLOURS = {"fog": "c0", "ppo": "c2", "surrogate-only": "c1", "coupled": "c3", "straight-through": "c4"}
PARTS_OF_FOG = {"no-refresh": "c0", "no-rehearsal": "c3", "rehearsal-only": "c1"}
"""Dashed: FoG without one of its parts."""
WHAT = {"scores": "score at the end", "returns": "return", "succeeded": "share of successes"}
TICKS = 12


def write_race_report(folder: Path, run: str, curves: Sequence[Curve], config: RaceConfig, command: str) -> Path:
    """Write the page, and say where it lies."""
    forward = "the simulator itself" if config.forward == "simulator" else f"the world of {run}"
    text = (
        f"Policies of {run}, {'from nothing' if config.start == 'scratch' else 'from the clone'}, refined by"
        f" {config.frames:,} frames of {forward}. Lines are interquartile means of {config.seeds} seeds, bands their"
        f" 95 % bootstrap intervals; each point is {config.episodes} real episodes"
        f" {'on seeds to tune on' if config.tuning else 'on seeds that nothing was tuned on'}."
    )
    sections = [section_of(curves, what, name) for what, name in WHAT.items()]
    sections.append(environment(environment_card(), command))
    publish(folder / PAGE, page("Ways to refine", text, figures(curves), sections).encode())
    return folder / PAGE


def figures(curves: Sequence[Curve]) -> list[Figure]:
    methods = list(dict.fromkeys(curve.method for curve in curves))
    found = []
    if {"ppo", "fog"} <= {*methods}:
        share = frames_needed(curves, "fog", "ppo", "scores")
        shown = "not reached" if share.value > 1 else f"{share.value:.0%}"
        note = f"of the frames that PPO had, for PPO's score; {share.low:.0%} to {share.high:.0%}"
        found.append(Figure("FoG needs", shown, note))
    for method in methods[1:]:
        gain = apart(curves, method, methods[0], "scores")
        found.append(
            Figure(f"{method} beyond {methods[0]}", f"{gain.value:+.3f}", f"score; {gain.low:+.3f} to {gain.high:+.3f}")
        )
    return found


def section_of(curves: Sequence[Curve], what: str, name: str) -> Section:
    found = standings(curves, what)
    charts = row(by_frames(found, name), by_seconds(curves, what, name))
    head = ("method", "at the start", "in the end", "95 %", "area under the curve", "ms a frame", "seconds")
    rows = [
        (
            each.method, f"{each.values[0].value:.3f}", f"{each.values[-1].value:.3f}",
            f"{each.values[-1].low:.3f} to {each.values[-1].high:.3f}", str(each.area), f"{each.ms_per_frame:.2f}",
            f"{each.seconds[-1]:.0f}",
        )
        for each in found
    ]  # fmt: skip
    return Section(name.capitalize(), "In the real simulator, by the policy's mean action.", charts + table(head, rows))


def by_frames(found: Sequence[Standing], name: str) -> str:
    series = [
        drawn(each.method, [value.value for value in each.values], [(value.low, value.high) for value in each.values])
        for each in found
    ]
    marks = [f"{frames / 1000:.0f}k" for frames in found[0].frames]
    return line_chart(series, title=name.capitalize(), unit="", x_label="imagined frames", digits=2, marks=marks)


def by_seconds(curves: Sequence[Curve], what: str, name: str) -> str:
    """Every seed's curve is read off at the same seconds, up to where the slowest method ended."""
    methods = list(dict.fromkeys(curve.method for curve in curves))
    last = max(curve.seconds[-1] for curve in curves)
    grid, series = np.linspace(0, last, TICKS), []
    for method in methods:
        rows = of_method(curves, method)
        table_ = np.array([np.interp(grid, each.seconds, getattr(each, what), right=np.nan) for each in rows])
        there = ~np.isnan(table_).any(0)
        values = [float(interquartile_mean(column)) if ok else None for column, ok in zip(table_.T, there, strict=True)]
        spreads = [spread(column.tolist()) if ok else None for column, ok in zip(table_.T, there, strict=True)]
        between = [None if each is None else (each.low, each.high) for each in spreads]
        series.append(drawn(method, values, between))
    marks = [f"{second:.0f}" for second in grid]
    return line_chart(series, title=name.capitalize(), unit="", x_label="seconds", digits=2, marks=marks)


def drawn(method: str, values: list[float] | list[float | None], intervals: list[tuple[float, float] | None]) -> Series:
    """The line of a method."""
    part = method in PARTS_OF_FOG
    return Series(method, values, PARTS_OF_FOG[method] if part else COLOURS[method], dashed=part, intervals=intervals)
