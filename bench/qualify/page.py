"""The page of a qualification: what ran, how fast and how true, and what did not."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bench.qualify import page_ops, page_rollouts
from bench.qualify.page_rollouts import alike, name_of
from bench.qualify.targets import Target, section, targets_of
from bench.qualify.words import NOT_MEASURED, Row, answer, entries, words
from w4rl_fast.report.page import Figure, Section, environment, page, table

PEAKS = {
    "copy_gb_per_s": "copy, read and write, GB/s", "gemm_fp32_tflops": "product in float32, TFLOP/s",
    "gemm_tf32_tflops": "product in tf32, TFLOP/s", "gemm_bf16_tflops": "product in bfloat16, TFLOP/s",
}  # fmt: skip
SPEEDS = {
    "frames_per_s", "ratio_to_baseline", "share_of_peak", "ratio", "ratio_both", "share_of_copy", "median_ms",
    "build_s", "load_s", "copy_gb_per_s", "gemm_fp32_tflops", "gemm_tf32_tflops", "gemm_bf16_tflops", "share_of_gemm",
    "share_of_roof", "predicted_ms", "ms_a_step", "alone_ms", "alone_share_of_peak", "overhead",
}  # fmt: skip
STYLE = """<style>
.targets td { vertical-align: top; } .targets td:first-child { white-space: normal; min-width: 12rem; }
.targets th:last-child, .targets td:last-child { text-align: left; white-space: normal; min-width: 16rem; }
dl { grid-template-columns: fit-content(45%) 1fr; } dt { overflow-wrap: anywhere; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; } }
</style>"""


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
    targets = targets_of(result)
    sections = [
        section(targets),
        page_ops.section(result.get("ops") or {}),
        page_rollouts.section(result.get("rollouts") or []),
        page_rollouts.trace(result.get("trace") or {}),
        engines(result.get("engines") or []),
        kernels(result.get("kernels") or {}),
        denoising(result.get("denoising") or []),
        peaks(result.get("peaks") or {}),
        missing(result),
        environment(card or {}, f"python -m bench.gpu{'' if speeds else ' --dry'}"),
    ]
    sections[0] = sections[0]._replace(body=STYLE + sections[0].body)
    return page(f"{device_of(card)}: what runs, and how fast?", text, headline(result, targets), sections)


def unmeasured(value: Any) -> Any:
    """The same without speeds."""
    if isinstance(value, Mapping):
        return {name: None if name in SPEEDS else unmeasured(each) for name, each in value.items()}
    return [unmeasured(each) for each in value] if isinstance(value, list) else value


def device_of(card: Row | None) -> str:
    gpus = (card or {}).get("gpus") or ["A machine without a GPU"]
    return str(gpus[0])


def headline(result: Row, targets: Sequence[Target]) -> list[Figure]:
    best = max(alike(result.get("rollouts") or []), key=lambda each: each["ratio_to_baseline"], default=None)
    measured = [each for each in targets if each.met is not None]
    met = f"{sum(bool(each.met) for each in measured)} of {len(measured)}" if measured else NOT_MEASURED
    suite = result.get("suite")
    ran = [each for each in result.get("engines") or [] if "unavailable" not in each]
    tests = f"{suite.get('passed', 0)} passed" if suite else NOT_MEASURED
    failed = f"{suite.get('failed', 0)} failed, {suite.get('skipped', 0)} skipped" if suite else "see below"
    return [
        Figure("Failures", f"{len(result['failed'])}", f"in {result['elapsed_s']:.0f} s; they are listed below"),
        Figure("Targets met", met, f"there are {len(targets)}; those that were measured count"),
        Figure("Classes of shapes that our kernels win", wins(result.get("ops") or {}), "of those of the presets"),
        Figure("Tests of the kernels", tests, failed),
        Figure("Engines that ran", f"{len(ran)}", "by backend and precision"),
        Figure(
            "Best ratio to the baseline",
            words(best and best["ratio_to_baseline"], "{:.1f}x"),
            f"{name_of(best)}, {best['worlds']} worlds" if best else "frames/s of a whole loop",
        ),
    ]


def wins(found: Row) -> str:
    known = [each for each in found.get("rows", []) if each["ours"] == "gpu"]
    return f"{sum(each['ratio'] > 1 for each in known)} of {len(known)}" if known else NOT_MEASURED


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
