"""The published loop imagines what the engine does: only then is its time a baseline."""

import dataclasses

import pytest
import torch

from w4rl_fast.imagine import Imagination, ImaginationConfig, Rollouts, StartConfig, load_starts
from w4rl_fast.imagine.baseline import Loop
from w4rl_fast.policy import GaussianPolicy
from w4rl_fast.reward import Rule


@pytest.mark.parametrize(("steps", "history"), [(1, 1), (3, 2)])
def test_the_first_step_of_the_published_loop_is_that_of_the_engine(
    world, reward, policy, store, steps, history
) -> None:
    policy = GaussianPolicy(dataclasses.replace(policy.config, history=history)).eval()
    rule = Rule(threshold=0.6, hits=1)
    starts = load_starts(store, world.config, StartConfig(task="test/square"))
    config = ImaginationConfig(num_worlds=5, slice_size=5, horizon=9, sampling_steps=steps, precision="float32")
    worlds = Imagination(world, reward, rule, starts, config)
    first = Loop(world, reward, rule, policy, starts, 5, steps).rollout(3, seed=4)
    out = Rollouts(worlds).rollout(policy, None, 1, 4)
    worlds.reset(4)
    final = worlds.step(out.actions[0])[2]
    assert (final.frames.float() - (first + 1) * 127.5).abs().max() < 0.01
    assert torch.isfinite(first).all()
