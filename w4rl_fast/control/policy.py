"""What drives: the policy of a run, its engine, what its actions mean to an arm, and whether it keeps its own rate."""

from pathlib import Path

import numpy as np
import torch

from w4rl_engines.choice import fastest
from w4rl_engines.fingerprint import fingerprint
from w4rl_engines.load import load as load_artifact
from w4rl_fast.control.config import ControlConfig
from w4rl_fast.errors import UserError
from w4rl_fast.imagine.artifacts import artifacts, rebuild_of
from w4rl_fast.imagine.export import Mean
from w4rl_fast.policy.checkpoint import load_policy
from w4rl_fast.refine.proof import contender
from w4rl_fast.robot.camera import Camera
from w4rl_fast.robot.decider import Decider
from w4rl_fast.robot.handling import Handling
from w4rl_fast.run import task_of_run
from w4rl_fast.tasks import TaskConfig
from w4rl_fast.tasks.catalogue import FRANKA
from w4rl_fast.tasks.franka.panda import OPEN
from w4rl_fast.tasks.franka.space import HIGH, LOW, rate_of, reach_of

THREADS = 1


def robot_task(run: Path, config: ControlConfig) -> TaskConfig:
    """The task of a run whose policy knows this arm and this rate."""
    task = task_of_run(run)
    if not task.name.startswith(FRANKA):
        raise UserError(
            f"run {run} is about {task.name}",
            rule="its policy moves another robot than a Franka",
            remedy="Give a run about one of the franka tasks, see `w4rl tasks`",
        )
    rate = rate_of(task)
    if config.rate is not None and abs(config.rate - rate) > 1e-6:
        raise UserError(
            f"--rate {config.rate:g}",
            rule=f"the policy of {run} decides {rate:g} times a second: its actions take {1e3 / rate:g} ms each",
            remedy=f"Leave --rate away, or collect with action_repeat={round(1 / (config.rate * 0.002))} and train",
        )
    return task


def handling_of(task: TaskConfig) -> Handling:
    low, high = (tuple(float(x) for x in corner) for corner in (LOW, HIGH))
    reach = reach_of(rate_of(task))
    return Handling(rate=rate_of(task), step=(reach, reach, reach), low=low, high=high, opening=OPEN)  # type: ignore[arg-type]


def decider_of(run: Path, wanted: str) -> tuple[Path, Decider]:
    """A policy of a run: where it lies, and what decides for it: its fastest engine, else eager torch."""
    name, there = contender(run, wanted)
    policy = load_policy(there.policy).eval()
    mean = Mean(policy).eval()
    torch.set_num_threads(THREADS)
    expected = fingerprint(mean)
    engines = [*artifacts(there.policy, "policy"), *artifacts(run, "policy")]
    found = fastest(engines, 1, expected=expected, threads=THREADS).artifact
    if found is None:
        return there.policy, Decider(mean, policy.config.history)
    rebuild = rebuild_of(found.folder, run, name)
    engine = load_artifact(found.folder, batch=1, threads=THREADS, expected=expected, rebuild=rebuild)
    return there.policy, Decider(engine, policy.config.history, found.folder.name)


def check_pace(decider: Decider, camera: Camera, handling: Handling) -> None:
    """Refuse a camera or a policy that cannot keep its own rate."""
    shot = camera.read()
    if camera.rate < handling.rate:
        raise UserError(
            f"the camera gives {camera.rate:.1f} frames a second",
            rule=f"the policy decides {handling.rate:g} times a second, each time on a new frame",
            remedy="Choose a faster mode of the camera",
        )
    takes = decider.latency(shot.frame, np.zeros(7, np.float32))
    if takes > 0.8 / handling.rate:
        raise UserError(
            f"the policy takes {takes * 1e3:.0f} ms by {decider.name}",
            rule=f"it has {1e3 / handling.rate:.0f} ms between two observations",
            remedy="Export it: `w4rl export RUN --part policy --policy NAME --engine all --batch 1 --threads 1`",
        )
