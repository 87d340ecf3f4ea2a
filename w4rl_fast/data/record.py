"""Record one episode of a task."""

import zlib
from dataclasses import dataclass

import numpy as np

from w4rl_fast.data.actors import Actor
from w4rl_fast.data.episode import SOURCES, Episode, EpisodeInfo, Schema, episode_key
from w4rl_fast.errors import UserError
from w4rl_fast.tasks.protocol import Observation, Task, Vector

SOURCE_BITS, NUMBER_BITS, SEED_LIMIT = 3, 17, 1 << 10
JUDGING_SEED = SEED_LIMIT << (SOURCE_BITS + NUMBER_BITS)
"""Seeds from here on, 2^30, are for judging; nothing that learns ever meets them."""
TUNING_SEEDS = 1 << NUMBER_BITS
TUNING_SEED = JUDGING_SEED - TUNING_SEEDS
"""The last seeds before those: they would be an eighth source's, and are there to choose settings on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One episode to be recorded."""

    task: str
    source: str
    seed: int
    origin: str = ""

    @property
    def key(self) -> str:
        return episode_key(self.task, self.source, self.seed, self.origin)


def episode_seed(seed: int, source: str, number: int) -> int:
    """The seed of one recorded episode, below `TUNING_SEED`: no two sources or numbers share one.

    Seeds from 2^30 on are kept for evaluation, so that no policy is ever judged on an episode it has learnt from.
    """
    if not 0 <= seed < SEED_LIMIT or number >= 1 << NUMBER_BITS:
        raise UserError(
            f"seed {seed}, episode {number}",
            rule=f"seeds lie in 0..{SEED_LIMIT - 1}, and a seed gives {1 << NUMBER_BITS} episodes of a source",
            remedy="Choose another --seed",
        )
    return seed << (SOURCE_BITS + NUMBER_BITS) | SOURCES.index(source) << NUMBER_BITS | number


def record_episode(task: Task, actor: Actor, job: Job) -> Episode:
    """Run one episode from the job's seed to the task's horizon."""
    rng = np.random.default_rng([job.seed, zlib.crc32(job.key.encode())])
    observations = [task.reset(job.seed)]
    actions: list[Vector] = []
    actor.begin(task, rng)
    for _ in range(task.config.horizon):
        actions.append(np.asarray(actor.act(observations[-1]), dtype=np.float32))
        observations.append(task.step(actions[-1]))
    info = EpisodeInfo(task=job.task, source=job.source, seed=job.seed, succeeded=task.succeeded, origin=job.origin)
    return assemble(observations, actions, info)


def assemble(observations: list[Observation], actions: list[Vector], info: EpisodeInfo) -> Episode:
    """An episode of L observations and the L - 1 actions between them."""
    last = np.zeros_like(actions[0])
    landmarks = [observation.landmarks for observation in observations if observation.landmarks is not None]
    return Episode(
        np.stack([observation.frame for observation in observations]),
        np.stack([*actions, last]),
        np.stack([observation.proprio for observation in observations]),
        np.array([observation.success for observation in observations], dtype=np.bool_),
        info,
        np.stack(landmarks) if len(landmarks) == len(observations) else None,
    )


def schema_of(task: Task) -> Schema:
    return Schema(
        image_size=task.config.image_size,
        action_low=task.action_low,
        action_high=task.action_high,
        proprio_dim=task.proprio_dim,
        landmark_dim=task.landmark_dim,
    )
