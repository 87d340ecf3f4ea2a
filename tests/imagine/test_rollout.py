"""A rollout: every row belongs together, nothing but the arguments matters, and storage is used again."""

import pytest
import torch
from torch.distributions import Normal

from w4rl_fast.errors import UserError
from w4rl_fast.imagine import Rollouts, memory_plan
from w4rl_fast.policy import GaussianPolicy
from w4rl_fast.policy.gaussian import PolicyConfig

STEPS = 11
FIELDS = ("frames", "proprio", "actions", "log_probs", "values", "rewards", "terminated", "truncated", "final_values")


def value(frames, proprio):
    """A value anyone can compute."""
    return frames.mean((1, 2, 3, 4)) + proprio.sum((1, 2))


def floats(frames):
    return frames.movedim(-1, -3).float() / 127.5 - 1


def copied(out):
    return {name: getattr(out, name).clone() for name in (*FIELDS, "last_values", "probabilities")}


@pytest.fixture(params=[1, 2])
def acting(request) -> GaussianPolicy:
    torch.manual_seed(5)
    config = PolicyConfig(image_size=16, action_dim=2, proprio_dim=2, widths=(8, 8), hidden=16, history=request.param)
    return GaussianPolicy(config).eval()


@torch.no_grad()
def test_every_row_belongs_together(imagine, acting) -> None:
    out = Rollouts(imagine(6)).rollout(acting, value, STEPS, 21)
    history = acting.config.history
    assert out.frames.shape == (STEPS, 6, history, 16, 16, 3)
    assert out.frames.dtype is torch.uint8
    again, ended = imagine(6), 0
    again.reset(21)
    for t in range(STEPS):
        seen = floats(out.frames[t])
        now = again.observe()
        assert torch.equal(out.frames[t, :, -1].movedim(-1, 1), now.frames)
        assert torch.equal(out.proprio[t, :, -1], now.proprio)
        mean, std = acting(seen, out.proprio[t])
        torch.testing.assert_close(out.log_probs[t], Normal(mean, std).log_prob(out.actions[t]).sum(-1))
        torch.testing.assert_close(out.values[t], value(seen, out.proprio[t]))
        _, outcome, final = again.step(out.actions[t])
        assert torch.equal(out.rewards[t], outcome.reward)
        assert torch.equal(out.terminated[t], outcome.terminated)
        assert torch.equal(out.truncated[t], outcome.truncated)
        assert torch.equal(out.probabilities[t], outcome.probability)
        done = outcome.terminated | outcome.truncated
        following = out.values[t + 1] if t + 1 < STEPS else out.last_values
        torch.testing.assert_close(out.final_values[t][~done], following[~done])
        last = torch.cat([out.frames[t, :, 1:].movedim(-1, -3), final.frames[:, None]], 1).float() / 127.5 - 1
        body = torch.cat([out.proprio[t, :, 1:], final.proprio[:, None]], 1)
        torch.testing.assert_close(out.final_values[t], value(last, body))
        ended += int(done.sum())
    assert ended >= 12


def test_nothing_but_the_arguments_matters(imagine, policy) -> None:
    used, fresh = Rollouts(imagine(6)), Rollouts(imagine(6))
    used.rollout(policy, None, 4, 99)
    ours, theirs = copied(used.rollout(policy, value, STEPS, 7)), copied(fresh.rollout(policy, value, STEPS, 7))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    other = copied(fresh.rollout(policy, value, STEPS, 8))
    assert not torch.equal(ours["actions"], other["actions"])


def test_a_world_acts_alone_as_among_others(imagine, policy) -> None:
    """Its noise is its own; the policy's kernels see another shape, which may change the last bit."""
    whole = copied(Rollouts(imagine(6)).rollout(policy, value, 3, 7))
    alone = copied(Rollouts(imagine(1)).rollout(policy, value, 3, 9))
    torch.testing.assert_close(alone["actions"], whole["actions"][:, 2:3], atol=1e-3, rtol=0)
    assert (alone["frames"].int() - whole["frames"][:, 2:3].int()).abs().max() <= 2


def test_the_noise_of_actions_is_normal_and_never_repeats(imagine, policy) -> None:
    out = Rollouts(imagine(64, slice_size=16)).rollout(policy, None, STEPS, 0)
    with torch.no_grad():
        mean, std = policy(floats(out.frames.flatten(0, 1)), out.proprio.flatten(0, 1))
    noise = (out.actions.flatten(0, 1) - mean) / std
    assert abs(noise.mean()) < 4 / noise.numel() ** 0.5
    assert abs(noise.square().mean() - 1) < 4 * (2 / noise.numel()) ** 0.5
    assert len(noise.flatten().unique()) > 0.99 * noise.numel()


def test_storage_is_used_again(imagine, policy) -> None:
    rollouts = Rollouts(imagine(6))
    first = rollouts.rollout(policy, None, 3, 0)
    where = {name: getattr(first, name).data_ptr() for name in FIELDS}
    second = rollouts.rollout(policy, None, 3, 1)
    assert where == {name: getattr(second, name).data_ptr() for name in FIELDS}
    assert not second.values.any()


def test_a_new_rollout_leaves_nothing_of_the_old_one(imagine, policy) -> None:
    rollouts = Rollouts(imagine(6))
    clean = copied(rollouts.rollout(policy, value, 3, 0))
    for name in FIELDS:
        tensor = getattr(rollouts.rollout(policy, value, 3, 0), name)
        tensor.fill_(torch.nan if tensor.is_floating_point() else 1)
    dirty = copied(rollouts.rollout(policy, value, 3, 0))
    assert all(torch.equal(clean[name], dirty[name]) for name in clean)


def test_nothing_requires_a_gradient(imagine, policy) -> None:
    policy.requires_grad_(True)
    out = Rollouts(imagine(6)).rollout(policy, value, 3, 0)
    assert not any(getattr(out, name).requires_grad for name in FIELDS)


@pytest.mark.parametrize("wrong", [{"image_size": 32}, {"action_dim": 3}, {"proprio_dim": 3}, {"history": 4}])
def test_a_policy_for_other_worlds_is_refused(imagine, wrong) -> None:
    sizes = {"image_size": 16, "action_dim": 2, "proprio_dim": 2, **wrong}
    with pytest.raises(UserError, match="remembers 3 frames"):
        Rollouts(imagine(6)).rollout(GaussianPolicy(PolicyConfig(**sizes, widths=(8, 8))), None, 3, 0)


def test_the_plan_says_what_a_step_of_storage_takes(imagine, world, reward, policy) -> None:
    imagination = imagine(6)
    out = Rollouts(imagination).rollout(policy, value, 7, 0)
    taken = sum(each.nbytes for name, each in copied(out).items() if name != "last_values")
    plans = [memory_plan(world, reward, imagination.config, steps=steps) for steps in (8, 1)]
    assert plans[0].rollout - plans[1].rollout == taken
