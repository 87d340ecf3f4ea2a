"""How far the simulator goes astray from a recording when it is given the recorded actions."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.data.episode import Episode
from w4rl_fast.data.store import Store
from w4rl_fast.errors import UserError
from w4rl_fast.progress import Progress
from w4rl_fast.tasks import Observation, Task, make_task
from w4rl_fast.truth.replay import recorded_tasks

STEPS = (1, 10, 50, None)
"""After how many actions errors are told; None is the last."""
UNITS = {"disc": "units", "block": "units", "angle": "degrees", "proprioception": ""}
BLIND = 8
"""Pixels a side: nobody looks at these pictures."""


@dataclass(frozen=True, slots=True)
class Course:
    """One episode played again: errors (L,) by row of everything compared, and whether success is as recorded."""

    errors: dict[str, NDArray[np.float64]]
    agrees: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Error:
    """Of one quantity `of`, after so many actions, over the episodes that have them."""

    of: str
    unit: str
    step: int | None
    median: float
    p95: float
    episodes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Astray:
    """Over `episodes`; `agreed` of them succeeded or failed as they were recorded."""

    episodes: int
    agreed: int
    errors: tuple[Error, ...]


def replay_store(store: Store, chosen: Sequence[int]) -> Astray:
    """Play the chosen episodes of a store again; each task is made once."""
    settings = recorded_tasks(store.index.tasks, [store.infos[number] for number in chosen])
    courses: list[Course] = []
    with Progress("replay", total=len(chosen), unit="episodes") as bar:
        for name, config in settings.items():
            task = make_task(dataclasses.replace(config, image_size=BLIND))
            for number in chosen:
                if store.infos[number].task == name:
                    courses.append(replay_episode(task, store.read(number)))
                    bar.advance()
            task.close()
    return summarise(courses)


def replay_episode(task: Task, episode: Episode) -> Course:
    """Put the task where the episode began, and take its actions."""
    seen = [begin(task, episode), *(task.step(action) for action in episode.actions[:-1])]
    recorded, succeeded = episode.info.succeeded, task.succeeded
    if episode.info.source == "imported":  # nobody saw what happened between its rows
        succeeded = any(observation.success for observation in seen)
    return Course(errors_of(seen, episode), succeeded == recorded)


def begin(task: Task, episode: Episode) -> Observation:
    """By the seed of a recording of ours, else by where things are in the first row."""
    if episode.info.source != "imported":
        return task.reset(episode.info.seed)
    if task.config.push_t is None or episode.landmarks is None:
        raise UserError(
            f"imported episode {episode.info.key}",
            rule="no simulator knows where it started",
            remedy="Replay a store of `w4rl collect`",
        )
    from w4rl_fast.tasks.push_t.shape import pose_of
    from w4rl_fast.tasks.push_t.task import PushTTask

    assert isinstance(task, PushTTask)
    x, y, angle = pose_of(episode.landmarks[0]).tolist()
    disc_x, disc_y = episode.proprio[0].tolist()
    return task.place((disc_x, disc_y), (x, y, angle))


def errors_of(seen: Sequence[Observation], episode: Episode) -> dict[str, NDArray[np.float64]]:
    """By row (L,): of disc and block where there are landmarks, of the proprioception elsewhere."""
    proprio = np.stack([observation.proprio for observation in seen]).astype(np.float64) - episode.proprio
    away = np.linalg.norm(proprio, axis=1)
    if episode.landmarks is None:
        return {"proprioception": away}
    from w4rl_fast.tasks.push_t.shape import pose_of

    marks = [observation.landmarks for observation in seen if observation.landmarks is not None]
    block = pose_of(np.stack(marks)) - pose_of(episode.landmarks)
    turned = np.abs((block[:, 2] + np.pi) % (2 * np.pi) - np.pi)
    return {"disc": away, "block": np.linalg.norm(block[:, :2], axis=1), "angle": np.degrees(turned)}


def summarise(courses: Sequence[Course]) -> Astray:
    errors = []
    for name in sorted({name for course in courses for name in course.errors}, key=list(UNITS).index):
        rows = [course.errors[name] for course in courses if name in course.errors]
        for step in STEPS:
            values = [row[-1 if step is None else step] for row in rows if step is None or step < len(row)]
            if values:
                median, p95 = np.quantile(values, (0.5, 0.95)).tolist()
                errors.append(Error(of=name, unit=UNITS[name], step=step, median=median, p95=p95, episodes=len(values)))
    return Astray(episodes=len(courses), agreed=sum(course.agrees for course in courses), errors=tuple(errors))
