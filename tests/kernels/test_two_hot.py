"""Two-hot coding: lossless, two non-zeros, and three implementations of one definition."""

import importlib.util
import itertools
import os

import pytest
import torch
from torch import Tensor

from w4rl_kernels.two_hot import cpu, decode, embed, encode, reference

TRITON = importlib.util.find_spec("triton") is not None
SHAPES = [(1, 1, 2, 1), (63, 7, 21, 100), (130, 3, 5, 64), (1, 4, 21, 33), (0, 2, 3, 4)]
CASES = list(itertools.product(SHAPES, (torch.float32, torch.bfloat16)))


@pytest.fixture(params=["cpu", "gpu"])
def module(request: pytest.FixtureRequest):
    """An implementation under test; Triton's runs through its interpreter."""
    if request.param == "cpu":
        return cpu
    if not TRITON:
        pytest.skip('triton is not installed; pip install "w4rl-fast[triton]"')
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("triton was imported without its interpreter; set TRITON_INTERPRET=1 for the whole run")
    from w4rl_kernels.two_hot import gpu

    return gpu


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.empty gives not-a-number, so that whatever is left unwritten shows."""
    real = torch.empty

    def empty(*size, **options):
        made = real(*size, **options)
        return made.fill_(float("nan")) if made.is_floating_point() else made

    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch, "empty_like", lambda like: empty(like.shape, dtype=like.dtype))


def problem(shape: tuple[int, int, int, int], dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """x (some values outside), table, low, high, upstream gradient."""
    n, dimensions, bins, features = shape
    torch.manual_seed(n + features)
    low, high = torch.linspace(-1.0, -0.5, dimensions), torch.linspace(0.7, 1.2, dimensions)
    x = low + (torch.rand(n, dimensions) * 1.3 - 0.15) * (high - low)
    table, grad = torch.randn(dimensions, bins, features), torch.randn(n, features)
    return x.to(dtype), table.to(dtype), low, high, grad.to(dtype)


def test_the_papers_worked_example() -> None:
    """0.14 between bins 0, 0.1, ..., 1 is 0.6 of 0.1 and 0.4 of 0.2."""
    weights = encode(torch.tensor(0.14), low=0.0, high=1.0, bins=11)
    expected = torch.zeros(11)
    expected[1], expected[2] = 0.6, 0.4
    torch.testing.assert_close(weights, expected)


@pytest.mark.parametrize("dimensions", range(6))
@pytest.mark.parametrize("bins", [2, 3, 21])
def test_encoding_is_lossless_sums_to_one_and_has_at_most_two_neighbours(dimensions: int, bins: int) -> None:
    torch.manual_seed(dimensions)
    x = torch.rand((3, 2, 4, 2, 5)[:dimensions]) * 3 - 2
    weights = encode(x, low=-2.0, high=1.0, bins=bins)
    assert weights.shape == (*x.shape, bins)
    torch.testing.assert_close(decode(weights, low=-2.0, high=1.0), x)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(x))
    assert (weights >= 0).all()
    assert ((weights > 0).sum(-1) <= 2).all()
    assert ((weights[..., 2:] > 0) & (weights[..., :-2] > 0)).sum() == 0


def test_bin_edges_and_both_ends_are_one_hot() -> None:
    edges = torch.linspace(-1.0, 1.0, 21)
    torch.testing.assert_close(encode(edges, low=-1.0, high=1.0), torch.eye(21), atol=2e-6, rtol=0)


def test_values_outside_count_as_the_nearer_end_or_raise() -> None:
    x = torch.tensor([-5.0, 9.0])
    torch.testing.assert_close(encode(x, low=-1.0, high=2.0, bins=4), torch.eye(4)[[0, 3]])
    for function in (
        lambda: encode(x, low=-1.0, high=2.0, outside="raise"),
        lambda: embed(x, torch.randn(2, 5, 3), low=-1.0, high=2.0, outside="raise"),
    ):
        with pytest.raises(ValueError, match="values from -5 to 9"):
            function()


def test_bounds_may_differ_by_dimension() -> None:
    low, high = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 10.0])
    x = torch.tensor([[0.5, 5.0], [-1.0, 10.0]])
    weights = encode(x, low=low, high=high, bins=5)
    torch.testing.assert_close(weights[:, 0], encode(x[:, 0], low=-1.0, high=1.0, bins=5))
    torch.testing.assert_close(weights[:, 1], encode(x[:, 1], low=0.0, high=10.0, bins=5))
    torch.testing.assert_close(decode(weights, low=low, high=high), x)


def test_encoding_is_differentiable_and_its_gradient_is_the_finite_difference() -> None:
    x = torch.tensor([-0.83, 0.11, 0.62], dtype=torch.float64, requires_grad=True)
    upstream = torch.arange(63.0).reshape(3, 21).cos().double()
    encode(x, low=-1.0, high=1.0).mul(upstream).sum().backward()
    step = 1e-3
    ahead, behind = (encode(x.detach() + s, low=-1.0, high=1.0).mul(upstream).sum(-1) for s in (step, -step))
    torch.testing.assert_close(x.grad, (ahead - behind) / (2 * step), atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize("dimensions", range(1, 6))
def test_embedding_is_encoding_times_the_table(dimensions: int) -> None:
    torch.manual_seed(dimensions)
    x = torch.rand((3, 2, 4, 2, 5)[-dimensions:]) * 2.4 - 1.2
    table = torch.randn(5, 21, 17)
    dense = torch.einsum("...ak,akd->...d", encode(x, low=-1.0, high=1.0), table)
    torch.testing.assert_close(embed(x, table, low=-1.0, high=1.0), dense, atol=1e-4, rtol=1e-5)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("shape", "dtype"), CASES)
def test_every_implementation_agrees_with_the_reference(module, shape, dtype) -> None:
    x, table, low, high, grad = problem(shape, dtype)
    close = {"atol": 2e-4, "rtol": 1e-4} if dtype is torch.float32 else {"atol": 0.15, "rtol": 2e-2}
    torch.testing.assert_close(module.embed(x, table, low, high), reference.embed(x, table, low, high), **close)
    for made, expected in zip(
        module.embed_backward(grad, x, table, low, high),
        reference.embed_backward(grad, x, table, low, high),
        strict=True,
    ):
        assert made.dtype is expected.dtype
        torch.testing.assert_close(made, expected, **{**close, "atol": close["atol"] * 5})


def test_gradients_equal_finite_differences(module) -> None:
    """Away from the edges of bins, where the function is linear: in float32 with steps inside one bin."""
    torch.manual_seed(3)
    low, high = torch.full((3,), -1.0), torch.full((3,), 1.0)
    x = (torch.randint(0, 4, (6, 3)) + 0.5) / 2 - 1 + 0.1 * torch.rand(6, 3)
    table, grad = torch.randn(3, 5, 8), torch.randn(6, 8)
    grad_x, grad_table = module.embed_backward(grad, x, table, low, high)
    step = 0.02
    for index in itertools.product(range(6), range(3)):
        moved = [x.clone(), x.clone()]
        moved[0][index] += step
        moved[1][index] -= step
        ahead, behind = ((module.embed(m, table, low, high) * grad).sum() for m in moved)
        torch.testing.assert_close(grad_x[index], (ahead - behind) / (2 * step), atol=5e-3, rtol=1e-2)
    nudge = torch.randn_like(table)
    ahead, behind = ((module.embed(x, table + s * nudge, low, high) * grad).sum() for s in (0.5, -0.5))
    torch.testing.assert_close((grad_table * nudge).sum(), ahead - behind, atol=1e-3, rtol=1e-4)


def test_no_gradient_flows_to_values_outside(module) -> None:
    table, bounds = torch.randn(2, 5, 4), torch.ones(2)
    grad_x, _ = module.embed_backward(torch.ones(2, 4), torch.tensor([[-3.0, 0.3], [0.2, 1.5]]), table, -bounds, bounds)
    assert grad_x[0, 0] == grad_x[1, 1] == 0
    assert (grad_x[[0, 1], [1, 0]] != 0).all()


def test_not_a_number_stays_in_its_row(module) -> None:
    x = torch.tensor([[float("nan"), 0.2], [0.1, 0.2]])
    out = module.embed(x, torch.randn(2, 5, 3), -torch.ones(2), torch.ones(2))
    assert out[0].isnan().all()
    assert out[1].isfinite().all()


def test_the_operator_keeps_the_rules_of_torch() -> None:
    x, table, low, high, _ = problem((9, 3, 5, 6))
    arguments = (x.requires_grad_(), table.requires_grad_(), low, high)
    torch.library.opcheck(torch.ops.w4rl.two_hot_embed, arguments)


@pytest.mark.slow
def test_it_compiles_whole_and_exports() -> None:
    table = torch.randn(4, 21, 8, requires_grad=True)
    x = torch.rand(3, 4, requires_grad=True)

    class Step(torch.nn.Module):
        def forward(self, x: Tensor, table: Tensor) -> Tensor:
            return embed(x, table, low=-1.0, high=1.0).square().sum()

    expected = torch.autograd.grad(Step()(x, table), (x, table))
    made = torch.autograd.grad(torch.compile(Step(), fullgraph=True)(x, table), (x, table))
    for each, other in zip(made, expected, strict=True):
        torch.testing.assert_close(each, other)
    exported = torch.export.export(Step(), (x.detach(), table.detach()))
    torch.testing.assert_close(exported.module()(x.detach(), table.detach()), Step()(x, table).detach())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: encode(torch.zeros(2), low=0.0, high=1.0, bins=1), "bins 1"),
        (lambda: embed(torch.zeros(2, 3), torch.zeros(4, 5, 6), low=0.0, high=1.0), "x ends in A"),
    ],
)
def test_bad_input_is_named(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_the_reference_can_stand_in_for_an_implementation_that_is_not_there(monkeypatch) -> None:
    from w4rl_kernels.select import select
    from w4rl_kernels.two_hot import operators

    torch.manual_seed(3)
    x, table = torch.rand(5, 2) * 2.4 - 1.2, torch.randn(2, 7, 4)
    bounds = torch.full((2,), -1.0), torch.full((2,), 1.0)
    tensors = [each.clone().requires_grad_() for each in (x, table)]
    wanted = torch.autograd.grad(reference.embed(*tensors, *bounds).square().sum(), tensors)
    monkeypatch.setattr(operators, "CPU", select("two_hot.embed", operators.ON_CPU, "reference"))
    given = torch.autograd.grad(embed(*tensors, low=-1.0, high=1.0).square().sum(), tensors)
    for ours, theirs in zip(given, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)
