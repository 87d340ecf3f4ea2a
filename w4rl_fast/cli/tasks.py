"""`w4rl tasks`."""

import dataclasses
import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list instead of a table.")
def tasks(as_json: bool) -> None:
    """List the tasks, with camera, action meaning and horizon."""
    from w4rl_fast.tasks.catalogue import ACTIONS, default_config, task_names

    configs = [default_config(name) for name in task_names()]
    if as_json:
        click.echo(json.dumps([{**dataclasses.asdict(config), "actions": ACTIONS} for config in configs]))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("task", "horizon", "repeat", "camera at", title=f"Actions, all in [-1, 1]: {ACTIONS}", title_style="")
    for config in configs:
        camera = f"{config.camera.azimuth:g}°, {config.camera.distance:g} m"
        table.add_row(config.name, str(config.horizon), str(config.action_repeat), camera)
    Console().print(table)
