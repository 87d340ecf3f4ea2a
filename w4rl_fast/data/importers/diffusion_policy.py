"""Diffusion Policy's replay buffer: a zarr group with `data/<key>` rows of all episodes end to end, and their ends."""

import importlib
import logging
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.config import to_json_dict
from w4rl_fast.data.episode import Episode, EpisodeInfo, Schema
from w4rl_fast.data.importers import push_t
from w4rl_fast.data.importers.action_range import Bounds, choose_range, denormalise, normalise
from w4rl_fast.data.importers.checks import require_episodes
from w4rl_fast.data.importers.replay_buffer import ReplayBuffer, open_buffer
from w4rl_fast.data.importers.staging import Exported, readable, staged
from w4rl_fast.errors import UserError

KIND = "a Diffusion Policy replay buffer"
_CHUNK_BYTES = 2_000_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffusionPolicyConfig:
    """Which arrays are what; `state_dim` keeps the first columns of the state.

    action_low, action_high: the robot's limits in its own units; without them, the range of the data. Of the task
    push-t the importer knows what the columns of state and action mean: the block becomes landmarks.
    """

    task: str
    image: str = "img"
    action: str = "action"
    state: str | None = "state"
    state_dim: int | None = None
    action_low: Bounds | None = None
    action_high: Bounds | None = None


def read_episodes(path: Path, config: DiffusionPolicyConfig) -> tuple[Schema, Iterator[Episode]]:
    """Open a folder or a zip file; layout and actions are checked here, frames as their episode is read.

    The last row of an episode has an action whose consequence was not recorded: it is zeroed. The layout does not say
    what succeeded, so nothing counts as success but in push-t. Seed: the episode's place in the file; origin: the
    file's name. Float images must hold whole numbers from 0 to 255. Memory: one episode, and the actions of all.
    """
    with readable(path, KIND), open_arrays(path, config) as buffer:
        schema = schema_of(buffer, path, config)
    return schema, _episodes(path, config, schema)


def task_settings(path: Path, config: DiffusionPolicyConfig) -> dict[str, Any]:
    """With which a simulator can repeat these episodes; none where it is not known of the task."""
    with readable(path, KIND), open_arrays(path, config) as buffer:
        return to_json_dict(push_t.settings_of(buffer)) if push_t.is_push_t(buffer, config) else {}


def schema_of(buffer: ReplayBuffer, path: Path, config: DiffusionPolicyConfig) -> Schema:
    """The schema of an opened buffer, once its actions and its first image are found to fit."""
    if buffer.ignored:
        _log.warning("%s: data/{%s} has no place in a store and is ignored", path, ",".join(buffer.ignored))
    commands = np.asarray(buffer.actions[:])
    low, high, proprio_dim, landmark_dim = config.action_low, config.action_high, _proprio_dim(buffer, config), 0
    if push_t.is_push_t(buffer, config):
        proprio_dim, landmark_dim = push_t.DISC, push_t.MARKS
        low, high = (push_t.LOW, push_t.HIGH) if low is high is None else (low, high)
    low, high = choose_range(commands, low, high)
    schema = Schema(
        image_size=buffer.images.shape[1], action_low=low, action_high=high, proprio_dim=proprio_dim,
        landmark_dim=landmark_dim,
    )  # fmt: skip
    normalise(commands, schema)
    _whole(buffer.images[:1], 0)
    return schema


def write_episodes(path: Path, schema: Schema, episodes: Iterable[Episode]) -> Exported:
    """Write a zarr v2 folder, one row per action: `img`, `action` in the robot's units, `state` the proprioception and,
    in push-t, the block.

    The final observation of an episode and the success of its rows have no place in this layout and are left out.
    """
    if path.suffix == ".zip":
        raise UserError(f"{path}", rule="an export is a folder", remedy=f"Write {path.stem} and zip it afterwards.")
    import zarr

    with staged(path) as temporary, zarr.config.set({"array.write_empty_chunks": True}):
        data = zarr.open_group(temporary, mode="w-", zarr_format=2).create_group("data")
        ends: list[int] = []
        for episode in episodes:
            episode.check(schema)
            ends.append(len(episode) - 1 + (ends[-1] if ends else 0))
            _append(data, "img", episode.frames[:-1])
            _append(data, "action", denormalise(episode.actions[:-1], schema))
            state = push_t.states_of(episode) if push_t.has_states(episode) else episode.proprio
            if state.shape[1]:
                _append(data, "state", state[:-1])
        require_episodes(len(ends), path)
        zarr.create_array(temporary, name="meta/episode_ends", data=np.array(ends), zarr_format=2)
    note = "The final observation of each episode, source, seed, success and landmarks have no place in this layout."
    return Exported(episodes=len(ends), rows=ends[-1], note=note)


