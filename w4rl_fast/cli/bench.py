"""`w4rl bench`."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from w4rl_fast.cli.words import command_line, print_table

THREADS = click.option(
    "--threads", type=click.IntRange(1), help="Threads of torch and of the engines.  [default: physical cores]"
)
JSON = click.option("--json", "as_json", is_flag=True)
COMPARE = click.option(
    "--compare", "before", type=click.Path(path_type=Path), is_flag=False, flag_value="",
    help="Put this beside what an earlier call wrote on the same machine: a JSON file, or the last result.",
)  # fmt: skip
FOLDER = click.Path(path_type=Path)
RUN = click.argument("run", type=FOLDER)


ROLLOUT_KEY = ("world", "engine", "precision", "steps", "worlds", "slice_size", "artifact")
ENGINE_KEY = ("part", "engine", "precision", "batch", "artifact")
KERNEL_KEY = ("op", "implementation", "dtype", "shape")
"""What tells the cases of two results apart."""


@click.group()
def bench() -> None:
    """Measure on this machine, each figure beside the truth of what was timed."""


@bench.command()
@RUN
@click.option("--worlds", type=click.IntRange(1), default=64, show_default=True)
@click.option(
    "--steps", default="3,1", show_default=True, help="Denoising steps of the teacher; students have their own."
)
@click.option("--samples", type=click.IntRange(1), default=5, show_default=True, help="Rollouts of each case.")
@click.option("--slice", "slice_size", type=int, default=32, show_default=True, help="Worlds in one call of an engine.")
@click.option(
    "--engine", default="all", show_default=True,
    help="One by its name, `all`, or `auto`: find the fastest that is proven here, and let RUN imagine by it.",
)  # fmt: skip
@THREADS
@COMPARE
@JSON
@click.pass_context
def rollout(
    ctx: click.Context, run: Path, worlds: int, steps: str, samples: int, slice_size: int, engine: str,
    threads: int | None, before: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Imagined frames a second of RUN: the published loop, eager torch, and every engine that `w4rl export` built.

    Policy, world step, classifier and buffers, all in one process and in turns. Writes RUN/rollout.html and .json.
    """
    import torch

    from w4rl_fast.cli.export import known_engine, sizes
    from w4rl_fast.report.rollouts import SUMMARY, in_words, write_throughput_report
    from w4rl_fast.speed.rollouts import AUTO, ThroughputConfig, measure_rollouts, remember_fastest
    from w4rl_kernels.threads import physical_cores

    torch.set_num_threads(threads or physical_cores())
    then = earlier(before, run / SUMMARY, (*ROLLOUT_KEY, "frames_per_s"))
    config = ThroughputConfig(
        worlds=worlds, steps=sizes(steps, "--steps"), samples=samples, slice_size=slice_size,
        engine=known_engine(engine, ("all", "auto")),
    )  # fmt: skip
    rows, peak = measure_rollouts(run, config)
    choice = remember_fastest(run, rows) if engine == AUTO else None
    summary = write_throughput_report(run, rows, peak, config, command_line(ctx))
    if choice is not None:
        summary["remembered"] = choice.name
    say(summary, in_words(rows, run), as_json, then, ROLLOUT_KEY, "frames_per_s")
    if choice is not None:
        click.echo(f"{run} imagines by {choice.name} from now on, in slices of {slice_size}", err=as_json)


@bench.command()
@RUN
@click.option("--samples", type=click.IntRange(1), default=50, show_default=True, help="Calls of each engine.")
@THREADS
@COMPARE
@JSON
@click.pass_context
def engines(
    ctx: click.Context, run: Path, samples: int, threads: int | None, before: Path | None, as_json: bool
) -> None:
    """What a call of every engine of RUN takes, beside eager torch: of the world, the policy and the classifier.

    In one process and in turns; errors are measured again on the engine that was timed. Writes RUN/engines.html.
    """
    import torch

    from w4rl_fast.errors import UserError
    from w4rl_fast.report.engine_times import SUMMARY, in_words, write_engines_report
    from w4rl_fast.speed.engines import measure_engines
    from w4rl_kernels.threads import physical_cores

    torch.set_num_threads(threads or physical_cores())
    then = earlier(before, run / SUMMARY, (*ENGINE_KEY, "rows_per_s"))
    rows, refused = measure_engines(run, samples=samples)
    if not rows:
        raise UserError(f"{run}", rule="it has no engines", remedy=f"Build some by `w4rl export {run}`")
    summary = write_engines_report(run, rows, refused, command_line(ctx))
    say(summary, in_words(rows, run), as_json, then, ENGINE_KEY, "rows_per_s")


