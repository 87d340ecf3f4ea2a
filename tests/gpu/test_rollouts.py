"""Imagined worlds on a GPU: as on a CPU but for its arithmetic, recorded as played, and never waiting for the host.

Random weights and starts: where bench.gpu runs this there is no store. Where there is no GPU it runs on a CPU, without
what only a GPU has.
"""

import copy
import dataclasses

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from bench.qualify.parts import RULE, parts_of
from bench.qualify.rollouts import again
from w4rl_fast.imagine import Imagination, ImaginationConfig, Rollouts
from w4rl_fast.imagine.capture import cuda_graph
from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.refine import PPO, PPOConfig
from w4rl_fast.reward import Rule
from w4rl_kernels import attention, edm_step, noise, norm_act

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
SWITCHES = (attention.SWITCH, norm_act.SWITCH, edm_step.SWITCH, noise.SWITCH)
COUNT, STEPS = 6, 5
on_gpu = pytest.mark.skipif(not GPU, reason="torch sees no GPU here")


@pytest.fixture(params=["auto", pytest.param("gpu", marks=on_gpu)])
def _kernels(request, monkeypatch):
    for switch in SWITCHES:
        monkeypatch.setattr(switch, "asked", request.param)


@pytest.fixture(params=[None, cuda_graph if GPU else again], ids=["played", "recorded"])
def recorder(request):
    return request.param


def worlds(device: str = DEVICE, rule: Rule = RULE) -> Imagination:
    parts = parts_of("nano", device)
    config = ImaginationConfig(
        num_worlds=COUNT, horizon=4, slice_size=4, sampling_steps=2, precision="float32"
    )  # fmt: skip
    return Imagination(parts.world, parts.reward, rule, parts.starts, config)


def policy_of(device: str = DEVICE) -> GaussianPolicy:
    return parts_of("nano", device).policy


def value(frames, proprio):
    return frames.flatten(1).mean(1) + proprio.flatten(1).sum(1)


def copied(rollout) -> dict[str, torch.Tensor]:
    return {field.name: getattr(rollout, field.name).clone() for field in dataclasses.fields(rollout)}


@on_gpu
@pytest.mark.usefixtures("_kernels")
def test_the_first_frames_are_those_of_the_cpu() -> None:
    wanted = copied(Rollouts(worlds("cpu")).rollout(policy_of("cpu"), None, 2, 21))
    made = copied(Rollouts(worlds()).rollout(policy_of(), None, 2, 21))
    assert torch.equal(made["frames"][0].cpu(), wanted["frames"][0]), "starts are drawn alike"
    assert (made["frames"].cpu().int() - wanted["frames"].int()).abs().max() <= 3
    torch.testing.assert_close(made["actions"][0].cpu(), wanted["actions"][0], atol=1e-3, rtol=1e-3)


@pytest.mark.usefixtures("_kernels")
def test_a_recorded_rollout_is_the_played_one() -> None:
    played, recorded = Rollouts(worlds()), Rollouts(worlds(), recorder=cuda_graph if GPU else again)
    for seed in (21, 4, 77):
        wanted = copied(played.rollout(policy_of(), value, STEPS, seed))
        made = copied(recorded.rollout(policy_of(), value, STEPS, seed))
        for name, each in wanted.items():
            assert torch.equal(made[name], each), (seed, name)
    assert wanted["truncated"].any(), "worlds began anew on the way"


@on_gpu
@pytest.mark.usefixtures("_kernels")
def test_a_replay_takes_no_memory() -> None:
    rollouts = Rollouts(worlds(), recorder=cuda_graph)
    rollouts.rollout(policy_of(), value, STEPS, 1)
    _, replay, _ = rollouts._recorded
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    replay()
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


@on_gpu
@pytest.mark.usefixtures("_kernels")
def test_no_rollout_waits_for_the_host() -> None:
    """Its reset is part of it."""
    rollouts = Rollouts(worlds())
    rollouts.rollout(policy_of(), value, STEPS, 1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        rollouts.rollout(policy_of(), value, STEPS, 2)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_policy_learns_there(tmp_path, recorder) -> None:
    """Its weights in place, so that one recording serves every iteration."""
    config = PPOConfig(
        worlds=COUNT, steps=STEPS, iterations=3, learning_rate=3e-3, value_warm_up=0, precision="float32"
    )  # fmt: skip
    rollouts = Rollouts(worlds(rule=Rule(threshold=1e-6, hits=2)), recorder=recorder)
    learner = copy.deepcopy(policy_of()).requires_grad_()
    ppo, clone = PPO(learner, rollouts, config, tmp_path), parameters_to_vector(learner.parameters())
    recordings = set()
    for _ in range(config.iterations):
        ppo.iterate()
        recordings.add(id(rollouts._recorded))
    assert not torch.equal(parameters_to_vector(ppo.policy.parameters()), clone)
    assert ppo.rollout.rewards.device.type == DEVICE
    assert len(recordings) == 1
