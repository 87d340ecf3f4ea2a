"""The page of a qualification: what ran, how fast and how true, and what did not."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from w4rl_fast.imagine.baseline import STEPS
from w4rl_fast.report.chart import Series, bar_chart
from w4rl_fast.report.page import Figure, Section, environment, page, row, table

NOT_MEASURED = "not measured"
FAST = "eager bfloat16, graph"
WAYS = {"eager float32": "eager fp32", "eager bfloat16": "eager bf16", FAST: "bf16 graph"}
COLOURS = {"eager float32": "c1", "eager bfloat16": "c2", FAST: "c0"}
ALL = ("case", "worlds", "frames/s", "ratio", "grey p99", "GFLOP", "of peak", "MB", "steps")
PEAKS = {
    "copy_gb_per_s": "copy, read and write, GB/s", "gemm_fp32_tflops": "product in float32, TFLOP/s",
    "gemm_tf32_tflops": "product in tf32, TFLOP/s", "gemm_bf16_tflops": "product in bfloat16, TFLOP/s",
}  # fmt: skip
SPEEDS = {
    "frames_per_s", "ratio_to_baseline", "share_of_peak", "ratio", "ratio_both", "share_of_copy", "median_ms",
    "build_s", "load_s", "copy_gb_per_s", "gemm_fp32_tflops", "gemm_tf32_tflops", "gemm_bf16_tflops",
}  # fmt: skip
Row = Mapping[str, Any]


def page_of(result: Row, card: Row | None) -> str:
    """Where nothing was measured, it says so: a dry run has no speeds at all."""
    speeds = not result["dry"]
    result = result if speeds else unmeasured(result)
    text = (
        "Every speed stands beside the parity of what was timed, on random weights and pictures. The baseline is the"
        " published loop: float32 (no tf32), eager, three denoising steps, a look from the host at every step."
        if speeds
        else "A dry run on a CPU with everything tiny: it shows that the command would run, and no speed."
    )
    sections = [
        rollouts(result.get("rollouts") or []),
        engines(result.get("engines") or []),
        kernels(result.get("kernels") or {}),
        denoising(result.get("denoising") or []),
        peaks(result.get("peaks") or {}),
        missing(result),
        environment(card or {}, f"python -m bench.gpu{'' if speeds else ' --dry'}"),
    ]
    return page(f"{device_of(card)}: what runs, and how fast?", text, headline(result), sections)


def unmeasured(value: Any) -> Any:
    """The same without speeds."""
    if isinstance(value, Mapping):
        return {name: None if name in SPEEDS else unmeasured(each) for name, each in value.items()}
    return [unmeasured(each) for each in value] if isinstance(value, list) else value


def device_of(card: Row | None) -> str:
    gpus = (card or {}).get("gpus") or ["A machine without a GPU"]
    return str(gpus[0])


def headline(result: Row) -> list[Figure]:
    best = max(alike(result.get("rollouts") or []), key=lambda each: each["ratio_to_baseline"], default=None)
    suite = result.get("suite")
    ran = [each for each in result.get("engines") or [] if "unavailable" not in each]
    tests = f"{suite.get('passed', 0)} passed" if suite else NOT_MEASURED
    failed = f"{suite.get('failed', 0)} failed, {suite.get('skipped', 0)} skipped" if suite else "see below"
    return [
        Figure("Failures", f"{len(result['failed'])}", f"in {result['elapsed_s']:.0f} s; they are listed below"),
        Figure("Tests of the kernels", tests, failed),
        Figure("Engines that ran", f"{len(ran)}", "by backend and precision"),
        Figure(
            "Best ratio to the baseline",
            words(best and best["ratio_to_baseline"], "{:.1f}x"),
            f"{name_of(best)}, {best['worlds']} worlds" if best else "frames/s of a whole loop",
        ),
    ]


def rollouts(rows: Sequence[Row]) -> Section:
    text = (
        "Imagined frames a second with policy, world step, classifier and buffers: the baseline's, and ours as ratios"
        " to it. Grey levels (of 255) are those of a case's own first step against eager float32. Among all cases is"
        " the baseline in tf32, which is what torch does to convolutions when nobody forbids it."
    )
    head = ("world and steps", "worlds", "baseline, /s", *WAYS.values(), "the last, /s", "its grey p99")
    found = {(each["backbone"], each["steps"], each["worlds"], way_of(each)): each for each in rows}
    body = [beside(found, *case) for case in dict.fromkeys(case[:3] for case in found)]
    whole = f"<details><summary>Every case with all its figures</summary>{table(ALL, map(cells, rows))}</details>"
    return Section("Rollouts", text, charts(rows) + table(head, body) + whole)


def beside(found: Mapping[tuple[str, int, int, str], Row], backbone: str, steps: int, worlds: int) -> list[str]:
    """Every way to imagine beside the baseline, and how true the fastest is."""

    def figure(way: str, name: str, form: str, steps: int = steps) -> str:
        return words(found.get((backbone, steps, worlds, way), {}).get(name), form)

    return [
        f"{backbone} {steps}", str(worlds), figure("baseline float32", "frames_per_s", "{:,.0f}", STEPS),
        *(figure(way, "ratio_to_baseline", "{:.2f}x") for way in WAYS), figure(FAST, "frames_per_s", "{:,.0f}"),
        figure(FAST, "parity_p99", "{:.2f}"),
    ]  # fmt: skip


def cells(each: Row) -> list[str]:
    return [
        name_of(each), str(each["worlds"]), words(each["frames_per_s"], "{:,.0f}"),
        words(each["ratio_to_baseline"], "{:.2f}x"), words(each["parity_p99"], "{:.2f}"),
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
    found = {(way_of(each), each["worlds"]): each["ratio_to_baseline"] for each in mine}
    series = [
        Series(WAYS[name], [found.get((name, count)) for count in worlds], colour) for name, colour in COLOURS.items()
    ]
    return bar_chart([f"{count} worlds" for count in worlds], series, title=backbone, unit="times the baseline")


def engines(rows: Sequence[Row]) -> Section:
    head = (
        "engine", "a call", "as a graph", "graph is equal", "grey levels, p99", "passes", "build", "load",
    )  # fmt: skip
    ran = [each for each in rows if "unavailable" not in each]
    body = [
        [
            f"{each['backend']} {each['precision']}", words(each["timing"]["median_ms"], "{:.2f} ms"),
            words((each["graph"] or {}).get("timing", {}).get("median_ms"), "{:.2f} ms"),
            answer((each["graph"] or {}).get("equal")), words(each["parity_p99"], "{:.2f}"), answer(each["passed"]),
            words(each["build_s"], "{:.1f} s"), words(each["load_s"], "{:.1f} s"),
        ]
        for each in ran
    ]  # fmt: skip
    lacks = {each["backend"]: each["unavailable"] for each in rows if "unavailable" in each}
    text = "The step of the tiny world in three denoising steps, classifier included, for 64 worlds at once."
    return Section("Engines", text, table(head, body) + entries(lacks))


def kernels(found: Row) -> Section:
    head = ("op", "largest error", "times the plain form", "of the copy bandwidth", "median")
    body = []
    for name, each in found.items():
        if each:
            first = next(value for key, value in each["timings"].items() if not key.startswith("dense"))
            body.append(
                [
                    name, f"{each['error']:.1e}", words(each["ratio"], "{:.2f}x"),
                    words(each["share_of_copy"], "{:.0%}"),
                    words(first["median_ms"], "{:.3f} ms"),
                ]
            )  # fmt: skip
    text = (
        "Errors are relative to the definition, ragged shapes and gradients included; noise is equal bit for bit. The"
        " plain form is a product with the dense code, torch.randn, and indexing with arithmetic."
    )
    return Section("Kernels", text, table(head, body))


def denoising(rows: Sequence[Row]) -> Section:
    ways = list(dict.fromkeys(name for each in rows for name in each["timings"]))
    head = ("backbone", "batch", "grey levels", *(f"{name}, ms" for name in ways))
    body = [
        [
            f"{each['backbone']} {each['precision']}", str(each["batch"]),
            words(max(value for name, value in each["grey_level_error"].items() if "sample" not in name), "{:.2f}"),
            *(words(each["timings"].get(name, {}).get("median_ms"), "{:.2f}") for name in ways),
        ]
        for each in rows
    ]  # fmt: skip
    text = "One denoising step, and all steps of a sample, of the network alone; the largest error is to eager float32."
    return Section("Denoising", text, table(head, body))


def peaks(found: Row) -> Section:
    body = [[PEAKS[name], words(value, "{:,.1f}")] for name, value in found.items()]
    return Section("Peaks", "What the device reaches, by torch itself.", table(("what", "peak"), body))


def missing(result: Row) -> Section:
    """What was left out and why, and what failed."""
    failed = "".join(f"<h3>{escape(name)}</h3><pre>{escape(said)}</pre>" for name, said in result["failed"].items())
    stood = ", ".join(result["stood_in_for"]) or "none"
    return Section(
        "What is not here", f"Packages that are absent and were stood in for: {stood}.",
        entries(result["left_out"]) + (failed or "<p>Nothing failed.</p>"),
    )  # fmt: skip


def entries(named: Mapping[str, str]) -> str:
    inner = "".join(f"<dt>{escape(name)}</dt><dd>{escape(why)}</dd>" for name, why in named.items())
    return f"<dl>{inner}</dl>" if inner else ""


def name_of(each: Row) -> str:
    return f"{each['backbone']} {each['steps']}, {way_of(each)}"


def way_of(each: Row) -> str:
    return f"{each['engine']} {each['precision']}{', graph' if each['captured'] else ''}"


def words(value: Any, form: str) -> str:
    """A figure in words; text stands for a number that JSON has no word for."""
    if value is None:
        return NOT_MEASURED
    return form.format(value) if isinstance(value, int | float) else str(value)


def answer(value: bool | None) -> str:
    return NOT_MEASURED if value is None else ("yes" if value else "no")
