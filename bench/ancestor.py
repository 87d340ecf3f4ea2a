"""The whole way from the public ancestor to what imagines here: python -m bench.ancestor ANCESTOR RUN [STUDENT].

ANCESTOR is a run whose world is the preset `small` without an anchor (DIAMOND's U-Net on 64x64 frames), trained for as
long as RUN's world and its STUDENT together, and judged by `w4rl evaluate world`, as both of the others are. Its loop
is the published one: float32, eager, three Euler steps. All cases run in one process, in turns, on one thread; their
frames a second stand beside how true each world is, and how far each is from the peak of the processor. The page goes
to bench/results/ancestor.html.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from w4rl_engines.artifact import read
from w4rl_fast.files import publish, read_json
from w4rl_fast.imagine.acting import Acting
from w4rl_fast.imagine.artifacts import artifacts
from w4rl_fast.imagine.baseline import STEPS, Baseline
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.imagine.rollout import Rollouts
from w4rl_fast.measure import Timing, environment_card, roofline, time_blocks, write_result
from w4rl_fast.report.page import Figure, Section, bars, environment, page, table
from w4rl_fast.speed.rollouts import engine_of, frame_gflop, gemm_of, is_fused

WORLDS, SLICE, SAMPLES = 64, 32, 3
SHORT = 2
"""Steps of the ancestor's loop in one sample: a whole episode would take minutes."""


@dataclass(frozen=True)
class Case:
    name: str
    run: Callable[[], object]
    frames: int
    gflop: float
    precision: str
    truth: str


def cases(ancestor: LoadedRun, mine: LoadedRun, student: LoadedRun | None) -> Iterator[Case]:
    """One change after the other."""
    horizon = mine.task.horizon
    old = Baseline(ancestor, WORLDS, SHORT)
    yield Case(
        "the ancestor's U-Net, 64x64, three steps, float32, its loop", old.rollout, WORLDS * SHORT,
        frame_gflop(ancestor, STEPS), "float32", "ancestor",
    )  # fmt: skip
    same = Baseline(mine, WORLDS, horizon)
    yield Case(
        "our world, 48x48, three steps, float32, that loop", same.rollout, WORLDS * horizon, frame_gflop(mine, STEPS),
        "float32", "world",
    )  # fmt: skip
    for steps, precision in ((3, "float32"), (3, "bfloat16"), (1, "bfloat16")):
        yield eager(mine, mine, steps, precision, "world")
    if student is not None:
        yield eager(student, mine, 1, "bfloat16", "student")
    for run, truth in [(mine, "world"), *([(student, "student")] if student else [])]:
        for folder in [*artifacts(run.path, "world"), *artifacts(run.path, "acting")]:
            if "-1-step-" in folder.name:
                yield exported(run, mine, folder, truth)


def eager(inside: LoadedRun, run: LoadedRun, steps: int, precision: str, truth: str) -> Case:
    worlds = inside.imagination(
        num_worlds=WORLDS, slice_size=SLICE, sampling_steps=steps, engine="eager", precision=precision
    )
    who = inside.path.name if truth == "student" else "our world"
    name = f"{who}, {steps} step{'s' * (steps > 1)}, {precision}, our loop"
    return case(name, inside, run, Rollouts(worlds), steps, precision, truth)


def exported(inside: LoadedRun, run: LoadedRun, folder: Path, truth: str) -> Case:
    engine, precision = engine_of(inside, run, folder, SLICE, 1), read(folder).identity.precision
    plain = "eager" if is_fused(folder) else engine
    worlds = inside.imagination(num_worlds=WORLDS, slice_size=SLICE, sampling_steps=1, engine=plain)
    acting = Acting(run.policy, worlds, engine) if is_fused(folder) else None
    name = f"{inside.path.name if truth == 'student' else 'our world'}, 1 step, {read(folder).identity.backend}"
    inside_too = ", policy inside" if acting else ""
    rollouts = Rollouts(worlds, acting=acting)
    return case(f"{name} {precision}{inside_too}", inside, run, rollouts, 1, precision, truth)