@bench.command()
@click.option("--samples", type=click.IntRange(1), default=20, show_default=True, help="Calls of each implementation.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path(), help="Where kernels.html and .json go.  [here]")
@COMPARE
@JSON
@click.pass_context
def kernels(ctx: click.Context, samples: int, threads: int, out: Path, before: Path | None, as_json: bool) -> None:
    """Every operation of w4rl_kernels beside its reference and the fastest form of it in torch.

    Wrong numbers are an error, not a speed. Writes kernels.html and kernels.json.
    """
    import torch

    from w4rl_fast.measure import roofline
    from w4rl_fast.report.kernels import SUMMARY, in_words, write_kernels_report
    from w4rl_fast.speed.kernels import measure_kernels

    torch.set_num_threads(threads)
    then = earlier(before, out / SUMMARY, (*KERNEL_KEY, "gb_per_s"))
    peak = roofline(threads)
    rows = measure_kernels(samples, threads, peak=peak)
    summary = write_kernels_report(out, rows, peak, command_line(ctx))
    words = f"{in_words(rows)}\n{summary['page']}"
    say(summary, words, as_json, then, KERNEL_KEY, "gb_per_s")


def earlier(path: Path | None, last: Path, fields: Sequence[str]) -> Mapping[str, Any] | None:
    """What is compared with, read before it is written again."""
    from w4rl_fast.measure import environment_card
    from w4rl_fast.speed.stored import read_before

    if path is None:
        return None
    return read_before(last if path == Path() else path, environment_card(), fields)


def say(
    summary: Mapping[str, Any], words: str, as_json: bool, then: Mapping[str, Any] | None, key: Sequence[str],
    speed: str,
) -> None:  # fmt: skip
    """The figures as a table or as JSON, what was not timed, and then and now."""
    from w4rl_fast.speed.stored import changes, in_words, other_versions

    for name, why in summary.get("not_timed", {}).items():
        click.echo(f"not timed: {name}: {why}", err=True)
    if then is None:
        click.echo(json.dumps(summary) if as_json else words)
        return
    found = changes(then["rows"], summary["rows"], key, speed)
    table = [{"case": each.case, "before": each.before, "now": each.now, "ratio": each.ratio} for each in found]
    versions = other_versions(then["environment"], summary["environment"])
    click.echo(json.dumps({**summary, "compared": table}) if as_json else f"{words}\n\n{in_words(found, versions)}")


@bench.command()
@RUN
@click.argument("store", type=FOLDER, required=False)
@click.option(
    "--methods",
    default="ppo,fog,surrogate-only",
    show_default=True,
    help="Also: coupled, no-refresh, straight-through.",
)
@click.option("--seeds", default=5, show_default=True, help="Refinements of each method.")
@click.option("--frames", default=100_000, show_default=True, help="Imagined frames of each refinement.")
@click.option("--forward", type=click.Choice(["world", "simulator"]), default="world", show_default=True)
@click.option("--start", type=click.Choice(["clone", "scratch"]), default="scratch", show_default=True)
@click.option("--tuning", is_flag=True, help="Judge on seeds to tune on, which no result is reported on.")
@click.option("--set", "settings", multiple=True, help="A setting, such as fog.horizon=4 or ppo.epochs=4.")
@click.option("--out", type=FOLDER, help="Where curves and page go.  [default: RUN/race-FORWARD-START]")
@click.option("--threads", type=int, help="Threads of torch.  [default: physical cores]")
@click.option("--json", "as_json", is_flag=True)
def refine(
    run: Path, store: Path | None, methods: str, settings: tuple[str, ...], out: Path | None, threads: int | None,
    as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Refine by several methods from the same start, with the same number of imagined frames, judged for real.

    Every refinement is a file when it is done; the same command goes on with those that are missing.
    """
    import torch

    import w4rl_fast
    from w4rl_fast.config import override, to_json_dict
    from w4rl_fast.files import publish
    from w4rl_fast.measure import environment_card
    from w4rl_fast.refine.race import Race, RaceConfig
    from w4rl_fast.refine.standings import standings, summary
    from w4rl_fast.report.race import WHAT, write_race_report
    from w4rl_kernels.threads import physical_cores

    torch.set_num_threads(threads or physical_cores())
    config = override(RaceConfig(methods=tuple(methods.split(",")), **options), settings)
    folder = out or run / f"race-{config.forward}-{config.start}"
    curves = Race(w4rl_fast.load(run), config, folder, store).curves()
    path = write_race_report(folder, run.name, curves, config, command_line(click.get_current_context()))
    body = {what: summary(curves, what) for what in WHAT}
    whole = {"config": to_json_dict(config), **body, "curves": [dataclasses.asdict(each) for each in curves]}
    publish(folder / "race.json", json.dumps({**whole, "environment": environment_card()}, indent=1).encode())
    if as_json:
        click.echo(json.dumps({**body, "page": str(path)}))
        return
    rows = [
        [each.method, str(each.values[-1]), str(each.area), f"{each.ms_per_frame:.2f}"]
        for each in standings(curves, "scores")
    ]
    print_table(["method", "score in the end", "area under the curve", "ms a frame"], rows)
    click.echo(path)
