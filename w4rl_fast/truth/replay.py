"""What the simulator itself does when it is given other actions from the start of a recorded episode."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.config import from_json_dict
from w4rl_fast.data.episode import EpisodeInfo
from w4rl_fast.data.pool import in_processes
from w4rl_fast.errors import UserError
from w4rl_fast.progress import Progress
from w4rl_fast.tasks import Task, TaskConfig, make_task


@dataclass(frozen=True, slots=True)
class ReplayJob:
    """One start, by its task and seed, and K sequences of actions (K, H, A) to take from it."""

    number: int
    task: TaskConfig
    seed: int
    actions: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Replayed:
    """frames (K, H + 1, S, S, 3) uint8 and proprio (K, H + 1, P), the start included."""

    number: int
    frames: NDArray[np.uint8]
    proprio: NDArray[np.float32]


def replay(jobs: Sequence[ReplayJob], workers: int) -> list[Replayed]:
    """Every job in the simulator, in the order of their numbers."""
    with Progress("simulate other actions", total=len(jobs), unit="episodes") as bar:
        done = []
        for result in in_processes(replaying, jobs, workers):
            done.append(result)
            bar.advance()
    return sorted(done, key=lambda result: result.number)


def replaying() -> Callable[[ReplayJob], Replayed]:
    """What one process does: each task is made once."""
    tasks: dict[str, Task] = {}

    def run(job: ReplayJob) -> Replayed:
        if job.task.name not in tasks:
            tasks[job.task.name] = make_task(job.task)
        return replay_one(tasks[job.task.name], job)

    return run


def replay_one(task: Task, job: ReplayJob) -> Replayed:
    """Start again for each sequence: the same seed gives the same start."""
    frames, proprio = [], []
    for actions in job.actions:
        seen = [task.reset(job.seed), *(task.step(action) for action in actions)]
        frames.append([observation.frame for observation in seen])
        proprio.append([observation.proprio for observation in seen])
    return Replayed(job.number, np.array(frames), np.array(proprio, dtype=np.float32))


def simulator_tasks(recorded: dict[str, dict[str, object]], infos: Sequence[EpisodeInfo]) -> dict[str, TaskConfig]:
    """The settings of every task of these episodes; raises a UserError that says why a simulator cannot repeat them."""
    if any(info.source == "imported" for info in infos):
        raise UserError(
            "imported episodes", rule="no simulator knows where they started", remedy="Judge a store of `w4rl collect`"
        )
    tasks = recorded_tasks(recorded, infos)
    for task in tasks.values():
        make_task(task).close()  # a missing package is met here, and not in every process
    return tasks


def recorded_tasks(recorded: dict[str, dict[str, object]], infos: Sequence[EpisodeInfo]) -> dict[str, TaskConfig]:
    """The settings with which a store says that the tasks of these episodes were recorded."""
    names = sorted({info.task for info in infos})
    for name in names:
        if not recorded.get(name):
            raise UserError(
                f"task {name}", rule="the store records no settings of it", remedy="Judge a store of `w4rl collect`"
            )
    return {name: from_json_dict(TaskConfig, recorded[name]) for name in names}
