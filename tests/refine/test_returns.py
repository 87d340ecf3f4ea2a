"""Advantages by hand, by their laws, and against implementations that are wrong in the classic ways."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from w4rl_fast.refine.returns import explained_variance, gae

GAMMA, LAM = 0.9, 0.5


def made_up(seed: int, steps: int = 9, worlds: int = 5) -> dict[str, torch.Tensor]:
    """Episodes that end at random, in either way; values that may not be read are not numbers."""
    generator = torch.Generator().manual_seed(seed)
    rewards, values, finals = torch.randn(3, steps, worlds, generator=generator, dtype=torch.float64)
    ends = torch.rand(steps, worlds, generator=generator)
    truncated = ends > 0.8
    return {
        "rewards": rewards,
        "values": values,
        "final_values": torch.where(truncated, finals, torch.nan),
        "last_values": torch.randn(worlds, generator=generator, dtype=torch.float64),
        "terminated": ends < 0.2,
        "truncated": truncated,
    }


def episodes(given: dict[str, torch.Tensor]):
    """Each episode of each world: (world, rows, value of what follows it)."""
    steps, worlds = given["rewards"].shape
    for world in range(worlds):
        first = 0
        for t in range(steps):
            if given["terminated"][t, world] or given["truncated"][t, world] or t == steps - 1:
                after = given["last_values"][world]
                after = given["final_values"][t, world] if given["truncated"][t, world] else after
                yield world, range(first, t + 1), 0.0 if given["terminated"][t, world] else after.item()
                first = t + 1


def check_by_hand(gae) -> None:
    """One world: three steps to success, then two until time runs out, then one of an episode that goes on."""
    advantages = gae(
        rewards=torch.tensor([[0.0], [0.0], [1.0], [0.0], [0.5], [0.25]]),
        values=torch.tensor([[0.5], [0.6], [0.7], [0.1], [0.2], [0.3]]),
        final_values=torch.tensor([[9.0], [9.0], [9.0], [9.0], [0.4], [9.0]]),
        last_values=torch.tensor([0.8]),
        terminated=torch.tensor([[0], [0], [1], [0], [0], [0]], dtype=torch.bool),
        truncated=torch.tensor([[0], [0], [0], [0], [1], [0]], dtype=torch.bool),
        gamma=GAMMA,
        lam=LAM,
    )
    third, fifth, sixth = 1 - 0.7, 0.5 + 0.9 * 0.4 - 0.2, 0.25 + 0.9 * 0.8 - 0.3
    second = (0.9 * 0.7 - 0.6) + 0.45 * third
    first = (0.9 * 0.6 - 0.5) + 0.45 * second
    fourth = (0.9 * 0.2 - 0.1) + 0.45 * fifth
    assert advantages[:, 0].tolist() == pytest.approx([first, second, third, fourth, fifth, sixth])


def check_monte_carlo(gae, seed: int = 3) -> None:
    """With lambda = 1 an advantage is the discounted return of its episode less the value."""
    given = made_up(seed)
    advantages = gae(**given, gamma=GAMMA, lam=1.0)
    for world, rows, after in episodes(given):
        for t in reversed(rows):
            after = given["rewards"][t, world].item() + GAMMA * after
            assert advantages[t, world].item() == pytest.approx(after - given["values"][t, world].item())


def check_one_step(gae, seed: int = 3) -> None:
    """With lambda = 0 it is the error of one step."""
    given = made_up(seed)
    advantages = gae(**given, gamma=GAMMA, lam=0.0)
    for world, rows, after in episodes(given):
        for t in reversed(rows):
            expected = given["rewards"][t, world].item() + GAMMA * after - given["values"][t, world].item()
            assert advantages[t, world].item() == pytest.approx(expected)
            after = given["values"][t, world].item()


def check_episodes_do_not_leak(gae, seed: int = 3) -> None:
    """Whatever happens in an episode, the others of the same world stay as they were."""
    given = made_up(seed)
    before = gae(**given, gamma=GAMMA, lam=0.95)
    for world, rows, _ in episodes(given):
        rewards, values = given["rewards"].clone(), given["values"].clone()
        rewards[rows.start : rows.stop, world] += 10
        values[rows.start : rows.stop, world] -= 5
        after = gae(**{**given, "rewards": rewards, "values": values}, gamma=GAMMA, lam=0.95)
        others = torch.ones_like(before, dtype=torch.bool)
        others[rows.start : rows.stop, world] = False
        assert torch.equal(after[others], before[others])
        assert not torch.equal(after[~others], before[~others])


CHECKS = [check_by_hand, check_monte_carlo, check_one_step, check_episodes_do_not_leak]


def reward_one_late(rewards, **rest):
    return gae(torch.cat([torch.zeros_like(rewards[:1]), rewards[:-1]]), **rest)


def reward_one_early(rewards, **rest):
    return gae(torch.cat([rewards[1:], torch.zeros_like(rewards[:1])]), **rest)


def termination_as_truncation(terminated, truncated, **rest):
    return gae(terminated=torch.zeros_like(terminated), truncated=truncated | terminated, **rest)


def truncation_as_termination(terminated, truncated, **rest):
    return gae(terminated=truncated | terminated, truncated=torch.zeros_like(truncated), **rest)


def ends_one_late(terminated, truncated, **rest):
    later = [torch.cat([torch.zeros_like(each[:1]), each[:-1]]) for each in (terminated, truncated)]
    return gae(terminated=later[0], truncated=later[1], **rest)


def ends_forgotten(terminated, truncated, **rest):
    return gae(terminated=torch.zeros_like(terminated), truncated=torch.zeros_like(truncated), **rest)


MUTANTS = [
    reward_one_late, reward_one_early, termination_as_truncation, truncation_as_termination, ends_one_late,
    ends_forgotten,
]  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
def test_it_obeys(check) -> None:
    check(gae)


@given(seed=st.integers(0, 10**6), check=st.sampled_from(CHECKS[1:]))
@settings(max_examples=40, deadline=None)
def test_it_obeys_whatever_happens(seed: int, check) -> None:
    check(gae, seed)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_what_is_wrong_in_a_classic_way_is_found_by_hand_and_by_law(mutant) -> None:
    for check in CHECKS[:3]:
        with pytest.raises(AssertionError):
            check(mutant)


def test_episodes_that_never_end_leak_into_each_other() -> None:
    for mutant in (ends_one_late, ends_forgotten):
        with pytest.raises(AssertionError):
            check_episodes_do_not_leak(mutant)


def test_termination_wins_over_truncation() -> None:
    given = made_up(5)
    both = {**given, "truncated": given["truncated"] | given["terminated"]}
    torch.testing.assert_close(gae(**both, gamma=0.9, lam=0.9), gae(**given, gamma=0.9, lam=0.9))


def test_worlds_do_not_know_of_each_other() -> None:
    given, order = made_up(5), torch.tensor([3, 0, 4, 1, 2])
    shuffled = {name: each[..., order] for name, each in given.items()}
    assert torch.equal(gae(**shuffled, gamma=0.9, lam=0.9), gae(**given, gamma=0.9, lam=0.9)[:, order])


def test_explained_variance() -> None:
    returns = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert explained_variance(returns, returns) == 1
    assert explained_variance(returns + 3, returns) == 1
    assert explained_variance(torch.zeros(2, 2), returns) == 0
    assert explained_variance(1 - returns, returns) == -3
    assert explained_variance(returns, torch.ones(2, 2)) == 0
