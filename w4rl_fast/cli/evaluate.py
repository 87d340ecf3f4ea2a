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


@evaluate.command()
@click.argument("run", type=FOLDER)
@click.argument("store", type=FOLDER)
@click.option("--episodes", default=100, show_default=True, help="Held-out episodes, at most.")
@click.option("--json", "as_json", is_flag=True)
def world(run: Path, store: Path, episodes: int, as_json: bool) -> None:
    """Roll the world of RUN out over held-out episodes of STORE, open loop, and say how far it can be believed."""
    import numpy as np

    from w4rl_fast.config import load_config
    from w4rl_fast.data import Store
    from w4rl_fast.files import publish
    from w4rl_fast.report.imagined import beside_real
    from w4rl_fast.report.png import encode_png
    from w4rl_fast.truth.fidelity import measure_fidelity, measure_response
    from w4rl_fast.world.checkpoint import load_world
    from w4rl_fast.world.rollout import roll_out
    from w4rl_fast.world.train import TrainWorldConfig, held_out_windows

    model = load_world(run)
    config = load_config(run / "world" / "train.json", TrainWorldConfig)
    windows = held_out_windows(Store(store), config)
    count = min(episodes, len(windows.episodes))
    batch = windows.gather(np.arange(count), np.zeros(count, np.int64))
    imagined = roll_out(model, batch)
    fidelity = measure_fidelity(batch, imagined, model.config.history)
    response = measure_response(model, batch, steps=min(5, config.horizon))
    shown = [step for step in (0, 3, 7, 11, 17) if step < config.horizon]
    picture = run / "world-imagined.png"
    some = np.linspace(0, count - 1, min(8, count)).astype(int).tolist()  # by name: every source has its turn
    future = batch.frames[some, model.config.history :]
    publish(picture, encode_png(beside_real(future, imagined.frames[some], shown)))
    summary = {
        **dataclasses.asdict(fidelity), "action_response": dataclasses.asdict(response), "picture": str(picture)
    }  # fmt: skip
    publish(run / "world-fidelity.json", json.dumps(summary, indent=1).encode())
    if as_json:
        click.echo(json.dumps(summary))
        return
    click.echo(f"{fidelity.episodes} held-out episodes, open loop\nstep   PSNR  moving  repeat  hand error")
    for step in shown:
        row = (fidelity.psnr[step], fidelity.psnr_moving[step], fidelity.psnr_moving_repeat[step])
        decibels = "  ".join(f"{value:6.1f}" for value in row)
        click.echo(f"{step + 1:4d} {decibels}  {100 * fidelity.proprio_error_m[step]:7.2f} cm")
    for name in ("correlation", "shuffled", "ignored"):
        values = " ".join(f"{value:.3f}" for value in getattr(response, name))
        click.echo(f"action response over {response.steps} steps, {name}: {values}")
    click.echo(str(picture))
