"""The targets of the kernels and of the engine: each with the figure that a qualification measured, or with none.

A target that stands for several classes of shapes or cases counts the worst of those that were measured.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from bench.qualify.words import Row, words
from w4rl_fast.report.page import Section, table

AT_LEAST, AT_MOST = "at least", "at most"


class Target(NamedTuple):
    """`value` and `met` are None where nothing was measured."""

    name: str
    bound: str
    limit: float
    form: str
    value: float | None
    note: str

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.limit if self.bound == AT_LEAST else self.value <= self.limit


def targets_of(result: Row) -> list[Target]:
    """All of them, in the order in which they were set."""
    rows = [] if result["dry"] else list((result.get("ops") or {}).get("rows", []))
    cases = [] if result["dry"] else list(result.get("rollouts") or [])
    return [*of_kernels(rows), *of_rollouts(cases), of_waits({} if result["dry"] else result.get("trace") or {})]


def of_kernels(rows: Sequence[Row]) -> Iterator[Target]:
    """At the shapes of the presets, as worlds imagine: without gradients, where there is a choice in bfloat16."""
    mine = [each for each in rows if not each["gradient"] and each["ours"] == "gpu"]
    for op in ("norm_act", "edm_step"):
        found = [each for each in mine if each["op"] == op and (op == "edm_step" or each["dtype"] == "bfloat16")]
        whole = sum(each["share_of_copy"] * each["median_ms"] for each in found)
        together = whole / sum(each["median_ms"] for each in found) if found else None
        value, note = worst(found, "share_of_copy", min, lambda each: each["key"])
        if found:
            note = f"{note}; all of them together {words(together, '{:.0%}')}"
        yield Target(f"{op}: share of the measured copy", AT_LEAST, 0.8, "{:.0%}", value, note)
    found = [each for each in mine if each["op"] == "attention" and each["dtype"] == "bfloat16"]
    value, note = worst(found, "ratio", min, lambda each: f"{each['key']}, to {each['fastest']}")
    yield Target("attention: to the fastest of torch's own", AT_LEAST, 1.3, "{:.2f}x", value, note)


def of_rollouts(rows: Sequence[Row]) -> Iterator[Target]:
    narrow = [each for each in rows if each["precision"] == "bfloat16"]
    named = [
        each for each in narrow if (each["backbone"], each["worlds"], each["steps"]) == ("small", 1024, 1)
        and each["ratio_to_baseline"] is not None
    ]  # fmt: skip
    best = max(named, key=lambda each: each["ratio_to_baseline"], default=None)
    yield Target(
        "small, 1,024 worlds, one step, bfloat16: to the baseline's loop", AT_LEAST, 30, "{:.1f}x",
        best and best["ratio_to_baseline"], best["way"] if best else "",
    )  # fmt: skip
    alone = [each for each in narrow if each["backbone"] == "paper" and finite(each["alone_share_of_peak"])]
    best = max(alone, key=lambda each: each["alone_share_of_peak"], default=None)
    yield Target(
        "paper, bfloat16: share of the measured product, world step alone", AT_LEAST, 0.6, "{:.0%}",
        best and best["alone_share_of_peak"], f"{best['worlds']} worlds, {best['way']}" if best else "",
    )  # fmt: skip
    whole = [each for each in rows if each["graph"] == "rollout" and each["kernels"] == "on"]
    value, note = worst(
        whole, "overhead", max, lambda each: f"{each['backbone']} {each['steps']}, {each['worlds']} worlds"
    )
    yield Target("rollout as a graph, our kernels: overhead of the engine", AT_MOST, 0.03, "{:.1%}", value, note)


def of_waits(found: Row) -> Target:
    """Waits of the host in the steps of a rollout, by the profiler and by torch."""
    seen = [each for each in found.values() if each and each["waits"] is not None]
    count = sum(sum(each["waits"].values()) + sum(each["reads"].values()) + bool(each["raised"]) for each in seen)
    return Target(
        "waits of the host in the steps of a rollout", AT_MOST, 0, "{:.0f}", float(count) if seen else None,
        "; ".join(each["case"] for each in seen),
    )  # fmt: skip


def worst(
    rows: Sequence[Row], name: str, of: Callable[..., Row], said: Callable[[Row], str]
) -> tuple[float | None, str]:
    """The worst figure of all rows that have one, and which row that is."""
    known = [each for each in rows if finite(each[name])]
    if not known:
        return None, ""
    found = of(known, key=lambda each: each[name])
    return found[name], f"worst of {len(known)}: {said(found)}"


def finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def section(targets: Sequence[Target]) -> Section:
    text = "A target that stands for several classes of shapes or cases counts the worst of them."
    body = [
        [
            each.name, f"{each.bound} {each.form.format(each.limit)}", words(each.value, each.form),
            {None: "", True: "met", False: "missed"}[each.met], each.note,
        ]
        for each in targets
    ]  # fmt: skip
    return Section(
        "Targets", text, f"<div class='targets'>{table(('target', 'wanted', 'measured', '', 'by'), body)}</div>"
    )
