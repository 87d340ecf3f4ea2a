"""The real simulator given a recorded episode's seed."""

import numpy as np
import pytest

from w4rl_fast.data.actors import Actor
from w4rl_fast.data.record import Job, record_episode
from w4rl_fast.tasks import default_config, make_task
from w4rl_fast.truth.replay import ReplayJob, replay_one


class Wanderer(Actor):
    """Takes its actions from the generator of the episode."""

    def begin(self, task, rng):
        self.rng = rng

    def act(self, observation):
        return self.rng.uniform(-1, 1, 4).astype(np.float32)


def test_it_repeats_the_recording_and_mirrored_actions_go_elsewhere():
    pytest.importorskip("metaworld")
    config = default_config("metaworld/reach-v3", image_size=16)
    task = make_task(config)
    episode = record_episode(task, Wanderer(), Job(task=config.name, source="random", seed=5))
    own = episode.actions[:3]
    task.reset(6)  # another episode lies between
    replayed = replay_one(task, ReplayJob(0, config, 5, np.stack([own, -own, own])))
    np.testing.assert_array_equal(replayed.frames[0], episode.frames[:4])
    np.testing.assert_array_equal(replayed.proprio[0], episode.proprio[:4])
    np.testing.assert_array_equal(replayed.frames[2], replayed.frames[0])
    np.testing.assert_array_equal(replayed.frames[1, 0], replayed.frames[0, 0])
    assert np.abs(replayed.proprio[1, -1, :3] - replayed.proprio[0, -1, :3]).max() > 0.01
    task.close()
