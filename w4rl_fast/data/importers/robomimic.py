"""robomimic's HDF5 files: `data/demo_<number>` with actions, rewards, observations and, at best, next observations."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.data.episode import Episode, EpisodeInfo, Schema
from w4rl_fast.data.importers.action_range import Bounds, choose_range, normalise
from w4rl_fast.data.importers.checks import require_episodes, require_square
from w4rl_fast.data.importers.demonstrations import Keys, check_demo, choose_keys, list_demos, open_hdf5
from w4rl_fast.data.importers.staging import Exported, readable, staged
from w4rl_fast.errors import UserError

_KIND = "a robomimic HDF5 file"
_GYM = 2
_RANGE, _EPISODE = "w4rl_action_range", "w4rl_episode"


@dataclass(frozen=True, kw_only=True, slots=True)
class RobomimicConfig:
    """What to read; left open, it is the file's only image, end effector and gripper, its task, all demonstrations.

    success_reward: a transition with at least this reward leads to success. action_low, action_high: the robot's
    limits in the units of the file; without them, [-1, 1], or the range of the data if that is wider.
    """

    task: str | None = None
    image: str | None = None
    proprio: tuple[str, ...] | None = None
    mask: str | None = None
    success_reward: float = 1.0
    action_low: Bounds | None = None
    action_high: Bounds | None = None


def read_episodes(path: Path, config: RobomimicConfig) -> tuple[Schema, Iterator[Episode]]:
    """Open a file; every array's shape and type and all actions are checked here, frames are read with their episode.

    With `next_obs`, L actions give L + 1 rows; without, L rows, and the last action, whose consequence was not
    recorded, is zeroed. The reward of transition t belongs to observation t + 1. Seed: the demonstration's number;
    origin: the file's name. A file of `write_episodes` gives back its EpisodeInfo and action range instead. Memory:
    one episode, and the actions of all.
    """
    with readable(path, _KIND), open_hdf5(path, "r") as file:
        demos = list_demos(file, config.mask, path)
        first = next(iter(demos.values()))
        keys = choose_keys(first, config.image, config.proprio)
        size = require_square(first["obs"][keys.image].name, first["obs"][keys.image].shape)
        widths = [first["actions"].shape[-1], *(first["obs"][key].shape[-1] for key in keys.proprio)]
        for number, demo in demos.items():
            check_demo(demo, keys, size, widths)
            _info(file, demo, number, config)
        actions = np.concatenate([demo["actions"][:] for demo in demos.values()])
        low, high = choose_range(actions, config.action_low, config.action_high)
        scaled = config.action_low is None and bool(np.abs(actions).max() <= 1.0)
        if scaled:
            low, high = _noted_range(file, widths[0])
    schema = Schema(image_size=size, action_low=low, action_high=high, proprio_dim=sum(widths[1:]))
    if not scaled:
        normalise(actions, schema)
    return schema, _episodes(path, config, keys, schema, scaled)


def write_episodes(path: Path, schema: Schema, episodes: Iterable[Episode]) -> Exported:
    """Write a file with `obs` and `next_obs`, from which `read_episodes` gives back exactly these episodes.

    Actions stay in [-1, 1], as robomimic wants them; observations are `agentview_image` and `proprio`.
    """
    with staged(path) as temporary, open_hdf5(temporary, "w") as file:
        data = file.create_group("data")
        tasks: set[str] = set()
        count = total = 0
        for count, episode in enumerate(episodes, start=1):
            episode.check(schema)
            _write(data.create_group(f"demo_{count - 1}"), episode)
            total += len(episode) - 1
            tasks.add(episode.info.task)
        require_episodes(count, path)
        data.attrs["total"] = total
        data.attrs["env_args"] = json.dumps({"env_name": ", ".join(sorted(tasks)), "type": _GYM, "env_kwargs": {}})
        data.attrs[_RANGE] = json.dumps([schema.action_low, schema.action_high])
    note = "Landmarks have no place in this layout; the simulator's states are not part of an episode."
    return Exported(episodes=count, rows=total, note=note)


def _write(demo: Any, episode: Episode) -> None:
    demo.attrs["num_samples"] = len(episode) - 1
    demo.attrs[_EPISODE] = json.dumps({"info": asdict(episode.info), "starts_solved": bool(episode.success[0])})
    demo["actions"] = episode.actions[:-1]
    demo["rewards"] = episode.success[1:].astype(np.float32)
    demo["dones"] = np.arange(2, len(episode) + 1) == len(episode)
    for name, rows in (("obs", slice(0, -1)), ("next_obs", slice(1, None))):
        demo.create_dataset(
            f"{name}/agentview_image", data=episode.frames[rows], compression="gzip", compression_opts=1
        )
        demo[f"{name}/proprio"] = episode.proprio[rows]


def _episodes(path: Path, config: RobomimicConfig, keys: Keys, schema: Schema, scaled: bool) -> Iterator[Episode]:
    with readable(path, _KIND), open_hdf5(path, "r") as file:
        for number, demo in list_demos(file, config.mask, path).items():
            frames = _observations(demo, keys.image)
            proprio = [np.zeros((len(frames), 0)), *(_observations(demo, key) for key in keys.proprio)]
            commands = demo["actions"][:].astype(np.float32) if scaled else normalise(demo["actions"][:], schema)
            actions = np.zeros((len(frames), schema.action_dim), np.float32)
            actions[:-1] = commands[: len(frames) - 1]
            success = np.zeros(len(frames), np.bool_)
            success[0] = _noted(demo).get("starts_solved", False)
            success[1:] = demo["rewards"][: len(frames) - 1] >= config.success_reward
            info = _info(file, demo, number, config)
            episode = Episode(frames, actions, np.concatenate(proprio, axis=1).astype(np.float32), success, info)
            episode.check(schema)
            yield episode


def _observations(demo: Any, key: str) -> NDArray[Any]:
    rows: NDArray[Any] = demo["obs"][key][:]
    if "next_obs" not in demo:
        return rows
    return np.concatenate([rows, demo["next_obs"][key][-1:]])


def _info(file: Any, demo: Any, number: int, config: RobomimicConfig) -> EpisodeInfo:
    """Task, source and seed as our own export wrote them, unless a task is asked for; else what the file tells."""
    noted = _noted(demo).get("info")
    if noted and config.task is None:
        return EpisodeInfo(**noted)
    task = config.task or json.loads(file["data"].attrs.get("env_args", "{}")).get("env_name")
    if task is None:
        raise UserError(
            f"{file.filename} names no task", rule="every episode belongs to a task", remedy="Name the task."
        )
    succeeded = noted["succeeded"] if noted else bool((demo["rewards"][:] >= config.success_reward).any())
    origin = Path(file.filename).name
    return EpisodeInfo(task=task, source="imported", seed=number, succeeded=succeeded, origin=origin)


def _noted(demo: Any) -> dict[str, Any]:
    """What our own export says about an episode beyond the format."""
    noted: dict[str, Any] = json.loads(demo.attrs.get(_EPISODE, "{}"))
    return noted


def _noted_range(file: Any, dimensions: int) -> tuple[Bounds, Bounds]:
    """What -1 and +1 mean, as our own export says."""
    default = [[-1.0] * dimensions, [1.0] * dimensions]
    low, high = json.loads(file["data"].attrs.get(_RANGE, json.dumps(default)))
    return tuple(low), tuple(high)
