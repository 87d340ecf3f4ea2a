"""`w4rl collect`."""

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from w4rl_fast.errors import UserError

if TYPE_CHECKING:
    from w4rl_fast.data.collect import Collected
    from w4rl_fast.tasks import TaskConfig


@click.command()
@click.argument("task", required=False)
@click.option("--expert", default=0, help="Episodes of the scripted expert.")
@click.option("--noisy", default=0, help="Episodes of the expert with noise and bias.")
@click.option("--random", default=0, help="Episodes of random motion.")
@click.option("--play", default=0, help="Episodes of somebody who plays, where the task has one (push-t).")
@click.option("--policy", type=click.Path(path_type=Path), help="A run whose policy is rolled out.")
@click.option("--rollouts", default=0, help="Episodes of that policy, with noise and bias.")
@click.option("--noise", default=0.5, show_default=True, help="Largest deviation of noise; each episode draws its own.")
@click.option("--bias", default=0.0, show_default=True, help="Deviation of a constant offset, drawn once an episode.")
@click.option("--tasks-file", type=click.Path(path_type=Path), help="A file with one task a line, instead of TASK.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The store to make or to add to.")
@click.option("--size", default=64, show_default=True, help="Height and width of the frames.")
@click.option("--renderer", type=click.Choice(["ray", "gl"]), default="ray", show_default=True)
@click.option("--set", "settings", multiple=True, help="A task setting, such as horizon=20 or camera.distance=1.1.")
@click.option("--workers", default=1, show_default=True, help="Processes that collect.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as one JSON object.")
def collect(
    task: str | None,
    policy: Path | None,
    rollouts: int,
    tasks_file: Path | None,
    out: Path,
    size: int,
    renderer: str,
    settings: tuple[str, ...],
    as_json: bool,
    **counts: Any,
) -> None:
    """Record episodes of TASK into a store.

    Run the same command again to go on after an interruption: what is there is not recorded twice.
    """
    from w4rl_fast.data.collect import CollectConfig
    from w4rl_fast.data.collect import collect as run

    if bool(policy) != bool(rollouts):
        raise UserError(
            f"policy {policy}, rollouts {rollouts}",
            rule="--policy says whose and --rollouts how many episodes",
            remedy="Give both or neither",
        )
    configs = [configure(name, size, renderer, settings) for name in names_of(task, tasks_file)]
    config = CollectConfig(rollouts=rollouts, **counts)
    if policy is None:
        result = run(out, configs, config)
    else:
        from w4rl_fast.policy import policy_actor, policy_digest

        result = run(out, configs, config, functools.partial(policy_actor, policy), policy_digest(policy))
    report(out, result, as_json=as_json)
    if result.interrupted:
        raise KeyboardInterrupt


def names_of(task: str | None, tasks_file: Path | None) -> list[str]:
    """The tasks to collect, from the argument or the file."""
    if (task is None) == (tasks_file is None):
        raise UserError(
            f"task {task}, tasks file {tasks_file}", rule="give one of the two", remedy="`w4rl tasks` lists the tasks"
        )
    if task is not None:
        return [task]
    assert tasks_file is not None
    try:
        lines = tasks_file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"tasks file {tasks_file}", rule=f"it cannot be read: {error}", remedy="Check it") from error
    names = [line.split("#")[0].strip() for line in lines]
    if not any(names):
        raise UserError(f"tasks file {tasks_file}", rule="it names no task", remedy="Write one task a line")
    return [name for name in names if name]


def configure(name: str, size: int, renderer: str, settings: tuple[str, ...]) -> "TaskConfig":
    from w4rl_fast.config import override
    from w4rl_fast.tasks import default_config

    return override(default_config(name, image_size=size), [f"renderer={renderer}", *settings])


def report(out: Path, result: "Collected", *, as_json: bool) -> None:
    """Say what was added, and how each source fared."""
    sources = [
        {"task": task, "source": source, "episodes": count, "succeeded": result.succeeded[task, source]}
        for (task, source), count in sorted(result.episodes.items())
    ]
    if as_json:
        summary = {"store": str(out), "before": result.before, "added": result.added, "rows": result.rows}
        click.echo(json.dumps({**summary, "seconds": round(result.seconds, 2), "sources": sources}))
        return
    for line in sources:
        click.echo(f"{line['task']} {line['source']}: {line['succeeded']} of {line['episodes']} succeeded")
    there = f", {result.before} were there" if result.before else ""
    click.echo(f"{out}: {result.added} episodes added ({result.rows} frames){there}")
