"""The kernels of the world step on the page of a qualification: their times, and where they do not win."""

import re
from collections.abc import Sequence

from bench.qualify.ops import LEARNED
from bench.qualify.words import NOT_MEASURED, Row, more, words
from w4rl_fast.report.page import Section, table

HEAD = ("ours", "torch", "compiled", "ratio", "predicted", "copy", "GEMM", "error")


def section(found: Row) -> Section:
    rows = found.get("rows") or []
    text = (
        "Milliseconds of one call on the device at the shapes of the presets, up to 1,024 pictures at once, out of CUDA"
        " graphs. The ratio is to the fastest of torch's own operators, torch.compile's and torch's forms of attention."
        " Predicted are the bytes of the traffic model over the measured copy, or its operations over the measured"
        " product (GEMM), whichever takes longer; behind it the share of each that was reached. Errors are to the"
        " definition in float64. A group norm is named by positions x channels in groups, and by what its scales belong"
        " to."
    )
    imagines = [each for each in rows if each["op"] not in LEARNED or (not each["gradient"] and is_narrow(each))]
    rest = [each for each in rows if each not in imagines]
    body = "".join(by_op(op, imagines) for op in sorted({each["op"] for each in imagines}))
    if rest:
        body += more("With gradients, and in float32", "".join(by_op(op, rest) for op in LEARNED))
    body = body or f"<p>{NOT_MEASURED.capitalize()}.</p>"
    return Section(
        "Kernels of the world step", text, f"{body}<h3>Where a kernel of ours does not win</h3>{losing(rows)}"
    )


def by_op(op: str, rows: Sequence[Row]) -> str:
    return table((op, *HEAD), (cells(each) for each in rows if each["op"] == op))


def is_narrow(each: Row) -> bool:
    return bool(each["dtype"] == "bfloat16")


def cells(each: Row) -> list[str]:
    times = {name: found["median_ms"] for name, found in each["timings"].items()}
    theirs = times.get("torch", times.get("reference"))
    ratio = words(each["ratio"], "{:.2f}x")
    form = "" if ratio == NOT_MEASURED or each["fastest"] in ("torch", "compiled", "reference") else each["fastest"]
    return [
        brief(each), words(times.get("gpu"), "{:.3f}"), words(theirs, "{:.3f}"), words(times.get("compiled"), "{:.3f}"),
        f"{form} {ratio}".strip(), words(each["predicted_ms"], "{:.3f}"), words(each["share_of_copy"], "{:.0%}"),
        words(each["share_of_gemm"], "{:.0%}"), words(each["errors"].get(each["ours"]), "{:.1e}"),
    ]  # fmt: skip


def brief(each: Row) -> str:
    """The class of shapes in few words; bfloat16 goes without saying."""
    key = re.sub(
        r"group norm of (\d+) positions, (\d+) channels, groups (\d+)(, scaled)?", r"\1 x \2 in \3", each["key"]
    )
    key = key.replace(", bfloat16", "").replace("pictures of ", "").removesuffix(", with gradient")
    return f"{key}, with gradient" if each["gradient"] else key


def losing(rows: Sequence[Row]) -> str:
    """Classes of shapes that `auto` leaves to torch, by what they lose."""
    known = [each for each in rows if each["ours"] == "gpu" and each["ratio"] is not None]
    if not known:
        return f"<p>{NOT_MEASURED.capitalize()}.</p>"
    lost = sorted((each for each in known if not each["ratio"] > 1), key=lambda each: each["ratio"])
    if not lost:
        return f"<p>There is none among {len(known)}.</p>"
    body = [[f"{each['op']}: {brief(each)}", f"{each['ratio']:.2f}x", each["fastest"]] for each in lost]
    text = "Once this is stored, auto leaves these to torch; a norm that loses in training, where it imagines too."
    return f"<p>{text}</p>" + table(("class of shapes", "ratio", "to"), body)
