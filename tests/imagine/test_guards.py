"""Guards speak up where a world is exploited, and not where it is only good."""

from types import SimpleNamespace

import pytest
import torch

from w4rl_fast.imagine.guards import Exploited, GuardConfig, Guards

STEPS, WORLDS = 5, 40


class Recorded:
    """Real moments: a body at N(0, 1) in two dimensions, a success wherever its first one passes 2."""

    def batch(self, number, size):
        generator = torch.Generator().manual_seed(number)
        proprio = torch.randn(size, 2, 2, generator=generator)
        success = torch.stack([torch.zeros(size, dtype=torch.bool), proprio[:, 0, 0] > 2], 1)
        return SimpleNamespace(
            real=torch.ones(size, 2, dtype=torch.bool),
            proprio=proprio,
            actions=torch.randn(size, 1, 1, generator=generator) / 3,
            success=success,
        )


def rollout(*, centre=0.0, won=0.5, probability=0.99):
    generator = torch.Generator().manual_seed(1)
    proprio = centre + torch.randn(STEPS, WORLDS, 1, 2, generator=generator)
    rewards = torch.zeros(STEPS, WORLDS)
    rewards[-1, : round(won * WORLDS)] = 1
    proprio[-1, :, 0, 0] += 2.5
    return SimpleNamespace(
        proprio=proprio,
        actions=torch.randn(STEPS, WORLDS, 1, generator=generator) / 3,
        rewards=rewards,
        probabilities=torch.full((STEPS, WORLDS), probability),
    )


@pytest.fixture
def guards():
    return Guards(Recorded(), GuardConfig())


def test_a_policy_that_stays_where_the_data_are_may_rise(guards) -> None:
    guards(1, rollout(won=0.2))
    figures = guards(2, rollout(won=1.0))
    assert figures["guard_far_states"] < 0.2
    assert figures["guard_unsure"] == 0


@pytest.mark.parametrize(
    ("how", "name"), [({"centre": 6.0}, "far_states"), ({"probability": 0.5}, "unsure"), ({"centre": 2.0}, "far_")]
)
def test_success_that_rises_beyond_the_data_stops_the_refinement(guards, how, name) -> None:
    guards(1, rollout(won=0.2))
    with pytest.raises(Exploited, match=name) as error:
        guards(2, rollout(won=1.0, **how))
    assert "iteration 2" in str(error.value)
    assert "20% to 100%" in str(error.value)


def test_what_does_not_rise_is_only_logged(guards) -> None:
    guards(1, rollout(won=0.5))
    assert guards(2, rollout(won=0.5, centre=6.0))["guard_far_states"] > 0.9


def test_limits_are_settings() -> None:
    guards = Guards(Recorded(), GuardConfig(far_states=1.0, far_successes=1.0))
    guards(1, rollout(won=0.2))
    guards(2, rollout(won=1.0, centre=6.0))
