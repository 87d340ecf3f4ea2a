"""A run is a folder: what it is about, where its data lie, the parts that were trained for it, its rounds of repair."""

import json
import os
from pathlib import Path

from w4rl_fast.config import from_json_dict, load_config, save_config
from w4rl_fast.data.store import Store
from w4rl_fast.errors import UserError
from w4rl_fast.files import publish, read_json
from w4rl_fast.tasks import TaskConfig

TASK, DATA = "task.json", "data.json"
ROUND = "repair-"
ROUND_FILE = "round.json"


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


def keep_store(run: Path, store: Path) -> None:
    """Write where the data of the run lie, seen from the run, so that both can be moved together."""
    run.mkdir(parents=True, exist_ok=True)
    publish(run / DATA, json.dumps({"store": os.path.relpath(store, run)}).encode())


def store_of_run(run: Path, given: Path | str | None = None) -> Path:
    """The store that was given, or the one that the run was last trained on, or the one inside it."""
    if given is not None:
        return Path(given)
    path = run / DATA
    store = run / (read_json(path)["store"] if path.exists() else "data")
    if not store.exists():
        raise UserError(
            f"store {store} of run {run}", rule="it is not there", remedy="Give the store that holds its data"
        )
    return Path(os.path.normpath(store))


def latest(run: Path) -> Path:
    """The run itself, or its last round of repair that ended in another policy."""
    repaired = [folder for folder in rounds(run) if read_json(folder / ROUND_FILE)["repaired"]]
    return repaired[-1] if repaired else run


def rounds(run: Path) -> list[Path]:
    """The finished rounds of repair, in their order."""
    finished = run.glob(f"{ROUND}*/{ROUND_FILE}")
    return sorted((path.parent for path in finished), key=lambda folder: int(folder.name.removeprefix(ROUND)))