def case(
    name: str, inside: LoadedRun, run: LoadedRun, rollouts: Rollouts, steps: int, precision: str, truth: str
) -> Case:
    horizon = run.task.horizon
    return Case(
        name, lambda: rollouts.rollout(run.policy, None, horizon, 0), WORLDS * horizon, frame_gflop(inside, steps),
        precision, truth,
    )  # fmt: skip


def truth_of(run: LoadedRun) -> dict[str, Any]:
    """What `w4rl evaluate world` found: moving pixels and the hand, open loop."""
    found = read_json(run.path / "world-fidelity.json")
    kept = ("psnr_moving", "psnr_moving_repeat", "proprio_error_m", "episodes")
    return {name: found[name] for name in kept if name in found}


def main(arguments: list[str]) -> int:
    torch.set_num_threads(1)
    ancestor, mine, *rest = [LoadedRun(Path(each)) for each in arguments]
    student = rest[0] if rest else None
    runs = {"ancestor": ancestor, "world": mine, **({"student": student} if student else {})}
    truths = {name: truth_of(run) for name, run in runs.items()}
    found = list(cases(ancestor, mine, student))
    for each in found:
        each.run()
    timings = list(time_blocks({str(n): c.run for n, c in enumerate(found)}, warmup=0, samples=SAMPLES).values())
    peak, rows = roofline(1), []
    speeds = [each.frames / timing.median_s for each, timing in zip(found, timings, strict=True)]
    for each, timing, speed in zip(found, timings, speeds, strict=True):
        limit = peak[gemm_of(each.precision)] / each.gflop
        rows.append(row_of(each, timing, speed, speed / speeds[0], limit))
        print(f"{each.name:72} {speed:9.1f} /s {speed / speeds[0]:8.1f}x  {speed / limit:4.0%} of its roofline")
    result = {"rows": rows, "truth": truths, "roofline": peak, "worlds": WORLDS, "threads": 1}
    draw(write_result("ancestor", result).with_suffix(".html"), rows, truths)
    return 0


def row_of(each: Case, timing: Timing, speed: float, ratio: float, limit: float) -> dict[str, Any]:
    return {
        "case": each.name, "frames_per_s": speed, "ratio": ratio, "gflop_per_frame": each.gflop,
        "roofline_frames_per_s": limit, "truth": each.truth, "timing": dataclasses.asdict(timing),
    }  # fmt: skip


def draw(path: Path, rows: list[dict[str, Any]], truths: dict[str, dict[str, Any]]) -> None:
    best = max(rows, key=lambda row: row["ratio"])
    text = (
        f"Frames a second of {WORLDS} imagined worlds with policy, world, classifier and buffers, one thread, in turns;"
        " each world beside its truth, open loop on held-out episodes."
    )
    speeds = bars("case", "frames/s", [(row["case"], row["frames_per_s"], True) for row in rows], ",.1f")
    cells = [
        [
            row["case"], f"{row['ratio']:.1f}x", f"{row['gflop_per_frame']:.3f}",
            f"{row['roofline_frames_per_s']:,.0f} /s", f"{row['frames_per_s'] / row['roofline_frames_per_s']:.0%}",
        ]
        for row in rows
    ]  # fmt: skip
    head = ("case", "times the ancestor", "GFLOP", "roofline", "of it")
    true = [[name, *moving(found), f"{100 * found['proprio_error_m'][-1]:.1f} cm"] for name, found in truths.items()]
    sections = [
        Section("How fast", "", speeds + table(head, cells)),
        Section("How true", "PSNR of moving pixels, and where the hand is at the end.",
                table(("world", "step 1", "step 10", "step 20", "hand, step 20"), true)),
        environment(environment_card(), "python -m bench.ancestor ANCESTOR RUN STUDENT"),
    ]  # fmt: skip
    figures = [Figure("From the ancestor", f"{best['ratio']:.0f}x", best["case"])]
    publish(path, page("The way from the ancestor", text, figures, sections).encode())


def moving(found: dict[str, Any]) -> list[str]:
    return [f"{found['psnr_moving'][step]:.1f} dB" for step in (0, 9, 19)]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
