"""How well a surrogate's derivatives agree with the truth: known answers for known worlds."""

import pytest
import torch

from tests.surrogate.toy import knowing, surrogate_of
from w4rl_fast.surrogate.gradients import Cases, agreement, differences, foreseen, gradient

pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element")

MIX = torch.tensor([[0.9, 0.2], [-0.3, 0.8]])
PUSH = torch.tensor([[0.3, -0.1], [0.2, 0.4]])
WORTH = torch.tensor([1.0, -2.0])


def linear(state, action):
    return state @ MIX.T + action @ PUSH.T


def curved(state, action):
    return state + 0.3 * torch.tanh(state.flip(1) + action)


def against(state, action):
    return linear(state, -action)


def worth(state):
    return state @ WORTH


def near(state):
    return -(state - 0.5).square().sum(-1)


def cases_of(flow, count=6, steps=3):
    generator = torch.Generator().manual_seed(0)
    actions = 1.6 * torch.rand(count, steps, 2, generator=generator) - 0.8
    latents = [torch.randn(count, 2, generator=generator)]
    for t in range(steps):
        latents.append(flow(latents[-1], actions[:, t]))
    return Cases(torch.stack(latents, 1), actions)


def truth_of(flow, pay, begin):
    def truth(actions):
        state, paid = begin, []
        for t in range(actions.shape[1]):
            state = flow(state, actions[:, t])
            paid.append(pay(state))
        return torch.stack(paid, 1)

    return truth


def test_differences_of_a_linear_truth_are_exact() -> None:
    """Reward t depends on action s by WORTH MIX^(t-s) PUSH, wherever it begins, also at the bounds of an action."""
    cases = cases_of(linear)
    cases.actions[0, 0] = 1.0
    cases.actions[1, 1] = -1.0
    found = differences(truth_of(linear, worth, cases.latents[:, 0]), cases.actions, 0.1)
    for t in range(3):
        for s in range(3):
            slope = WORTH @ torch.linalg.matrix_power(MIX, t - s) @ PUSH if s <= t else torch.zeros(2)
            torch.testing.assert_close(found[:, t, s], slope.expand(6, 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("own", [True, False])
def test_nothing_that_was_depends_on_what_is_done_later(own) -> None:
    surrogate = surrogate_of()
    generator = torch.Generator().manual_seed(0)
    cases = Cases(torch.randn(4, 5, 9, generator=generator), torch.rand(4, 4, 2, generator=generator) - 0.5)
    slopes = foreseen(surrogate, cases, own=own)
    assert slopes.shape == (4, 4, 4, 2)
    for t in range(4):
        for s in range(4):
            assert slopes[:, t, s].any() == (s <= t)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("flow", [linear, curved])
def test_a_surrogate_that_is_the_truth_agrees_with_it(flow, own) -> None:
    cases = cases_of(flow)
    said = foreseen(knowing(flow, near), cases, own=own)
    true = differences(truth_of(flow, near, cases.latents[:, 0]), cases.actions, 0.02)
    torch.testing.assert_close(said, true, rtol=1e-3, atol=1e-3)
    for horizon in (1, 2, 3):
        found = agreement(true, said, horizon, 0.9)
        assert found == pytest.approx((1, 1, 1, 6), abs=1e-3)


def test_one_that_foresees_the_opposite_agrees_with_minus_one() -> None:
    cases = cases_of(linear)
    true = differences(truth_of(linear, worth, cases.latents[:, 0]), cases.actions, 0.1)
    found = agreement(true, foreseen(knowing(against, worth), cases, own=False), 3, 0.9)
    assert found == pytest.approx((-1, -1, 1, 6), abs=1e-4)
    assert agreement(true, 3 * true, 3, 0.9).length == pytest.approx(3)


def test_at_the_truth_is_not_along_its_own_rollout() -> None:
    """Where the surrogate errs, its own rollout is elsewhere, and so are its derivatives."""
    cases = cases_of(linear)
    surrogate = knowing(curved, near)
    at, along = (foreseen(surrogate, cases, own=own) for own in (False, True))
    expected = torch.autograd.functional.jacobian(
        lambda actions: truth_of(curved, near, cases.latents[:1, 0])(actions[None])[0], cases.actions[0]
    )
    torch.testing.assert_close(along[0], expected)
    assert not torch.allclose(at, along, atol=1e-2)
    # At the truth the slope of the first reward is that of `near` at the state that came.
    state = cases.latents[:, 0]
    inner = 0.3 * (1 - torch.tanh(state.flip(1) + cases.actions[:, 0]).square())
    torch.testing.assert_close(at[:, 0, 0], -2 * (cases.latents[:, 1] - 0.5) * inner)


def test_the_gradient_is_that_of_the_discounted_return() -> None:
    slopes = torch.zeros(1, 3, 3, 1)
    slopes[0, :, :, 0] = torch.tensor([[1.0, 0, 0], [2, 3, 0], [4, 5, 6]])
    assert gradient(slopes, 1, 0.5).tolist() == [[1.0]]
    assert gradient(slopes, 2, 0.5).tolist() == [[2.0, 1.5]]
    assert gradient(slopes, 3, 0.5).tolist() == [[3.0, 2.75, 1.5]]


def test_only_cases_whose_truth_has_a_gradient_count() -> None:
    true = torch.zeros(3, 1, 1, 2)
    true[0, 0, 0], true[1, 0, 0] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    said = torch.ones(3, 1, 1, 2)
    found = agreement(true, said, 1, 1.0)
    assert found == pytest.approx((0.5**0.5, 1.0, 2**0.5, 2), abs=1e-6)
    assert agreement(torch.zeros_like(true), said, 1, 1.0) == (0, 0, 0, 0)
