"""Rollouts on the page of a qualification: frames a second by what is launched and what computes; and their trace."""

from collections.abc import Mapping, Sequence

from bench.qualify.words import NOT_MEASURED, Row, more, words
from w4rl_fast.imagine.baseline import STEPS
from w4rl_fast.report.chart import Series, bar_chart
from w4rl_fast.report.page import Section, row, table

NARROW = "eager bfloat16"
GRAPH = f"{NARROW}, rollout as a graph"
WAYS = {
    f"{GRAPH}, our kernels": "graph, kernels", GRAPH: "graph", f"{NARROW}, our kernels": "bf16, kernels",
    NARROW: "bf16", "eager float32": "fp32", f"{NARROW}, step as a graph": "step graph",
    f"{GRAPH}, measured kernels": "graph, measured",
}  # fmt: skip
COLOURS = {NARROW: "c1", f"{NARROW}, our kernels": "c2", GRAPH: "c3", f"{GRAPH}, our kernels": "c0"}
ALL = (
    "case", "worlds", "frames/s", "ratio", "grey p99", "ms a step", "world steps alone, ms", "overhead", "GFLOP",
    "of peak", "MB", "steps",
)  # fmt: skip
Found = Mapping[tuple[str, int, int], Mapping[str, Row]]


def section(rows: Sequence[Row]) -> Section:
    text = (
        "Imagined frames a second with policy, world step, classifier and buffers: the baseline's, and ours as ratios"
        " to it. Grey levels (of 255) are those of a case's own first step against eager float32. The overhead of a"
        " rollout that is one CUDA graph, here with our kernels, is what its world steps alone do not take. Among all"
        " cases is the baseline in tf32, which is what torch does to convolutions when nobody forbids it."
    )
    head = ("world and steps", "worlds", "baseline, /s", "overhead", *WAYS.values(), "fastest, /s", "its grey p99")
    groups: dict[tuple[str, int, int], dict[str, Row]] = {}
    for each in rows:
        groups.setdefault((each["backbone"], each["steps"], each["worlds"]), {})[each["way"]] = each
    body = [beside(groups, *group) for group in groups]
    whole = more("Every case with all its figures", table(ALL, map(cells, rows)))
    return Section("Rollouts", text, charts(rows) + table(head, body) + whole)


def beside(groups: Found, backbone: str, steps: int, worlds: int) -> list[str]:
    """The baseline, what the engine costs with our kernels, every way to imagine, and how true the fastest is."""
    mine = groups[backbone, steps, worlds]
    base = groups.get((backbone, STEPS, worlds), {}).get("baseline float32", {})
    known = [each for each in mine.values() if each["engine"] != "baseline" and each["frames_per_s"] is not None]
    best: Row = max(known, key=lambda each: each["frames_per_s"], default={})
    return [
        f"{backbone} {steps}", str(worlds), words(base.get("frames_per_s"), "{:,.0f}"),
        words(mine.get(f"{GRAPH}, our kernels", {}).get("overhead"), "{:.1%}"),
        *(words(mine.get(way, {}).get("ratio_to_baseline"), "{:.2f}x") for way in WAYS),
        words(best.get("frames_per_s"), "{:,.0f}"), words(best.get("parity_p99"), "{:.2f}"),
    ]  # fmt: skip


def cells(each: Row) -> list[str]:
    return [
        name_of(each), str(each["worlds"]), words(each["frames_per_s"], "{:,.0f}"),
        words(each["ratio_to_baseline"], "{:.2f}x"), words(each["parity_p99"], "{:.2f}"),
        words(each["ms_a_step"], "{:.2f}"), words(each["alone_ms"], "{:.2f}"), words(each["overhead"], "{:.1%}"),
        f"{each['gflop_per_frame']:.2f}", words(each["share_of_peak"], "{:.1%}"),
        words(each["peak_memory_mb"], "{:,.0f}"), f"{each['horizon']} x {each['samples']}",
    ]  # fmt: skip


def charts(rows: Sequence[Row]) -> str:
    """Ratios to the baseline by number of worlds, a chart for each backbone, at as many denoising steps."""
    drawn = alike(rows)
    return row(*(chart(name, drawn) for name in dict.fromkeys(each["backbone"] for each in drawn)))


def alike(rows: Sequence[Row]) -> list[Row]:
    """What draws a frame in as many steps as the baseline."""
    return [each for each in rows if each["ratio_to_baseline"] and each["steps"] == STEPS]


def chart(backbone: str, rows: Sequence[Row]) -> str:
    mine = [each for each in rows if each["backbone"] == backbone]
    worlds = sorted({each["worlds"] for each in mine})
    found = {(each["way"], each["worlds"]): each["ratio_to_baseline"] for each in mine}
    series = [
        Series(WAYS[name], [found.get((name, count)) for count in worlds], colour) for name, colour in COLOURS.items()
    ]
    return bar_chart([f"{count} worlds" for count in worlds], series, title=backbone, unit="times the baseline")


def name_of(each: Row) -> str:
    return f"{each['backbone']} {each['steps']}, {each['way']}"


def trace(found: Row) -> Section:
    """Waits of the host, and what keeps the device busy."""
    text = (
        "The steps of one eager rollout under the profiler, which makes it slower, and in a mode in which torch raises"
        " at the first wait of the host. There shall be none."
    )
    head = ("rollout", "steps", "waits", "reads", "raised", "busy", "of, ms", "launches", "waits before")
    known = {name: each for name, each in found.items() if each}
    body = [
        [
            each["case"], str(each["horizon"]), counts(each["waits"]), counts(each["reads"]),
            NOT_MEASURED if each["waits"] is None else each["raised"] or "no", words(each["busy"], "{:.0%}"),
            words(each["wall_ms"], "{:.1f}"), words(each["launches"], "{:,}"), counts(each["waits_before"]),
        ]
        for each in known.values()
    ]  # fmt: skip
    return Section("Trace", text, table(head, body) + "".join(map(kernels, known.values())))


def kernels(each: Row) -> str:
    """What took the time of the device."""
    if not each["kernels"]:
        return ""
    body = [[one["name"][:120], f"{one['calls']:,}", words(one["ms"], "{:.2f}"), words(one["share"], "{:.1%}")]
            for one in each["kernels"]]  # fmt: skip
    return more(f"Kernels of {each['case']}", table(("kernel", "calls", "ms", "share"), body))


def counts(found: Mapping[str, int] | None) -> str:
    if found is None:
        return NOT_MEASURED
    return ", ".join(f"{name} {count}" for name, count in found.items()) or "none"
