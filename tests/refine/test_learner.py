"""A network and its optimiser."""

import pytest
import torch
from torch import nn

from w4rl_fast.refine.learner import Learner


def learner(seed: int = 0, norm: float = 1e9) -> Learner:
    torch.manual_seed(seed)
    return Learner(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)), 0.01, norm)


def loss_of(each: Learner) -> torch.Tensor:
    return each.network(torch.linspace(-1, 1, 15).reshape(5, 3)).square().mean()


@pytest.mark.parametrize("share", [1.0, 0.25, 0.0])
def test_it_follows_a_share_of_the_learning_rate(share) -> None:
    """The first step of Adam is the learning rate itself wherever there is a gradient."""
    mine = learner()
    before = mine.network[2].bias.item()
    mine.differentiate(loss_of(mine))
    mine.step(share)
    assert abs(mine.network[2].bias.item() - before) == pytest.approx(0.01 * share, rel=1e-2)


def test_it_returns_the_norm_of_the_gradient_before_it_is_clipped() -> None:
    free, clipped = learner(), learner(norm=1e-3)
    norm = free.differentiate(loss_of(free))
    assert clipped.differentiate(loss_of(clipped)) == pytest.approx(norm)
    size = sum(each.grad.square().sum() for each in clipped.named.values()).sqrt().item()
    assert size == pytest.approx(1e-3, rel=1e-2)
    assert norm > 1e-3


def test_taken_up_it_goes_on_alike_buffers_and_all() -> None:
    one, two = learner(0), learner(1)
    one.differentiate(loss_of(one))
    one.step(1.0)
    two.load({name: each.clone() for name, each in one.state()})
    for each in (one, two):
        each.differentiate(loss_of(each))
        each.step(1.0)
    for name, tensor in one.state():
        assert torch.equal(tensor, dict(two.state())[name]), name


def test_drawn_back_it_keeps_a_share_of_its_way() -> None:
    mine = learner()
    start = mine.weights()
    mine.differentiate(loss_of(mine))
    mine.step(1.0)
    end = mine.weights()
    mine.draw_back(start, 0.25)
    for before, after, now in zip(start, end, mine.weights(), strict=True):
        torch.testing.assert_close(now, before + 0.25 * (after - before))
    mine.draw_back(start, 0.0)
    assert all(torch.equal(*each) for each in zip(start, mine.weights(), strict=True))


def test_frozen_weights_have_no_moments() -> None:
    network = nn.Linear(2, 1)
    network.bias.requires_grad_(False)
    mine = Learner(network, 0.01, 1.0)
    mine.differentiate(network(torch.ones(1, 2)).sum())
    mine.step(1.0)
    names = {name for name, _ in mine.state()}
    assert {"weight/bias", "exp_avg/weight"} <= names
    assert "exp_avg/bias" not in names
