from types import SimpleNamespace

import numpy as np
import pytest
import torch

from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.errors import UserError
from w4rl_fast.policy import GaussianPolicy, PolicyConfig, policy_actor, save_policy
from w4rl_fast.policy.actor import PolicyActor
from w4rl_fast.tasks import Observation, TaskConfig

TASK = SimpleNamespace(
    config=TaskConfig(name="toy", image_size=8), action_low=(-1.0, -0.5), action_high=(1.0, 2.0), proprio_dim=3
)
RNG = np.random.default_rng(0)


def make(history, *, size=8, action_dim=2, proprio_dim=3):
    torch.manual_seed(0)
    settings = {"image_size": size, "action_dim": action_dim, "proprio_dim": proprio_dim, "history": history}
    return GaussianPolicy(PolicyConfig(widths=(8, 8), hidden=16, **settings)).eval()


def observations(episode):
    for frame, proprio, success in zip(episode.frames, episode.proprio, episode.success, strict=True):
        yield Observation(frame, proprio, bool(success))


@pytest.mark.parametrize("history", [1, 2, 4, 9])
def test_it_sees_on_the_robot_what_it_saw_in_training(mixed_store, history):
    """Its action at every moment is the policy's on the window that training cuts there, also at the beginning."""
    policy = make(history)
    config = WindowConfig(history=history, future=0, held_out=0.0)
    batch = next(Windows(mixed_store, config).in_order(10_000))
    with torch.no_grad():
        expected = policy(batch.frames, batch.proprio)[0].clamp(-1, 1).numpy()
    actor = PolicyActor(policy)
    for episode in range(0, len(mixed_store), 7):
        actor.begin(TASK, RNG)
        acted = np.stack([actor.act(seen) for seen in observations(mixed_store.read(episode))])
        np.testing.assert_allclose(acted, expected[batch.episode == episode], atol=1e-5)


def test_a_new_episode_begins_without_memory(mixed_store):
    actor = PolicyActor(make(4))
    first, second = (list(observations(mixed_store.read(number))) for number in (5, 6))
    actor.begin(TASK, RNG)
    fresh = [actor.act(seen) for seen in first]
    for seen in second:
        actor.act(seen)
    actor.begin(TASK, RNG)
    np.testing.assert_array_equal([actor.act(seen) for seen in first], fresh)


def test_it_plays_the_mean_within_the_bounds(mixed_store):
    policy = make(1)
    policy.head[-1].bias.data[:] = torch.tensor([7.0, -7.0])
    actor = PolicyActor(policy)
    actor.begin(TASK, RNG)
    action = actor.act(next(observations(mixed_store.read(0))))
    assert action.dtype == np.float32
    np.testing.assert_array_equal(action, [1, -1])


def test_a_policy_of_another_image_size_is_refused(tmp_path):
    save_policy(tmp_path, make(1, size=16))
    with pytest.raises(UserError, match=r"8x8.*sees 16x16.*--size 16"):
        policy_actor(tmp_path, TASK.config)
    assert policy_actor(tmp_path, TaskConfig(name="toy", image_size=16))


@pytest.mark.parametrize("other", [{"action_dim": 4}, {"proprio_dim": 4}])
def test_a_policy_of_another_robot_is_refused(other):
    with pytest.raises(UserError, match=r"toy with 2 actions, 3 of proprioception.*4"):
        PolicyActor(make(1, **other)).begin(TASK, RNG)
