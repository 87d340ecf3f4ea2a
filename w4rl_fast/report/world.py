"""RUN/world.html: can this imagined world be believed?"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from w4rl_fast.files import publish
from w4rl_fast.measure import environment_card
from w4rl_fast.report.chart import Series, line_chart
from w4rl_fast.report.figures import NOTHING, centimetres, decimal, number
from w4rl_fast.report.film import encode_film
from w4rl_fast.report.imagined import beside_real
from w4rl_fast.report.page import Figure, Section, environment, films, page, picture, row, table
from w4rl_fast.report.png import encode_png
from w4rl_fast.truth.fidelity import Fidelity
from w4rl_fast.truth.open_loop import Film, WorldVerdict
from w4rl_fast.truth.response import ActionResponse

PAGE, PICTURE, SUMMARY = "world.html", "world-imagined.png", "world-fidelity.json"


def write_world_report(
    run: Path,
    verdict: WorldVerdict,
    figures: Sequence[Figure],
    sections: Sequence[Section],
    summary: Mapping[str, object],
    command: str,
) -> dict[str, object]:
    """Write the page, one still picture and, last, the summary, which is returned with where these lie."""
    card = environment_card()
    whole = {**summary, "picture": str(run / PICTURE), "page": str(run / PAGE), "command": command, "environment": card}
    tasks = ", ".join(sorted({film.info.task.rsplit("/", 1)[-1] for film in verdict.films}))
    counts = ", ".join(f"{each.episodes} {source}" for source, each in verdict.by_source.items())
    text = (
        f"Open loop over {len(verdict.overall.psnr)} steps, on {verdict.overall.episodes} episodes that training never"
        f" saw ({counts})."
    )
    shown = page(f"Is it true? The imagined {tasks}", text, figures, [*sections, environment(card, command)])
    publish(run / PAGE, shown.encode())
    publish(run / PICTURE, encode_png(still(verdict.films)))
    publish(run / SUMMARY, json.dumps(whole, indent=1, allow_nan=False).encode())
    return whole


def headline_figures(fidelity: Fidelity, response: ActionResponse) -> list[Figure]:
    """What decides, each beside what it has to be read against."""
    last = len(fidelity.psnr)
    figures = [
        Figure(
            f"Moving pixels, step {step}",
            number(fidelity.psnr_moving[step - 1], 1, " dB"),
            f"repeating the last frame: {number(fidelity.psnr_moving_repeat[step - 1], 1, ' dB')}",
        )
        for step in sorted({1, last})
    ]
    figures += [
        Figure(
            f"Hand error, step {step}",
            centimetres(fidelity.proprio_error_m[step - 1], 1),
            f"median; standing still: {centimetres(fidelity.proprio_error_repeat_m[step - 1], 1)}",
        )
        for step in sorted({min(8, last), last})
    ]
    if response.response is not None:
        note = f"1 obeys as the simulator does, 0 ignores actions; {response.steps} steps"
        figures.append(Figure("Action response", number(response.response, 3), note))
    if share := response.pixels_follow:
        note = f"episodes, under all other actions; 95 % interval from {share.low:.0%} to {share.high:.0%}"
        figures.append(Figure("Pixels follow the action", f"{share.successes} of {share.episodes}", note))
    return figures


def curves(verdict: WorldVerdict) -> Section:
    """Every measure by horizon, beside what needs no model."""
    overall = verdict.overall
    charts = [
        line_chart(
            [
                Series("imagined", getattr(overall, name), "c0"),
                Series("repeat last frame", getattr(overall, f"{name}_repeat"), "c1"),
                Series("extrapolate", getattr(overall, f"{name}_extrapolate"), "c2", dashed=True),
            ],
            title=title, unit=unit, digits=digits,
        )
        for name, title, unit, digits in (
            ("psnr_moving", "PSNR on moving pixels", "dB, higher is better", 1),
            ("psnr", "PSNR", "dB, higher is better", 1),
            ("ssim", "SSIM", "1 is equal", 3),
        )
    ]  # fmt: skip
    errors = [None if value is None else 100 * value for value in overall.proprio_error_m]
    hand = line_chart([Series("imagined, median", errors, "c0")], title="Error of the hand", unit="cm", digits=2)
    said = "Each episode is imagined from its first frames and its own actions alone; nothing real is shown afterwards."
    return Section("By horizon", said, row(*charts, hand) + by_step(overall) + feature_table(verdict.features))


def by_step(fidelity: Fidelity) -> str:
    head = ["step", "moving PSNR", "repeat", "extrapolate", "PSNR", "SSIM", "hand error"]
    rows = []
    for step in shown_steps(len(fidelity.psnr)):
        at = step - 1
        decibels = (fidelity.psnr_moving, fidelity.psnr_moving_repeat, fidelity.psnr_moving_extrapolate, fidelity.psnr)
        cells = [number(values[at], 1, " dB") for values in decibels]
        error = centimetres(fidelity.proprio_error_m[at])
        rows.append([str(step), *cells, number(fidelity.ssim[at], 3), error])
    return table(head, rows)


def feature_table(features: dict[str, object]) -> str:
    """FID, FVD and LPIPS, where feature networks were given."""
    rows = []
    for name, value in features.items():
        if isinstance(value, list):
            steps = shown_steps(len(value))
            rows.append([name.upper(), ", ".join(f"{value[step - 1]:.3f} at step {step}" for step in steps)])
        elif isinstance(value, float):
            rests = f"{features[f'{name}_samples']} samples of {features[f'{name}_dimensions']} features"
            rows.append([name.upper(), f"{value:.2f} ({rests})"])
    return table(["feature networks as given", ""], rows) if rows else ""


def by_source(verdict: WorldVerdict) -> Section:
    """The same figures for each kind of episode, and films of them."""
    last = len(verdict.overall.psnr)
    head = [
        "episodes of",
        "n",
        "moving PSNR, step 1",
        f"step {last}",
        f"repeat, step {last}",
        f"hand error, step {last}",
    ]
    rows = [
        [
            source, str(each.episodes), number(each.psnr_moving[0], 1, " dB"), number(each.psnr_moving[-1], 1, " dB"),
            number(each.psnr_moving_repeat[-1], 1, " dB"), centimetres(each.proprio_error_m[-1]),
        ]
        for source, each in verdict.by_source.items()
    ]  # fmt: skip
    said = "Real, imagined, and three times the difference on grey. The first episode of each source and outcome."
    return Section("By source", said, table(head, rows) + films(show(film) for film in verdict.films))


def show(film: Film) -> str:
    outcome = "success" if film.info.succeeded else "failure"
    end = f"at step {len(film.real) - 1}: {number(film.fidelity.psnr_moving[-1], 1, ' dB')} on moving pixels"
    note = f"seed {film.info.seed}; {end}, hand off by {centimetres(film.fidelity.proprio_error_m[-1])}"
    return picture(encode_film(film), f"{film.info.source}, {outcome}", note, width=440)


def shown_steps(count: int) -> list[int]:
    return sorted({step for step in (1, 5, 10, count) if step <= count})


def still(shown: Sequence[Film]) -> NDArray[np.uint8]:
    """Each film as a row of real and a row of imagined frames."""
    real, imagined = (torch.stack(frames) for frames in zip(*((f.real[1:], f.imagined) for f in shown), strict=True))
    return beside_real(real, imagined, [step for step in (0, 3, 7, 11, 17) if step < imagined.shape[1]])


def in_words(verdict: WorldVerdict, response: ActionResponse, run: Path) -> str:
    """The verdict for a terminal."""
    fidelity = verdict.overall
    lines = [f"{fidelity.episodes} held-out episodes, open loop", "step   PSNR  moving  repeat   SSIM  hand error"]
    for step in shown_steps(len(fidelity.psnr)):
        at = step - 1
        decibels = (fidelity.psnr[at], fidelity.psnr_moving[at], fidelity.psnr_moving_repeat[at])
        cells = "  ".join(f"{number(value, 1):>6}" for value in decibels)
        error = centimetres(fidelity.proprio_error_m[at])
        lines.append(f"{step:4d} {cells}  {number(fidelity.ssim[at], 3):>5}  {error:>10}")
    axes = " ".join(map(decimal, response.correlation))
    lines.append(f"hand over {response.steps} steps, imagined against real: correlation {axes}")
    if response.simulator != "used":
        lines.append(f"other actions were not simulated: {response.simulator}")
    else:
        lines.append(
            f"response to other actions {number(response.response, 3)} (1 obeys, 0 ignores them);"
            f" pixels follow the action: {response.pixels_follow or NOTHING}"
        )
    return "\n".join([*lines, str(run / PAGE)])
