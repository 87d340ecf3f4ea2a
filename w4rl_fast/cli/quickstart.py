"""`w4rl quickstart`: the main job on one task."""

import json
from pathlib import Path

import click

from w4rl_fast.cli.words import command_line, print_table


@click.command()
@click.option("--task", default="metaworld/button-press-topdown-v3", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The run: a folder that holds everything.")
@click.option("--seed", default=0, show_default=True)
@click.option("--minutes", default=15.0, show_default=True, help="How long it may take on two cores, roughly.")
@click.option("--repair", default=1, show_default=True, help="Rounds of repair at most; 0 is strictly offline.")
@click.option("--workers", default=None, type=int, help="Processes that run the simulator.  [default: one a core]")
@click.option("--threads", type=int, help="Threads of torch.  [default: physical cores]")
@click.option("--set", "settings", multiple=True, help="A setting, such as demos=5 or episodes=100.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary instead of the table.")
@click.pass_context
def quickstart(
    ctx: click.Context, task: str, out: Path, seed: int, minutes: float, repair: int, workers: int | None,
    threads: int | None, settings: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Clone two demonstrations, learn a world, make the policy better in it, and prove that in the real simulator.

    Interrupted, it goes on where it stopped when it is run again.
    """
    from w4rl_fast.config import override
    from w4rl_fast.files import publish
    from w4rl_fast.measure import environment_card
    from w4rl_fast.quickstart import Quickstart, QuickstartConfig
    from w4rl_fast.refine.proof import gains
    from w4rl_fast.report.policies import policy_rows
    from w4rl_fast.report.refined import write_refined_report

    given = [f"task={task}", f"seed={seed}", f"minutes={minutes}", f"repair={repair}", *settings]
    job = Quickstart(out, override(QuickstartConfig(), given if workers is None else [*given, f"workers={workers}"]))
    rows = job.run(threads)
    summary = {**job.summary(rows), "environment": environment_card()}
    page = write_refined_report(out, job.judged, job.last, summary, command_line(ctx))
    publish(out / "summary.json", json.dumps(summary, indent=2).encode())
    if as_json:
        click.echo(json.dumps(summary))
        return
    print_table(("stage", "seconds", "outcome"), [(row.name, f"{row.seconds:.1f}", row.figure) for row in rows])
    print_table(*policy_rows(job.judged, gains(job.judged)))
    click.echo(f"{summary['real_steps']['all']:,} real steps in all\n{page}\nGo on with:")
    for command in ("evaluate world", "evaluate reward", "audit"):
        click.echo(f"  w4rl {command} {out}")
    click.echo(f"  w4rl repair {out} --rounds {repair + 1}")
