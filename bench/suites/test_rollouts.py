"""Ten steps of 32 imagined worlds: the published loop, and ours in three steps and in one."""

import pytest

from w4rl_fast.imagine import Imagination, ImaginationConfig, Rollouts
from w4rl_fast.imagine.baseline import Loop
from w4rl_fast.reward.config import Rule

WORLDS, STEPS, NEVER = 32, 10, Rule(threshold=0.999999, hits=3)


@pytest.mark.benchmark(group="rollout of 32 worlds, 10 steps")
def test_published_loop(benchmark, world, reward, policy, starts) -> None:
    loop = Loop(world, reward, NEVER, policy, starts, WORLDS, 3)
    benchmark.pedantic(loop.rollout, (STEPS,), rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="rollout of 32 worlds, 10 steps")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("steps", [3, 1])
def test_our_loop(benchmark, world, reward, policy, starts, precision, steps) -> None:
    config = ImaginationConfig(
        num_worlds=WORLDS, horizon=STEPS, slice_size=WORLDS, sampling_steps=steps, precision=precision
    )
    rollouts = Rollouts(Imagination(world, reward, NEVER, starts, config, engine="eager"))
    benchmark.pedantic(rollouts.rollout, (policy, None, STEPS, 0), rounds=3, warmup_rounds=1)
