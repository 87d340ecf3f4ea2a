"""First-order refinement finds the controller that algebra gives."""

import dataclasses

import pytest
import torch

from tests.surrogate.toy import Written, acting, knowing
from w4rl_fast.refine.config import FoGConfig
from w4rl_fast.refine.first_order import FirstOrder

pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element")

MIX = torch.tensor([[0.9, 0.4], [-0.3, 1.0]])
PUSH = torch.tensor([[0.5], [1.0]])
WORTH = torch.diag(torch.tensor([2.0, 1.0]))
CONFIG = FoGConfig(
    worlds=64, steps=1, horizon=1, iterations=100, learning_rate=2e-2, critic_learning_rate=1e-2, std=0.05,
    refreshes=0, final_rate=0.05, critic_passes=0, target_kl=1e9, passes=1, rehearsals=0,
)  # fmt: skip


def linear(state, action):
    return state @ MIX.T + action @ PUSH.T


def quadratic(state):
    return -((state @ WORTH) * state).sum(1)


def begin():
    return 0.8 * torch.rand(256, 2, generator=torch.Generator().manual_seed(0)) - 0.4


def gain_of(policy, states):
    """The linear controller that is nearest to what the policy does, one row for each action."""
    with torch.no_grad():
        return torch.linalg.lstsq(states, policy.decide(states)[0]).solution.T


@pytest.mark.parametrize("roll", ["decoupled", "coupled"])
def test_of_one_step_it_finds_the_closed_form(tmp_path, roll) -> None:
    """a = -(B'QB)^-1 B'QA s, whatever noise comes after."""
    surrogate = knowing(linear, quadratic, acts=1)
    worlds = Written(linear, begin(), count=64, acts=1, lasts=1, noise=0.02, drawn=True)
    one = FirstOrder(acting(surrogate, hidden=32)[0], surrogate, worlds,
                     dataclasses.replace(CONFIG, roll=roll), tmp_path)  # fmt: skip
    for _ in range(60):
        one.iterate()
    expected = -torch.linalg.solve(PUSH.T @ WORTH @ PUSH, PUSH.T @ WORTH @ MIX)
    torch.testing.assert_close(gain_of(one.policy, begin()), expected, rtol=0, atol=0.05)


def test_of_two_steps_it_finds_what_is_best_for_both(tmp_path) -> None:
    """With as many actions as numbers in the state, s' = As + Ba is brought to 0 at once, by a = -B^-1 A s."""
    both = torch.tensor([[1.0, 0.3], [-0.2, 0.8]])

    def flow(state, action):
        return state @ MIX.T + action @ both.T

    surrogate = knowing(flow, quadratic)
    worlds = Written(flow, begin(), count=64, lasts=2, drawn=True)
    config = dataclasses.replace(CONFIG, steps=2, horizon=2, excess=0.0)
    one = FirstOrder(acting(surrogate, hidden=32)[0], surrogate, worlds, config, tmp_path)
    for _ in range(60):
        figures = one.iterate()
    expected = -torch.linalg.solve(both, MIX)
    torch.testing.assert_close(gain_of(one.policy, begin()), expected, rtol=0, atol=0.05)
    assert figures["return"] > 0.1 * 2 * quadratic(begin()).mean().item()


A, B, COST, GAMMA = 1.1, 0.7, 0.5, 0.9


def costly(state, action):
    """The second number is what the last action was, so that a reward can be read off the state."""
    return torch.stack([A * state[:, 0] + B * action[:, 0], action[:, 0]], 1)


def riccati():
    worth = 0.0
    for _ in range(1000):
        ahead = 1 + GAMMA * worth
        gain = ahead * A * B / (ahead * B**2 + COST)
        worth = ahead * (A - B * gain) ** 2 + COST * gain**2
    return gain


@pytest.mark.slow
def test_for_ever_it_finds_the_controller_of_the_riccati_equation(tmp_path) -> None:
    """Segments are short: what comes after them is the critic's word, without which the answer is another one."""
    surrogate = knowing(costly, lambda state: -(state[:, 0].square() + COST * state[:, 1].square()), acts=1)
    start = torch.stack([2 * begin()[:, 0], torch.zeros(256)], 1)
    worlds = Written(costly, start, count=64, acts=1, drawn=True)
    config = dataclasses.replace(CONFIG, steps=6, horizon=2, gamma=GAMMA, iterations=70, critic_passes=2)
    one = FirstOrder(acting(surrogate, hidden=32)[0], surrogate, worlds, config, tmp_path)
    for _ in range(70):
        one.iterate()
    shortsighted = A * B / (B**2 + COST)
    assert riccati() > shortsighted + 0.15
    found = -gain_of(one.policy, torch.stack([start[:, 0], 0 * start[:, 0]], 1))[0, 0].item()
    assert found == pytest.approx(riccati(), abs=0.06)
