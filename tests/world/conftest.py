"""A small recorded store that a tiny world can be trained on."""

import numpy as np
import pytest

from w4rl_fast.data.episode import Episode, EpisodeInfo, Schema
from w4rl_fast.data.store import Store, writing

SCHEMA = Schema(image_size=16, action_low=(-1.0,) * 2, action_high=(1.0,) * 2, proprio_dim=3)


@pytest.fixture(scope="session")
def memory_store(tmp_path_factory) -> Store:
    """Twelve episodes of eight observations of a bright square that follows the actions."""
    path = tmp_path_factory.mktemp("world") / "store"
    with writing(path, SCHEMA, {"test/square": {}}) as writer:
        for seed in range(12):
            rng = np.random.default_rng(seed)
            actions = rng.uniform(-1, 1, (8, 2)).astype(np.float32)
            actions[-1] = 0
            place = np.concatenate([[[8.0, 8.0]], 8 + np.cumsum(actions[:-1] * 2, 0)]).clip(2, 13)
            frames = np.zeros((8, 16, 16, 3), np.uint8)
            for frame, (x, y) in zip(frames, place.astype(int), strict=True):
                frame[y - 2 : y + 2, x - 2 : x + 2] = 255
            proprio = np.concatenate([place / 16, np.zeros((8, 1))], 1).astype(np.float32)
            info = EpisodeInfo(task="test/square", source="random", seed=seed, succeeded=False)
            writer.add(Episode(frames, actions, proprio, np.zeros(8, np.bool_), info))
    return Store(path)
