"""A small store in which a square that has reached the right edge is a success."""

import numpy as np
import pytest

from w4rl_fast.data.episode import Episode, EpisodeInfo, Schema
from w4rl_fast.data.store import Store, writing

SCHEMA = Schema(image_size=16, action_low=(-1.0,) * 2, action_high=(1.0,) * 2, proprio_dim=2)
TASK = "test/square"


def write_store(path, outcomes, *, size=16, length=8) -> Store:
    """One episode for each outcome: successes arrive at the edge at some step and stay, failures stop before it."""
    schema = Schema(image_size=size, action_low=(-1.0,) * 2, action_high=(1.0,) * 2, proprio_dim=2)
    with writing(path, schema, {TASK: {}}) as writer:
        for seed, succeeds in enumerate(outcomes):
            rng = np.random.default_rng(seed)
            end = size - 2 if succeeds else size - 6
            x = np.minimum(2 + 2 * np.arange(length) + rng.integers(0, 3), end)
            y = rng.integers(2, size - 2)
            frames = np.zeros((length, size, size, 3), np.uint8)
            for frame, at in zip(frames, x, strict=True):
                frame[y - 2 : y + 2, at - 2 : at + 2] = 255
            actions = np.zeros((length, 2), np.float32)
            actions[:-1, 0] = np.diff(x) / 2
            proprio = np.stack([x / size, np.full(length, y / size)], 1).astype(np.float32)
            info = EpisodeInfo(task=TASK, source="policy" if seed % 2 else "noisy", seed=seed, succeeded=bool(succeeds))
            writer.add(Episode(frames, actions, proprio, x >= size - 2, info))
    return Store(path)


@pytest.fixture(scope="session")
def square_store(tmp_path_factory) -> Store:
    """Forty episodes, every second pair a failure."""
    outcomes = [number % 4 < 2 for number in range(40)]
    return write_store(tmp_path_factory.mktemp("reward") / "store", outcomes)
