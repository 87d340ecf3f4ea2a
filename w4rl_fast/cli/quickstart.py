"""`w4rl quickstart`: the main job on one task, stage by stage."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import click

from w4rl_fast.errors import UserError


@click.command()
@click.option("--task", default="metaworld/button-press-topdown-v3", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The run: a folder that holds everything.")
@click.option("--seed", default=0, show_default=True)
@click.option("--workers", default=None, type=int, help="Processes that collect.  [default: one a core]")
def quickstart(task: str, out: Path, seed: int, workers: int | None) -> None:
    """Collect demonstrations of a task, check every byte of them, and show them.

    Interrupted, it goes on where it stopped when it is run again.
    """
    stages: dict[str, Callable[[], str]] = {
        "collect": lambda: collect_data(task, out / "data", seed, workers or len(os.sched_getaffinity(0))),
        "check": lambda: check_data(out / "data"),
        "show": lambda: show_data(out / "data", out / "data-sheet"),
    }
    rows = []
    for name, stage in stages.items():
        started = time.monotonic()
        figure = stage()
        rows.append({"name": name, "seconds": round(time.monotonic() - started, 1), "figure": figure})
    write_summary(out, task, seed, rows)
    print_table(out, rows)


def collect_data(task: str, store: Path, seed: int, workers: int) -> str:
    from w4rl_fast.data.collect import collect
    from w4rl_fast.data.store import Store
    from w4rl_fast.presets import quickstart_data
    from w4rl_fast.tasks import default_config

    result = collect(store, [default_config(task)], quickstart_data(seed, workers))
    if result.interrupted:
        raise KeyboardInterrupt
    infos = Store(store).infos
    experts = [info.succeeded for info in infos if info.source == "expert"]
    return f"{len(infos)} episodes; the expert succeeded in {sum(experts)} of {len(experts)}"


def check_data(store: Path) -> str:
    from w4rl_fast.data.check import check_store

    report = check_store(store)
    if report.damage:
        raise UserError(
            f"{store / report.damage[0].file}",
            rule=report.damage[0].what,
            remedy=f"Delete {store} and run the quickstart again",
        )
    return f"{report.rows} frames in {report.files} files, every checksum fits"


def show_data(store: Path, base: Path) -> str:
    from w4rl_fast.cli.data import write_pictures
    from w4rl_fast.data.store import Store

    still, moving = write_pictures(Store(store), base, episodes=8, fps=10.0, scale=3)
    return f"{still.name}, {moving.name}"


def write_summary(out: Path, task: str, seed: int, rows: list[dict[str, object]]) -> None:
    from w4rl_fast.files import publish
    from w4rl_fast.measure import environment_card

    summary = {"task": task, "seed": seed, "stages": rows, "environment": environment_card()}
    publish(out / "summary.json", json.dumps(summary, indent=2).encode())


def print_table(out: Path, rows: list[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("stage", "seconds", "outcome")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)
    click.echo(f"The run is in {out}. Go on with:\n  w4rl data info {out / 'data'}\n  w4rl data sheet {out / 'data'}")
