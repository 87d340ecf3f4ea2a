"""`w4rl tasks`."""

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from w4rl_fast.tasks import TaskConfig


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list instead of a table.")
def tasks(as_json: bool) -> None:
    """List the tasks, with camera, action meaning and horizon."""
    from w4rl_fast.tasks.catalogue import ACTIONS, PUSH_T, PUSH_T_ACTIONS, actions_of, default_config, task_names

    configs = [default_config(name) for name in task_names()]
    if as_json:
        click.echo(json.dumps([{**settings_of(config), "actions": actions_of(config.name)} for config in configs]))
        return
    from rich.console import Console
    from rich.table import Table

    title = f"Actions, all in [-1, 1]: {ACTIONS}; in {PUSH_T}: {PUSH_T_ACTIONS}"
    table = Table("task", "horizon", "repeat", "camera at", title=title, title_style="")
    for config in configs:
        table.add_row(config.name, str(config.horizon), str(config.action_repeat), seen_from(config))
    Console().print(table)


def seen_from(config: "TaskConfig") -> str:
    if config.push_t is not None:
        return "above"
    return f"{config.camera.azimuth:g}°, {config.camera.distance:g} m"


def settings_of(config: "TaskConfig") -> dict[str, Any]:
    """The settings that mean something for this task."""
    from w4rl_fast.config import to_json_dict

    foreign = ("push_t",) if config.push_t is None else ("camera", "renderer")
    return {name: value for name, value in to_json_dict(config).items() if name not in foreign}
