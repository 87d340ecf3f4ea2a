"""Imagined worlds on a GPU: as on a CPU but for its arithmetic, recorded as played, and never waiting for the host."""

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from tests.imagine.test_rollout import copied, value
from w4rl_fast.imagine import Rollouts
from w4rl_fast.imagine.capture import cuda_graph
from w4rl_fast.imagine.guards import GuardConfig, Guards
from w4rl_fast.refine import PPO, PPOConfig
from w4rl_kernels import attention, edm_step, noise, norm_act

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
SWITCHES = (attention.SWITCH, norm_act.SWITCH, edm_step.SWITCH, noise.SWITCH)
STEPS = 5


@pytest.fixture(params=["auto", "gpu"])
def _kernels(request, monkeypatch):
    for switch in SWITCHES:
        monkeypatch.setattr(switch, "asked", request.param)


@pytest.fixture
def there(imagine, world, reward, starts):
    """Worlds on the GPU; the networks that others use stay on the CPU."""

    def make(count=6, **settings):
        parts = {"world": world.to("cuda"), "reward": reward.to("cuda"), "starts": starts.to("cuda")}
        return imagine(count, **parts, **settings)

    yield make
    world.cpu()
    reward.cpu()


@pytest.mark.usefixtures("_kernels")
def test_the_first_frames_are_those_of_the_cpu(imagine, there, policy) -> None:
    wanted = copied(Rollouts(imagine(6)).rollout(policy, None, 2, 21))
    made = copied(Rollouts(there()).rollout(policy.cuda(), None, 2, 21))
    policy.cpu()
    assert torch.equal(made["frames"][0].cpu(), wanted["frames"][0]), "starts are drawn alike"
    assert (made["frames"].cpu().int() - wanted["frames"].int()).abs().max() <= 2
    torch.testing.assert_close(made["actions"][0].cpu(), wanted["actions"][0], atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("_kernels")
def test_a_recorded_rollout_is_the_played_one(there, policy) -> None:
    policy = policy.cuda()
    played, recorded = Rollouts(there()), Rollouts(there(), recorder=cuda_graph)
    for seed in (21, 4, 77):
        wanted = copied(played.rollout(policy, value, STEPS, seed))
        made = copied(recorded.rollout(policy, value, STEPS, seed))
        for name, each in wanted.items():
            assert torch.equal(made[name], each), (seed, name)
    policy.cpu()


@pytest.mark.usefixtures("_kernels")
def test_a_replay_takes_no_memory(there, policy) -> None:
    rollouts = Rollouts(there(), recorder=cuda_graph)
    rollouts.rollout(policy.cuda(), value, STEPS, 1)
    _, replay, _ = rollouts._recorded
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    replay()
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before
    policy.cpu()


@pytest.mark.usefixtures("_kernels")
def test_no_rollout_waits_for_the_host(there, policy) -> None:
    policy, rollouts = policy.cuda(), Rollouts(there())
    rollouts.rollout(policy, value, STEPS, 1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        out, sight = rollouts._allocate(policy, STEPS)
        with torch.no_grad():
            rollouts._play(policy, value, out, sight)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    policy.cpu()


def test_guards_look_at_a_rollout_there(there, policy, windows) -> None:
    worlds = there()
    rollout = Rollouts(worlds).rollout(policy.cuda(), None, STEPS, 21)
    figures = Guards(windows, GuardConfig(rise=1.0), worlds)(1, rollout)
    assert all(0 <= each <= 1 for each in figures.values())
    policy.cpu()


@pytest.mark.parametrize("recorder", [None, cuda_graph])
def test_a_policy_learns_there(there, policy, tmp_path, recorder) -> None:
    config = PPOConfig(worlds=8, steps=6, iterations=3, learning_rate=3e-3, value_warm_up=0, precision="float32")
    policy = policy.cuda()
    ppo = PPO(policy, Rollouts(there(8), recorder=recorder), config, tmp_path)
    for _ in range(config.iterations):
        ppo.iterate()
    ppo.save()
    again = PPO(policy, Rollouts(there(8), recorder=recorder), config, tmp_path)
    assert again.iteration == config.iterations
    learnt, taken_up, clone = (parameters_to_vector(one.parameters()) for one in (ppo.policy, again.policy, policy))
    assert torch.equal(learnt, taken_up)
    assert not torch.equal(learnt, clone)
    again.iterate()
    policy.cpu()
