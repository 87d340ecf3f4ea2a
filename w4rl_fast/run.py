"""A run is a folder: what it is about, and the parts that were trained for it."""

from pathlib import Path

from w4rl_fast.config import from_json_dict, load_config, save_config
from w4rl_fast.data.store import Store
from w4rl_fast.errors import UserError
from w4rl_fast.tasks import TaskConfig

TASK = "task.json"


def task_of_store(store: Store, name: str | None) -> TaskConfig:
    """The settings with which a store recorded the named task, or its only one."""
    recorded = {task: settings for task, settings in store.index.tasks.items() if settings}
    if name is None and len(recorded) == 1:
        (name,) = recorded
    if name not in recorded:
        raise UserError(
            f"task {name}",
            rule=f"{store.path} records {', '.join(sorted(recorded)) or 'no task of a simulator'}",
            remedy="Choose one of them with --task",
        )
    return from_json_dict(TaskConfig, recorded[name])


def keep_task(run: Path, task: TaskConfig) -> None:
    """Write the task into the run, or refuse if the run is about another one."""
    path = run / TASK
    if not path.exists():
        run.mkdir(parents=True, exist_ok=True)
        save_config(path, task)
    elif load_config(path, TaskConfig) != task:
        raise UserError(
            f"run {run}",
            rule=f"it is about {load_config(path, TaskConfig).name} with its own settings ({path})",
            remedy="Choose another --run",
        )


def task_of_run(run: Path) -> TaskConfig:
    path = run / TASK
    if not path.exists():
        raise UserError(f"run {run}", rule=f"there is no {TASK} in it", remedy="Give a folder that `w4rl train` wrote")
    return load_config(path, TaskConfig)
