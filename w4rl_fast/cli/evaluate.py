"""`w4rl evaluate`."""

import dataclasses
import functools
import json
from pathlib import Path

import click

FOLDER = click.Path(path_type=Path)


@click.group()
def evaluate() -> None:
    """Judge a run on what it never saw."""


@evaluate.command()
@click.argument("run", type=FOLDER)
@click.option("--episodes", default=100, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--first-seed", type=int, help="Seeds from here on; 2^30 or more.  [default: 2^30]")
@click.option("--json", "as_json", is_flag=True)
def policy(run: Path, episodes: int, workers: int, first_seed: int | None, as_json: bool) -> None:
    """Run the policy of RUN in the real simulator, on seeds that no recorded episode has."""
    from w4rl_fast.policy import policy_actor, policy_digest
    from w4rl_fast.report.sheet import write_sheet
    from w4rl_fast.run import task_of_run
    from w4rl_fast.truth.success import FIRST_SEED, judge

    task, digest = task_of_run(run), policy_digest(run)
    verdict = judge(
        task,
        functools.partial(policy_actor, run),
        episodes=episodes,
        workers=workers,
        first_seed=FIRST_SEED if first_seed is None else first_seed,
        keep=8,
    )
    pictures = []
    if verdict.failures:
        still, moving = run / "policy-failures.png", run / "policy-failures-moving.png"
        write_sheet(verdict.failures, still, moving)
        pictures = [str(still), str(moving)]
    if as_json:
        summary = {"task": task.name, "policy": digest, **dataclasses.asdict(verdict.share), "pictures": pictures}
        click.echo(json.dumps(summary))
        return
    click.echo(f"{task.name}: {verdict.share}")
    for picture in pictures:
        click.echo(f"failures: {picture}")
