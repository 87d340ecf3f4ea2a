"""Failures that stay failures, and those that do not: confusion tables and pictures of the mistakes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from w4rl_fast.report.imagined import BACKGROUND, to_bytes
from w4rl_fast.report.page import Figure, Section, films, picture, table
from w4rl_fast.report.png import encode_png
from w4rl_fast.report.text import LINE_HEIGHT, draw_text
from w4rl_fast.truth.failure import Confusion, FailureFidelity, Mistake

SHOWN, COLUMNS, GAP = 8, 9, 3
HEAD = ("n", "agreement", "found", "missed", "failures kept", "false successes")
SAID, UNSAID = (120, 214, 150), (150, 157, 167)


def failure_figures(fidelity: FailureFidelity) -> list[Figure]:
    each = fidelity.imagined
    errs = f"{each.false_successes} false of {each.false_successes + each.true_failures} failures"
    return [Figure("Outcomes agree", f"{each.agreement:.1%}", f"{each.n} replays of the {fidelity.over}; {errs}")]


def failure_section(fidelity: FailureFidelity, mistakes: Sequence[Mistake]) -> Section:
    """The section of a page."""
    rule = fidelity.rule
    said = (
        "Real action sequences, replayed by the world from the first frame and never corrected. The classifier says"
        f" success after {rule.hits} frame(s) in a row at {rule.threshold:.4g} or above."
    )
    rows = [("imagined frames", fidelity.over, fidelity.imagined), ("real frames", fidelity.over, fidelity.real)]
    rows += [("imagined frames", source, each) for source, each in fidelity.by_source.items()]
    counts = table(
        ["classifier on", "episodes of", *HEAD], [[on, over, *confusion_cells(each)] for on, over, each in rows]
    )
    return Section("Do failures stay failures?", said, counts + mistake_pictures(mistakes))


def confusion_cells(each: Confusion) -> list[str]:
    counts = (each.true_successes, each.false_failures, each.true_failures, each.false_successes)
    return [str(each.n), f"{each.agreement:.1%}", *map(str, counts)]


def mistake_pictures(mistakes: Sequence[Mistake]) -> str:
    """False successes first: they are what a policy would learn to exploit."""
    chosen = sorted(mistakes, key=lambda mistake: not mistake.said)[:SHOWN]
    pictures = []
    for mistake in chosen:
        kind = "false success" if mistake.said else "false failure"
        title = f"{kind} on {mistake.seen} frames"
        note = f"{mistake.info.source}, seed {mistake.info.seed}; below each frame what the classifier said of it"
        pictures.append(picture(encode_png(strip(mistake)), title, note, width=880))
    rest = f"<p class='soft'>{len(mistakes) - len(chosen)} more are not shown.</p>" if len(mistakes) > SHOWN else ""
    return films(pictures) + rest


def strip(mistake: Mistake) -> NDArray[np.uint8]:
    """Real above imagined at some steps, with the probability below each frame."""
    steps = np.unique(np.linspace(0, len(mistake.real) - 1, COLUMNS).astype(int))
    rows = [
        band(mistake.real[steps], mistake.real_says[steps]),
        band(mistake.imagined[steps], mistake.imagined_says[steps]),
    ]
    return np.concatenate(rows)


def band(frames: Tensor, says: NDArray[np.float64], scale: int = 2) -> NDArray[np.uint8]:
    pixels = to_bytes(frames).repeat(scale, axis=1).repeat(scale, axis=2)
    count, height, width, _ = pixels.shape
    canvas = np.empty((height + LINE_HEIGHT + GAP, count * (width + GAP), 3), np.uint8)
    canvas[:] = BACKGROUND
    for column, (frame, said) in enumerate(zip(pixels, says, strict=True)):
        x = column * (width + GAP)
        canvas[:height, x : x + width] = frame
        draw_text(canvas, x + 2, height + 1, f"{said:.3f}", SAID if said >= 0.5 else UNSAID)
    return canvas
