"""TD(lambda) of segments: by hand, at its limits, and as generalised advantages say it."""

import pytest
import torch

from w4rl_fast.refine.returns import gae, lambda_returns

G, L = 0.9, 0.7


def bools(*rows):
    return torch.tensor(rows, dtype=torch.bool).T


def column(*numbers):
    return torch.tensor(numbers, dtype=torch.float32)[:, None]


def test_by_hand() -> None:
    """Three steps that end in nothing but the last row; terminated in the middle; truncated in the middle."""
    rewards, values = torch.tensor([[1.0], [2], [3]]).expand(3, 3), torch.tensor([[10.0], [20], [30]]).expand(3, 3)
    found = lambda_returns(
        rewards, values, bools([0, 0, 0], [0, 1, 0], [0, 0, 0]), bools([0, 0, 0], [0, 0, 0], [0, 1, 0]), gamma=G, lam=L
    )
    last = 3 + G * 30
    middle = 2 + G * ((1 - L) * 20 + L * last)
    going = [1 + G * ((1 - L) * 10 + L * middle), middle, last]
    terminated = [1 + G * ((1 - L) * 10 + L * 2), 2, last]
    truncated = [1 + G * ((1 - L) * 10 + L * (2 + G * 20)), 2 + G * 20, last]
    torch.testing.assert_close(found, torch.tensor([going, terminated, truncated]).T)


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_an_end_in_the_last_row(end) -> None:
    over = {"terminated": bools([0, 0]), "truncated": bools([0, 0]), end: bools([0, 1])}
    found = lambda_returns(column(1, 2), column(10, 20), **over, gamma=G, lam=L)
    last = 2 if end == "terminated" else 2 + G * 20
    torch.testing.assert_close(found, column(1 + G * ((1 - L) * 10 + L * last), last))


@pytest.fixture
def rollout():
    """Forty steps of six worlds with ends of both kinds."""
    generator = torch.Generator().manual_seed(0)
    rewards, values, final = (torch.randn(40, 6, generator=generator) for _ in range(3))
    draw = torch.rand(40, 6, generator=generator)
    return {
        "rewards": rewards, "values": values, "final_values": final, "last_values": torch.randn(6, generator=generator),
        "terminated": draw < 0.1, "truncated": draw > 0.9,
    }  # fmt: skip


def following(rollout):
    """What each action led to, before any reset."""
    values = torch.cat([rollout["values"][1:], rollout["last_values"][None]])
    return torch.where(rollout["truncated"], rollout["final_values"], values)


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.95, 1.0])
def test_they_are_generalised_advantages_and_values(rollout, lam) -> None:
    expected = gae(**rollout, gamma=G, lam=lam) + rollout["values"]
    ends = rollout["terminated"], rollout["truncated"]
    found = lambda_returns(rollout["rewards"], following(rollout), *ends, gamma=G, lam=lam)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_lambda_0_looks_one_step_ahead(rollout) -> None:
    values, terminated = following(rollout), rollout["terminated"]
    found = lambda_returns(rollout["rewards"], values, terminated, rollout["truncated"], gamma=G, lam=0.0)
    torch.testing.assert_close(found, rollout["rewards"] + G * values * ~terminated)


def test_lambda_1_believes_values_only_where_nothing_else_is_known(rollout) -> None:
    values, rewards = following(rollout), rollout["rewards"]
    found = lambda_returns(rewards, values, rollout["terminated"], rollout["truncated"], gamma=G, lam=1.0)
    for world in range(6):
        for begin in range(40):
            total = 0.0
            for t in range(begin, 40):
                total += G ** (t - begin) * rewards[t, world].item()
                if rollout["terminated"][t, world]:
                    break
                if rollout["truncated"][t, world] or t == 39:
                    total += G ** (t + 1 - begin) * values[t, world].item()
                    break
            assert found[begin, world].item() == pytest.approx(total, abs=1e-4)


def test_what_comes_after_an_end_changes_nothing_before_it(rollout) -> None:
    ends = rollout["terminated"], rollout["truncated"]
    before = lambda_returns(rollout["rewards"], following(rollout), *ends, gamma=G, lam=L)
    for world in range(6):
        for t in (ends[0] | ends[1])[:, world].nonzero()[:-1, 0].tolist():
            rewards = rollout["rewards"].clone()
            rewards[t + 1 :, world] += 100
            after = lambda_returns(rewards, following(rollout), *ends, gamma=G, lam=L)
            assert torch.equal(after[: t + 1, world], before[: t + 1, world])
            assert not torch.equal(after[t + 1, world], before[t + 1, world])
