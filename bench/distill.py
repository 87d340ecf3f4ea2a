"""Frames a second of a world, of the same world drawn naively in fewer steps, and of its few-step students.

All in one process and in turns, the whole step with its classifier; beside each the figures of `w4rl evaluate world
--compare` of the very same weights: moving pixels, action response, replays whose outcome agrees, blends. The baseline
is the teacher. Without arguments it is the tiny preset with random weights on moving noise, and a student of the same
size and one of the smaller transformer that were distilled for a moment: then only the speeds mean something. With
them, a run that has been trained, and its store: python -m bench.distill RUN STORE.
"""

import dataclasses
import sys
import tempfile
from pathlib import Path

import torch

from bench.imagine import TASK, made_up
from w4rl_fast.config import override, save_config
from w4rl_fast.data.store import Store
from w4rl_fast.distill import DistillConfig, distill_run
from w4rl_fast.distill.compare import CompareConfig, Comparison, Row, compare
from w4rl_fast.distill.student import with_steps
from w4rl_fast.measure import peak_memory_bytes, roofline, write_result
from w4rl_fast.presets import WORLDS
from w4rl_fast.reward import save_reward
from w4rl_fast.reward.train import TrainRewardConfig
from w4rl_fast.run import keep_store, keep_task
from w4rl_fast.tasks import TaskConfig
from w4rl_fast.world.checkpoint import save_world

SIZE, THREADS, HELD_OUT, HORIZON = 48, 1, 0.4, 2
MOMENT = ("fit.steps=2", "fit.batch=4", f"own.length={HORIZON}")


def made_up_run(folder: Path) -> tuple[Path, Store]:
    """A run of random weights with two students."""
    world, reward, rule, _, store, _ = made_up(SIZE, folder / "store")
    run = folder / "run"
    keep_task(run, TaskConfig(name=TASK, image_size=SIZE, horizon=HORIZON))
    keep_store(run, store.path)
    trained = dataclasses.replace(WORLDS["tiny"](store.schema), horizon=HORIZON, held_out=HELD_OUT)
    save_world(run / "world", world)
    save_config(run / "world" / "train.json", trained)
    save_reward(run / "reward", reward, rule)
    judged = TrainRewardConfig(reward=reward.config, horizon=HORIZON, task=TASK, held_out=HELD_OUT)
    save_config(run / "reward" / "train.json", judged)
    small = WORLDS["tiny-dit"](store.schema).world.transformer
    for name, config in (("same", world.config), ("dit", dataclasses.replace(world.config, transformer=small))):
        distill_run(run, store, override(DistillConfig(student=with_steps(config, 1)), MOMENT), name)
    return run, store


def in_words(row: Row) -> str:
    truth, last = row.truth, row.truth.fidelity.psnr_moving[-1]
    moving = "-" if last is None else f"{last:.1f} dB"
    return (
        f"{row.name:24} {row.steps} step(s) {row.cost.frames_per_s:8.0f} frames/s, {row.cost.share:4.0%} of the"
        f" teacher's time, {row.cost.gflop:.3f} GFLOP; moving {moving}, response {truth.response:.3f},"
        f" outcomes {truth.failure.agreement:.1%}"
    )


def report(found: Comparison, *, is_trained: bool) -> None:
    for row in found.rows:
        print(in_words(row))
    result = {
        "threads": THREADS,
        "is_trained": is_trained,
        "rows": found.rows,
        "referee": found.referee,
        "peak_mb": peak_memory_bytes() / 2**20,
        "roofline": roofline(THREADS),
    }
    write_result("distill", result)


def main(arguments: list[str]) -> None:
    torch.set_num_threads(THREADS)
    if arguments:
        run, store = map(Path, arguments)
        report(compare(run, Store(store), CompareConfig()), is_trained=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        run, opened = made_up_run(Path(folder))
        report(compare(run, opened, CompareConfig(workers=1)), is_trained=False)


if __name__ == "__main__":
    main(sys.argv[1:])
