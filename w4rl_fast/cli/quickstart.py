"""`w4rl quickstart`: the main job on one task."""

from pathlib import Path

import click


@click.command()
@click.option("--task", default="metaworld/button-press-topdown-v3", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The run: a folder that holds everything.")
@click.option("--seed", default=0, show_default=True)
@click.option("--minutes", default=15.0, show_default=True, help="How long it may take on two cores, roughly.")
@click.option("--workers", default=None, type=int, help="Processes that run the simulator.  [default: one a core]")
@click.option("--set", "settings", multiple=True, help="A setting, such as demos=5 or episodes=100.")
def quickstart(task: str, out: Path, seed: int, minutes: float, workers: int | None, settings: tuple[str, ...]) -> None:
    """Clone two demonstrations, learn a world, make the policy better in it, and prove that in the real simulator.

    Interrupted, it goes on where it stopped when it is run again.
    """
    import json

    from w4rl_fast.config import override
    from w4rl_fast.files import publish
    from w4rl_fast.measure import environment_card
    from w4rl_fast.quickstart import Quickstart, QuickstartConfig
    from w4rl_fast.report.refined import write_refined_report

    given = [f"task={task}", f"seed={seed}", f"minutes={minutes}", *settings]
    job = Quickstart(out, override(QuickstartConfig(), given if workers is None else [*given, f"workers={workers}"]))
    rows = job.run()
    summary = {**job.summary(rows), "environment": environment_card()}
    command = f"w4rl quickstart --task {task} --out {out} --seed {seed} --minutes {minutes:g}"
    page = write_refined_report(out, job.verdicts, job.gain, summary, command)
    publish(out / "summary.json", json.dumps(summary, indent=2).encode())
    print_table(rows)
    before, after = (str(job.verdicts[name].share) for name in ("before", "after"))
    click.echo(f"real success before: {before}\n              after: {after}\n{page}\nGo on with:")
    for part in ("world", "reward"):
        click.echo(f"  w4rl evaluate {part} {out} {out / 'data'}")


def print_table(rows: list[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("stage", "seconds", "outcome")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)
