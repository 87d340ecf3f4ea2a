"""One refinement inside a teacher in three steps and inside its students: wall-clock, and what it is worth for real.

python -m bench.inside RUN STUDENT...: eight iterations of PPO, as many imagined frames for all, seeds 0, 1 and 2, in
turns in one process on one thread; every policy then runs the same 200 held-out seeds of the real simulator. The
baseline is the teacher. Without a trained run there is nothing to measure.
"""

import contextlib
import dataclasses
import functools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from w4rl_fast.imagine.guards import Exploited
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.measure import write_result
from w4rl_fast.policy import policy_actor
from w4rl_fast.refine.config import PPOConfig
from w4rl_fast.refine.imagined import REFINED, RefineConfig, refine_run
from w4rl_fast.run import store_of_run
from w4rl_fast.truth.success import judge

THREADS, SEEDS, ITERATIONS, TEACHER_STEPS, EPISODES = 1, 3, 8, 3, 200
PARTS = ("world", "reward", "policy", "students", "task.json")


def beside(run: Path, folder: Path) -> Path:
    """A run with the parts of another, to be refined on its own."""
    folder.mkdir(parents=True)
    for part in PARTS:
        (folder / part).symlink_to((run / part).resolve())
    return folder


def refined(run: Path, store: Path, student: str | None, seed: int) -> dict[str, Any]:
    """Refine inside a student, or inside the teacher, and ask the simulator."""
    loaded = LoadedRun(run)
    config = RefineConfig(
        ppo=PPOConfig(steps=loaded.task.horizon, iterations=ITERATIONS, seed=seed),
        sampling_steps=TEACHER_STEPS if student is None else None,
        student=student,
    )
    started = time.perf_counter()
    score: float | None = None
    with contextlib.suppress(Exploited):  # what was best until then is there
        score = refine_run(loaded, config, store=store, force=True).score
    seconds = time.perf_counter() - started
    actor = functools.partial(policy_actor, run / REFINED / "best")
    share = judge(loaded.task, actor, episodes=EPISODES, workers=1, name=f"judge {run.name}").share
    return {"seed": seed, "seconds": seconds, "imagined": score, "real": dataclasses.asdict(share)}


def main(arguments: list[str]) -> None:
    if not arguments:
        print("skipped: it needs a trained run and its students (python -m bench.inside RUN STUDENT...)")
        return
    torch.set_num_threads(THREADS)
    run, names = Path(arguments[0]), [None, *arguments[1:]]
    store = store_of_run(run).resolve()
    rows: dict[str, list[dict[str, Any]]] = {name or "teacher": [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(SEEDS):
            for name in names:
                each = name or "teacher"
                rows[each].append(refined(beside(run, Path(folder) / f"{each}-{seed}"), store, name, seed))
                print(each, rows[each][-1], flush=True)
    seconds = {name: statistics.median(each["seconds"] for each in found) for name, found in rows.items()}
    successes = {name: sum(each["real"]["successes"] for each in found) for name, found in rows.items()}
    for name in rows:
        print(
            f"{name:24} {seconds[name]:6.0f} s ({seconds[name] / seconds['teacher']:.0%} of the teacher's),"
            f" real success {successes[name] / (SEEDS * EPISODES):.1%}"
        )
    result = {
        "threads": THREADS,
        "iterations": ITERATIONS,
        "teacher_steps": TEACHER_STEPS,
        "rows": rows,
        "seconds": seconds,
        "share_of_time": {name: each / seconds["teacher"] for name, each in seconds.items()},
    }
    write_result("inside", result)


if __name__ == "__main__":
    main(sys.argv[1:])
