"""`w4rl bench`."""

import json
from pathlib import Path

import click

from w4rl_fast.cli.words import command_line


@click.group()
def bench() -> None:
    """Measure a run on this machine, each figure beside the truth of what was timed."""


@bench.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--worlds", type=int, default=64, show_default=True)
@click.option(
    "--steps", default="3,1", show_default=True, help="Denoising steps of the teacher; students have their own."
)
@click.option("--samples", type=int, default=5, show_default=True, help="Rollouts of each case.")
@click.option("--slice", "slice_size", type=int, default=32, show_default=True, help="Worlds in one call of an engine.")
@click.option("--threads", type=int, help="Threads of torch and of the engines.  [default: physical cores]")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def rollout(
    ctx: click.Context, run: Path, worlds: int, steps: str, samples: int, slice_size: int, threads: int | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Imagined frames a second of RUN: the published loop, eager torch, and every engine that `w4rl export` built.

    Policy, world step, classifier and buffers, all in one process and in turns. Writes RUN/rollout.html and .json.
    """
    import torch

    from w4rl_fast.cli.export import sizes
    from w4rl_fast.distill.throughput import ThroughputConfig, measure_rollouts
    from w4rl_fast.report.throughput import in_words, write_throughput_report
    from w4rl_kernels.threads import physical_cores

    torch.set_num_threads(threads or physical_cores())
    config = ThroughputConfig(worlds=worlds, steps=sizes(steps, "--steps"), samples=samples, slice_size=slice_size)
    rows, peak = measure_rollouts(run, config)
    summary = write_throughput_report(run, rows, peak, command_line(ctx))
    click.echo(json.dumps(summary) if as_json else in_words(rows, run))
    for name, why in summary["not_timed"].items():
        click.echo(f"not timed: {name}: {why}", err=True)
