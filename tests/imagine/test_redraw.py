"""A second draw: the same past and action, so that with the same noise it would say what the rollout said."""

import pytest
import torch

from w4rl_fast.imagine import Rollouts, StartConfig, load_starts
from w4rl_fast.imagine.redraw import redraw
from w4rl_fast.imagine.worlds import FRAME_STREAM

STEPS, WORLDS = 11, 6


@pytest.fixture(params=["first", "any"])
def worlds(request, imagine, store, world):
    """Worlds in which most episodes end within a rollout, begun at the beginning of an episode or within it."""
    starts = load_starts(store, world.config, StartConfig(task="test/square", rows=request.param))
    return imagine(WORLDS, starts=starts)


def every_moment() -> tuple[torch.Tensor, torch.Tensor]:
    """All moments of a rollout, and two again: whole slices."""
    numbers = torch.arange(STEPS * WORLDS + 2) % (STEPS * WORLDS)
    return numbers // WORLDS, numbers % WORLDS


def test_with_the_noise_of_the_rollout_it_says_what_the_rollout_said(worlds, policy) -> None:
    out = Rollouts(worlds).rollout(policy, None, STEPS, 21)
    assert (out.terminated | out.truncated).sum() >= 2 * WORLDS
    assert (out.actions.abs() > 1).any()
    steps, which = every_moment()
    again = redraw(worlds, out, steps, which, stream=FRAME_STREAM)
    torch.testing.assert_close(again, out.probabilities[steps, which], atol=1e-6, rtol=0)


def test_the_noise_is_another_and_the_same_each_time(worlds, policy) -> None:
    out = Rollouts(worlds).rollout(policy, None, STEPS, 21)
    steps, which = every_moment()
    again = redraw(worlds, out, steps, which)
    moved = (again - out.probabilities[steps, which]).abs()
    assert (moved > 1e-4).float().mean() > 0.9
    assert torch.equal(again, redraw(worlds, out, steps, which))


def test_a_moment_does_not_depend_on_the_others(worlds, policy) -> None:
    out = Rollouts(worlds).rollout(policy, None, STEPS, 21)
    steps, which = every_moment()
    order = torch.randperm(len(steps), generator=torch.Generator().manual_seed(0))
    shuffled = redraw(worlds, out, steps[order], which[order])
    torch.testing.assert_close(shuffled, redraw(worlds, out, steps, which)[order], atol=1e-6, rtol=0)


def test_the_worlds_go_on_as_if_nothing_had_been_drawn(imagine, policy, actions) -> None:
    watched, alone = imagine(WORLDS), imagine(WORLDS)
    out = Rollouts(watched).rollout(policy, None, 3, 21)
    Rollouts(alone).rollout(policy, None, 3, 21)
    redraw(watched, out, torch.tensor([0, 1, 2, 2]), torch.tensor([5, 0, 1, 3]))
    for acted in actions(6, WORLDS):
        for ours, theirs in zip(watched.step(acted), alone.step(acted), strict=True):
            assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