def _append(data: Any, name: str, rows: NDArray[Any]) -> None:
    """Lengthen an array of the group, creating it on the first call."""
    if name not in data:
        chunks = (max(1, _CHUNK_BYTES // rows[0].nbytes), *rows.shape[1:])
        codec = importlib.import_module("numcodecs").Blosc("zstd", clevel=5)
        data.create_array(name, shape=(0, *rows.shape[1:]), chunks=chunks, dtype=rows.dtype, compressors=codec)
    data[name].append(rows)


def open_arrays(path: Path, config: DiffusionPolicyConfig) -> AbstractContextManager[ReplayBuffer]:
    return open_buffer(path, image=config.image, action=config.action, state=config.state)


def _proprio_dim(buffer: ReplayBuffer, config: DiffusionPolicyConfig) -> int:
    width = 0 if buffer.states is None else buffer.states.shape[1]
    chosen = width if config.state_dim is None else config.state_dim
    if not 0 <= chosen <= width:
        raise UserError(
            f"state_dim {chosen}", rule=f"the state has {width} columns", remedy="Choose a number from 0 to that."
        )
    return chosen


def episode_of(buffer: ReplayBuffer, index: int, path: Path, config: DiffusionPolicyConfig, schema: Schema) -> Episode:
    """Episode `index` of an opened buffer."""
    first, last = (int(buffer.ends[index - 1]) if index else 0), int(buffer.ends[index])
    frames = _whole(buffer.images[first:last], first)
    actions = normalise(np.asarray(buffer.actions[first:last]), schema, first_row=first)
    actions[-1] = 0.0
    states = np.zeros((len(frames), 0)) if buffer.states is None else np.asarray(buffer.states[first:last])
    success, landmarks = np.zeros(len(frames), np.bool_), None
    if push_t.is_push_t(buffer, config):
        success, landmarks = push_t.successes(states), push_t.landmarks(states)
    info = imported(path, config, index, succeeded=bool(success.any()))
    proprio = states[:, : schema.proprio_dim].astype(np.float32)
    episode = Episode(frames, actions, proprio, success, info, landmarks)
    episode.check(schema)
    return episode


def imported(path: Path, config: DiffusionPolicyConfig, index: int, *, succeeded: bool) -> EpisodeInfo:
    return EpisodeInfo(task=config.task, source="imported", seed=index, succeeded=succeeded, origin=path.name)


def infos_of(buffer: ReplayBuffer, path: Path, config: DiffusionPolicyConfig) -> list[EpisodeInfo]:
    """Of every episode of an opened buffer."""
    verdicts = [False] * len(buffer.ends)
    if buffer.states is not None and push_t.is_push_t(buffer, config):
        rows = np.split(push_t.successes(np.asarray(buffer.states[:])), buffer.ends[:-1])
        verdicts = [bool(success.any()) for success in rows]
    return [imported(path, config, index, succeeded=succeeded) for index, succeeded in enumerate(verdicts)]


def _episodes(path: Path, config: DiffusionPolicyConfig, schema: Schema) -> Iterator[Episode]:
    with readable(path, KIND), open_arrays(path, config) as buffer:
        for index in range(len(buffer.ends)):
            yield episode_of(buffer, index, path, config, schema)


def _whole(images: Any, first_row: int) -> NDArray[np.uint8]:
    """Images (L, H, W, 3) as uint8, refusing any value that this would change."""
    values = np.asarray(images)
    if values.dtype == np.uint8:
        return values
    same = (values >= 0) & (values <= 255) & (values == np.rint(values))
    bad = np.flatnonzero(~same.all(axis=(1, 2, 3)))
    if bad.size:
        row = values[bad[0]]
        raise UserError(
            f"image of row {first_row + bad[0]} has values from {row.min():g} to {row.max():g}",
            rule="an image holds whole numbers from 0 to 255",
            remedy="Scale and round the images first; those in [0, 1] times 255.",
        )
    return values.astype(np.uint8)
