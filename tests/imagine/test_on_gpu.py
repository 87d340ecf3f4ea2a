"""What refines on a GPU beside the rollouts of tests/gpu: guards over recorded data, and a policy that is taken up."""

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from w4rl_fast.imagine import Rollouts
from w4rl_fast.imagine.guards import GuardConfig, Guards
from w4rl_fast.refine import PPO, PPOConfig

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")


@pytest.fixture
def there(imagine, world, reward, starts, policy):
    """Worlds on the GPU, and the policy there; networks that others use come back."""
    networks = (world, reward, policy)
    for each in networks:
        each.to("cuda")
    yield lambda count: imagine(count, world=world, reward=reward, starts=starts.to("cuda"))
    for each in networks:
        each.cpu()


def test_guards_look_at_a_rollout_there(there, policy, windows) -> None:
    worlds = there(6)
    rollout = Rollouts(worlds).rollout(policy, None, 5, 21)
    figures = Guards(windows, GuardConfig(rise=1.0), worlds)(1, rollout)
    assert all(0 <= each <= 1 for each in figures.values())


def test_what_was_learnt_there_is_taken_up_there(there, policy, tmp_path) -> None:
    config = PPOConfig(worlds=8, steps=6, iterations=3, learning_rate=3e-3, value_warm_up=0, precision="float32")
    ppo = PPO(policy, Rollouts(there(8)), config, tmp_path)
    for _ in range(config.iterations):
        ppo.iterate()
    ppo.save()
    again = PPO(policy, Rollouts(there(8)), config, tmp_path)
    assert again.iteration == config.iterations
    learnt, taken_up = (parameters_to_vector(each.policy.parameters()) for each in (ppo, again))
    assert torch.equal(learnt, taken_up)
    assert taken_up.is_cuda
    again.iterate()
