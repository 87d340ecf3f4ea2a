"""Policy, world and classifier as one compiled unit: what the eager rollout says, but for rounding."""

import functools

import pytest
import torch

from w4rl_fast.errors import UserError
from w4rl_fast.imagine import Rollouts
from w4rl_fast.policy import GaussianPolicy
from w4rl_fast.policy.gaussian import PolicyConfig

STEPS, WORLDS = 3, 6
GREY_LEVELS = 2
"""What a picture may be off after a few steps: each step rounds to whole levels, which rounding can tip over."""


@pytest.fixture
def quick(monkeypatch):
    """Trace as the compiler does, and run the graph as it is: what cannot be one graph fails all the same."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))


def value(frames, proprio):
    """A value anyone can compute."""
    return frames.mean((1, 2, 3, 4)) + proprio.sum((1, 2))


def policy_of(history: int) -> GaussianPolicy:
    torch.manual_seed(5)
    config = PolicyConfig(image_size=16, action_dim=2, proprio_dim=2, widths=(8, 8), hidden=16, history=history)
    return GaussianPolicy(config).eval()


def require_parity(imagine, policy) -> None:
    eager = Rollouts(imagine(WORLDS)).rollout(policy, value, STEPS, 21)
    ours = Rollouts(imagine(WORLDS), compiled=True).rollout(policy, value, STEPS, 21)
    for name in ("actions", "log_probs", "proprio", "values", "final_values", "last_values"):
        torch.testing.assert_close(getattr(ours, name), getattr(eager, name), atol=5e-3, rtol=0, msg=name)
    torch.testing.assert_close(ours.actions[0], eager.actions[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.probabilities, eager.probabilities, atol=0.05, rtol=0)
    assert (ours.frames.int() - eager.frames.int()).abs().max() <= GREY_LEVELS
    assert eager.actions.std() > 0.1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("history", [1, 2])
def test_as_one_graph_it_says_the_same(imagine, history) -> None:
    require_parity(imagine, policy_of(history))


@pytest.mark.slow
def test_compiled_it_says_the_same(imagine) -> None:
    require_parity(imagine, policy_of(1))


@pytest.mark.usefixtures("quick")
def test_a_policy_that_learns_is_not_compiled_again(imagine) -> None:
    policy, rollouts = policy_of(1), Rollouts(imagine(WORLDS), compiled=True)
    rollouts.rollout(policy, None, STEPS, 21)
    unit = rollouts.acting
    with torch.no_grad(), torch.compiler.set_stance("fail_on_recompile"):
        for weight in policy.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
        ours = rollouts.rollout(policy, None, STEPS, 21).actions.clone()
    assert rollouts.acting is unit
    eager = Rollouts(imagine(WORLDS)).rollout(policy, None, STEPS, 21)
    torch.testing.assert_close(ours, eager.actions, atol=5e-3, rtol=0)


@pytest.mark.usefixtures("quick")
def test_another_policy_is_another_unit(imagine) -> None:
    rollouts, other = Rollouts(imagine(WORLDS), compiled=True), policy_of(2)
    rollouts.rollout(policy_of(1), None, STEPS, 21)
    ours = rollouts.rollout(other, None, STEPS, 21).actions
    eager = Rollouts(imagine(WORLDS)).rollout(other, None, STEPS, 21)
    torch.testing.assert_close(ours, eager.actions, atol=5e-3, rtol=0)


@pytest.mark.usefixtures("quick")
def test_nothing_but_the_arguments_matters(imagine) -> None:
    policy, rollouts = policy_of(1), Rollouts(imagine(WORLDS), compiled=True)
    first = rollouts.rollout(policy, value, STEPS, 21).frames.clone()
    rollouts.rollout(policy, value, STEPS, 99)
    assert torch.equal(rollouts.rollout(policy, value, STEPS, 21).frames, first)


def test_beside_an_engine_of_another_kind_it_is_refused(imagine, known, policy) -> None:
    with pytest.raises(UserError, match=r"engine known_step.*engine='eager'"):
        Rollouts(imagine(WORLDS, engine=known.step), compiled=True).rollout(policy, None, STEPS, 0)
