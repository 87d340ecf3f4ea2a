"""Decoupled: the value is the truth's, every derivative is the surrogate's."""

import pytest
import torch

from tests.surrogate.toy import surrogate_of
from w4rl_fast.surrogate.decoupled import decoupled


def stepped(surrogate, latent, action, cell):
    said = surrogate.step(latent, action, cell)
    return torch.cat([said.mean, said.cell], 1)


@pytest.fixture
def given():
    """A surrogate in float64, a place and an action that want gradients, and what really came."""
    surrogate = surrogate_of().double()
    generator = torch.Generator().manual_seed(1)
    shapes = (4, 9), (4, 2), (4, 8)
    inputs = [torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    true = torch.randn(4, 17, generator=generator, dtype=torch.float64).requires_grad_()
    weights = torch.randn(4, 17, generator=generator, dtype=torch.float64)
    return surrogate, inputs, true, weights


def test_the_value_is_the_truth_bit_for_bit() -> None:
    true = torch.tensor([1e30, -0.0, 0.1, torch.nan, -torch.inf])
    value = decoupled(true, torch.full((5,), 1e-3, requires_grad=True))
    assert torch.equal(value.view(torch.int32), true.view(torch.int32))
    assert value.requires_grad


def test_the_derivative_is_the_surrogates_alone(given) -> None:
    surrogate, inputs, true, weights = given
    expected = torch.autograd.grad((weights * stepped(surrogate, *inputs)).sum(), inputs)
    found = torch.autograd.grad((weights * decoupled(true, stepped(surrogate, *inputs))).sum(), inputs)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
        assert one.any()


def test_the_derivative_is_that_of_finite_differences(given) -> None:
    surrogate, inputs, true, weights = given
    found = torch.autograd.grad((weights * decoupled(true, stepped(surrogate, *inputs))).sum(), inputs)
    for number, gradient in enumerate(found):
        for place in range(gradient.numel()):
            moved = torch.zeros_like(gradient).flatten()
            moved[place] = 1e-6
            up, down = (
                [each + side * moved.view_as(each) if k == number else each for k, each in enumerate(inputs)]
                for side in (1, -1)
            )
            apart = (weights * (stepped(surrogate, *up) - stepped(surrogate, *down))).sum() / 2e-6
            torch.testing.assert_close(gradient.flatten()[place], apart, rtol=1e-5, atol=1e-7)


def test_no_derivative_reaches_the_truth(given) -> None:
    surrogate, inputs, true, weights = given
    (weights * decoupled(true, stepped(surrogate, *inputs))).sum().backward()
    assert true.grad is None
    assert inputs[0].grad is not None


def test_a_nonlinear_function_of_it_is_derived_at_the_truth() -> None:
    predicted = torch.tensor([2.0], requires_grad=True)
    decoupled(torch.tensor([5.0]), predicted).square().backward()
    assert predicted.grad == 10


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"true \(2, 1\), predicted \(2,\): they are of one shape"):
        decoupled(torch.zeros(2, 1), torch.zeros(2, requires_grad=True))
