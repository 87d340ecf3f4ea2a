"""Guards speak up where a world is exploited, and not where it is only good."""

from types import SimpleNamespace

import pytest
import torch

from w4rl_fast.fit import generator_at
from w4rl_fast.imagine import Rollouts
from w4rl_fast.imagine.guards import Exploited, GuardConfig, Guards, undecided
from w4rl_fast.imagine.redraw import redraw
from w4rl_fast.imagine.worlds import FRAME_STREAM

STEPS, WORLDS = 5, 40


class Recorded:
    """Real moments: a body at N(0, 1) in two dimensions, a success wherever its first one passes 2."""

    def __init__(self, action_dim=1):
        self.action_dim = action_dim

    def batch(self, number, size):
        generator = torch.Generator().manual_seed(number)
        proprio = torch.randn(size, 2, 2, generator=generator)
        success = torch.stack([torch.zeros(size, dtype=torch.bool), proprio[:, 0, 0] > 2], 1)
        return SimpleNamespace(
            real=torch.ones(size, 2, dtype=torch.bool),
            proprio=proprio,
            actions=torch.randn(size, 1, self.action_dim, generator=generator) / 3,
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


def test_it_remembers_what_an_earlier_process_began_with() -> None:
    begun = Guards(Recorded(), GuardConfig(), first=0.2)
    with pytest.raises(Exploited, match="from 20% to 100%"):
        begun(9, rollout(won=1.0, centre=6.0))


def test_what_does_not_rise_is_only_logged(guards) -> None:
    guards(1, rollout(won=0.5))
    assert guards(2, rollout(won=0.5, centre=6.0))["guard_far_states"] > 0.9


def test_limits_are_settings() -> None:
    guards = Guards(Recorded(), GuardConfig(far_states=1.0, far_successes=1.0))
    guards(1, rollout(won=0.2))
    guards(2, rollout(won=1.0, centre=6.0))


def tossed(_frames, proprio, _actions, _anchor, _scene, noise):
    """A world that tosses a coin for success, and leaves the hand where it is."""
    side = noise[:, 0, 0, 0].sign()
    return noise.clamp(-1, 1), proprio[:, -1].clone(), 4 * side


def settled(_frames, proprio, _actions, _anchor, _scene, noise):
    """A world in which success depends on the hand alone, whatever the noise paints."""
    place = proprio[:, -1]
    return noise.clamp(-1, 1), place.clone(), (place[:, 0] - 0.5) * 100


def share(worlds, policy) -> float:
    """The share of undecided moments in a rollout of these worlds."""
    out = Rollouts(worlds).rollout(policy, None, 5, 3)
    return undecided(worlds, out, generator_at(0, 1))


def test_a_world_that_tosses_a_coin_is_undecided_half_the_time(imagine, policy) -> None:
    assert share(imagine(WORLDS, engine=tossed), policy) == pytest.approx(0.5, abs=0.2)
    assert share(imagine(WORLDS, engine=settled), policy) == 0


def test_two_draws_of_the_same_noise_would_never_differ(imagine, policy, monkeypatch) -> None:
    """What the guard would say if the second draw were no other: the check above would fail."""

    def same(*arguments):
        return redraw(*arguments, stream=FRAME_STREAM)

    monkeypatch.setattr("w4rl_fast.imagine.guards.redraw", same)
    assert share(imagine(WORLDS, engine=tossed), policy) == 0


@pytest.mark.parametrize(("said", "again", "differ"), [(0.59, 0.61, 1), (0.05, 0.54, 0), (0.05, 0.58, 1), (0.7, 1, 0)])
def test_verdicts_differ_across_the_threshold_or_by_a_half(imagine, policy, monkeypatch, said, again, differ) -> None:
    worlds = imagine(WORLDS)
    out = Rollouts(worlds).rollout(policy, None, 5, 3)
    out.probabilities.fill_(said)
    monkeypatch.setattr("w4rl_fast.imagine.guards.redraw", lambda *given: torch.full((len(given[2]),), float(again)))
    assert undecided(worlds, out, generator_at(0, 1)) == differ


def test_an_undecided_world_stops_a_refinement_and_is_logged(imagine, policy) -> None:
    worlds = imagine(WORLDS, engine=tossed)
    guards = Guards(Recorded(action_dim=2), GuardConfig(far_states=1.0, far_successes=1.0, unsure=1.0), worlds)
    out = Rollouts(worlds).rollout(policy, None, 5, 3)
    figures = guards(1, out)
    assert figures["guard_undecided"] > 0.3
    assert guards(1, out) == figures, "nothing but the rollout and the iteration matters"
    assert guards(2, out) != figures, "other moments are looked at in each iteration"
    guards.first = -1.0
    with pytest.raises(Exploited, match="undecided"):
        guards(3, out)


def test_without_worlds_nothing_is_drawn_again(guards) -> None:
    assert "guard_undecided" not in guards(1, rollout())
