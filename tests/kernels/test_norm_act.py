"""Norms with scale, shift and SiLU: one definition, torch's own operators bit for bit, and kernels that agree."""

import importlib.util
import itertools
import os
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from w4rl_kernels.norm_act import SWITCH, Problem, group_norm, key, layer_norm, operators, reference, traffic
from w4rl_kernels.select import ImplementationUnavailable

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
CLOSE = {torch.float32: 2e-5, torch.bfloat16: 2**-7, torch.float16: 2**-10, torch.float64: 1e-12}
"""Of bfloat16 a whole last place: Triton's interpreter cuts off where a GPU rounds."""
FRAME = 4096
# pictures, channels, height, width, groups
WHOLE = [(2, 6, 3, 5, 2), (3, 48, 4, 4, 1), (2, 96, 1, 9, 3), (1, 4, 1, 1, 2), (1, 33, 2, 8, 1), (2, 64, 8, 8, 2)]
LOOPED = [(2, 6, 3, 5, 2), (1, 12, 1, 5, 1), (1, 33, 2, 3, 3), (1, 40, 1, 3, 1)]
# pictures, tokens, width
LAYERS = [(3, 1, 8), (2, 5, 7), (1, 70, 12), (2, 17, 128), (1, 130, 192), (1, 3, 1500)]


@pytest.fixture(params=["reference", "gpu"])
def module(request: pytest.FixtureRequest):
    """A module of kernels under test; Triton's run through its interpreter."""
    return reference if request.param == "reference" else triton_kernels()


@pytest.fixture
def kernels():
    return triton_kernels()


@pytest.fixture
def asked() -> Iterator[None]:
    """The kernels, asked for by name."""
    triton_kernels()
    SWITCH.use("gpu")
    yield
    SWITCH.use("auto")


def triton_kernels():
    if importlib.util.find_spec("triton") is None:
        pytest.skip('triton is not installed; pip install "w4rl-fast[triton]"')
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("triton was imported without its interpreter; set TRITON_INTERPRET=1 for the whole run")
    from w4rl_kernels.norm_act import gpu

    return gpu


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch.empty gives not-a-number amid sevens: what is left unwritten shows, and what is written outside."""
    real, frames = torch.empty, []

    def empty(*size, **options):
        made, frame = framed(real(*size, **options), 7.0)
        frames.append(frame)
        return made.fill_(float("nan"))

    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch, "empty_like", lambda like: empty(like.shape, dtype=like.dtype, device=like.device))
    yield
    assert frames
    for frame in frames:
        assert (frame[:FRAME] == 7).all()
        assert (frame[-FRAME:] == 7).all()


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers for 32 numbers: small groups are read twice, and small pictures take several programs."""
    for name, size in {"TILE": 32, "STEP": 32, "LAYER_TILE": 32, "CHUNK": 8}.items():
        monkeypatch.setattr(traffic, name, size)


def framed(values: Tensor, around: float = float("nan")) -> tuple[Tensor, Tensor]:
    """A copy with a number before and behind it, and the whole of that memory."""
    memory = torch.full((values.numel() + 2 * FRAME,), around, dtype=values.dtype)
    memory[FRAME:-FRAME] = values.flatten()
    return memory[FRAME:-FRAME].view(values.shape), memory


def rows_of(shape: tuple[int, ...], dtype: torch.dtype, scaled_by: str | None) -> tuple[Tensor | None, ...]:
    """grad and x (B, P, C), gain and shift: chunks of tensors of two widths, or (C,), or None."""
    pictures, channels, *sides, _ = shape
    torch.manual_seed(sum(shape))
    size = (pictures, sides[0] * sides[1], channels)
    x, grad = (framed(each.to(dtype))[0] for each in (torch.randn(size) * 1.5 + 0.5, torch.randn(size)))
    both = [framed(torch.randn(pictures, many * channels).to(dtype))[0][:, -channels:] for many in (2, 3)]
    gain, shift = both if scaled_by == "picture" else (each[0] for each in both) if scaled_by else (None, None)
    return grad, x, gain, shift


def tokens_of(shape: tuple[int, int, int], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """grad and x (B, N, W), scale and shift (B, W), parts of tensors of two widths."""
    torch.manual_seed(sum(shape))
    x, grad = (framed(each.to(dtype))[0] for each in (torch.randn(shape) * 1.5 + 0.5, torch.randn(shape)))
    width = shape[2]
    scale, shift = (framed(torch.randn(shape[0], n * width).to(dtype))[0][:, width : 2 * width] for n in (4, 3))
    return grad, x, scale, shift


def exact_group(
    x: Tensor, gain: Tensor | None = None, shift: Tensor | None = None, *, groups: int, act: bool = False
) -> Tensor:
    """The law in float64, by torch's own group norm, on rows (B, P, C)."""
    if gain is not None and gain.ndim == 1:
        y = F.group_norm(x.transpose(1, 2), groups, gain, shift).transpose(1, 2)
    else:
        y = F.group_norm(x.transpose(1, 2), groups).transpose(1, 2)
        y = y if gain is None else y * (1 + gain[:, None]) + shift[:, None]
    return F.silu(y) if act else y


def exact_layer(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale[:, None]) + shift[:, None]


def with_gradients(function, grad: Tensor, *tensors: Tensor | None) -> list[Tensor]:
    """What a function of float64 copies gives, and the gradients of those that are there."""
    copies = [None if each is None else each.double().requires_grad_() for each in tensors]
    y = function(*copies)
    return [y.detach(), *torch.autograd.grad(y, [each for each in copies if each is not None], grad.double())]


def check(made: list[Tensor], exact: list[Tensor], dtype: torch.dtype) -> None:
    for each, wanted in zip(made, exact, strict=True):
        assert each.dtype is dtype
        limit = CLOSE[dtype]
        slack = 10 * CLOSE[torch.float32] * max(1.0, float(wanted.abs().max()))
        torch.testing.assert_close(each.double(), wanted, rtol=limit, atol=slack)


def check_group(module, shape, dtype, scaled_by, act) -> None:
    grad, x, gain, shift = rows_of(shape, dtype, scaled_by)
    groups = shape[-1]
    y, mean, rstd = module.group(x, gain, shift, groups, 1e-5, act)
    made = [y, *module.group_backward(grad, x, gain, shift, mean, rstd, groups, act)]
    exact = with_gradients(
        lambda *each: exact_group(*each, groups=groups, act=act), grad, x, *(gain, shift) if scaled_by else ()
    )
    assert [each.shape for each in made[2:] if not scaled_by] in ([], [(0,), (0,)])
    check(made[: len(exact)], exact, dtype)


def cases(shapes: list[tuple[int, ...]]) -> list[tuple[object, ...]]:
    """Every shape and every way to scale in float32, one shape in the others."""
    modes = [("picture", True), ("channel", False), (None, True)]
    wide = [(shape, torch.float32, *mode) for shape, mode in itertools.product(shapes, modes)]
    return wide + [(shapes[0], dtype, *mode) for dtype, mode in itertools.product(DTYPES[1:], modes[:2])]


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize(("shape", "dtype", "scaled_by", "act"), cases(WHOLE))
def test_a_group_in_registers_agrees_with_float64_in_values_and_gradients(
    kernels, shape, dtype, scaled_by, act
) -> None:
    check_group(kernels, shape, dtype, scaled_by, act)


@pytest.mark.usefixtures("guarded", "small_tiles")
@pytest.mark.parametrize(("shape", "dtype", "scaled_by", "act"), cases(LOOPED))
def test_a_group_read_twice_agrees_with_float64_in_values_and_gradients(kernels, shape, dtype, scaled_by, act) -> None:
    assert traffic.group_tile(shape[2] * shape[3], shape[1] // shape[4]).steps > 1
    check_group(kernels, shape, dtype, scaled_by, act)


@pytest.mark.usefixtures("guarded")
def test_a_large_group_as_it_is_really_cut(kernels) -> None:
    assert traffic.group_tile(1200, 12) == (256, 16, 5)
    check_group(kernels, (1, 24, 40, 30, 2), torch.float32, "picture", True)


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize(
    ("shape", "dtype"), [*((shape, torch.float32) for shape in LAYERS), *((LAYERS[1], dtype) for dtype in DTYPES[1:])]
)
def test_layer_norm_agrees_with_float64_in_values_and_gradients(kernels, shape, dtype) -> None:
    check_layer(kernels, shape, dtype)


@pytest.mark.usefixtures("guarded", "small_tiles")
@pytest.mark.parametrize("shape", [(2, 5, 7), (1, 13, 12), (2, 3, 40)])
def test_layer_norm_in_many_programs_agrees_with_float64(kernels, shape) -> None:
    check_layer(kernels, shape, torch.float32)


def check_layer(module, shape, dtype) -> None:
    grad, x, scale, shift = tokens_of(shape, dtype)
    y, mean, rstd = module.layer(x, scale, shift, 1e-5)
    made = [y, *module.layer_backward(grad, x, scale, shift, mean, rstd)]
    check(made, with_gradients(exact_layer, grad, x, scale, shift), dtype)


@pytest.mark.parametrize(("scaled_by", "act"), list(itertools.product(("picture", "channel", None), (False, True))))
def test_the_definition_is_exact_in_float64(scaled_by, act) -> None:
    check_group(reference, (2, 6, 3, 5, 2), torch.float64, scaled_by, act)
    check_layer(reference, (2, 5, 7), torch.float64)


def test_a_large_mean_costs_no_more_than_its_own_rounding(module, monkeypatch) -> None:
    """The difference of two squares would be off by some per cent here."""
    torch.manual_seed(0)
    x = torch.randn(2, 60, 8) + 2000
    gain, shift = torch.zeros(2, 8), torch.zeros(2, 8)
    wanted = exact_group(x.double(), groups=2)
    close = {"atol": 1e-3, "rtol": 1e-3, "check_dtype": False}
    torch.testing.assert_close(module.group(x, gain, shift, 2, 1e-5, False)[0], wanted, **close)
    monkeypatch.setattr(traffic, "TILE", 32)
    monkeypatch.setattr(traffic, "STEP", 32)
    torch.testing.assert_close(module.group(x, gain, shift, 2, 1e-5, False)[0], wanted, **close)
    wanted = F.layer_norm(x.double(), (8,))
    torch.testing.assert_close(module.layer(x, gain, shift, 1e-5)[0], wanted, **close)


def test_small_deviations_are_held_up_by_eps(module) -> None:
    x = torch.linspace(-1e-3, 1e-3, 48).view(1, 6, 8)
    gain, shift = torch.zeros(1, 8), torch.zeros(1, 8)
    made = module.group(x, gain, shift, 1, 1e-2, False)[0], module.layer(x, gain, shift, 1e-2)[0]
    exact = F.group_norm(x.transpose(1, 2), 1, eps=1e-2).transpose(1, 2), F.layer_norm(x, (8,), eps=1e-2)
    for each, wanted in zip(made, exact, strict=True):
        torch.testing.assert_close(each, wanted)


def test_not_a_number_stays_in_its_group(module) -> None:
    x = torch.randn(2, 4, 6)
    x[0, 1, 4] = float("nan")
    y = module.group(x, None, None, 2, 1e-5, True)[0]
    assert y[0, :, 3:].isnan().all()
    assert y[0, :, :3].isfinite().all()
    assert y[1].isfinite().all()
    tokens = module.layer(x, torch.zeros(2, 6), torch.zeros(2, 6), 1e-5)[0]
    assert tokens.isnan().any(-1).nonzero().tolist() == [[0, 1]]


# ---- the public functions


def pictures(shape=(2, 8, 3, 5), dtype=torch.float32) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)


def differentiated(function, *tensors: Tensor) -> list[Tensor]:
    """What a function gives and the gradients of a weighted sum of it."""
    leaves = [each.detach().clone().requires_grad_() for each in tensors]
    y = function(*leaves)
    weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, leaves, weights)]


def equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    pairs = zip(ours, theirs, strict=True)
    return all(each.dtype is other.dtype and torch.equal(each, other) for each, other in pairs)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_cpu_it_is_bit_for_bit_what_modules_of_torch_compute(dtype, layout) -> None:
    x = pictures((3, 12, 4, 6), dtype).contiguous(memory_format=layout)
    both, weight, bias = torch.randn(3, 24).to(dtype), torch.randn(12).to(dtype), torch.randn(12).to(dtype)

    def adaptive(x: Tensor, both: Tensor) -> Tensor:
        scale, shift = both[:, :, None, None].chunk(2, dim=1)
        return F.silu(nn.GroupNorm(3, 12, affine=False)(x) * (1 + scale) + shift)

    def plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(nn.GroupNorm(3, 12), {"weight": weight, "bias": bias}, (x,))

    ours = differentiated(lambda x, both: group_norm(x, 3, *both.chunk(2, dim=1), act=True), x, both)
    assert equal(ours, differentiated(adaptive, x, both))
    ours = differentiated(lambda x, weight, bias: group_norm(x, 3, weight=weight, bias=bias), x, weight, bias)
    assert equal(ours, differentiated(plain, x, weight, bias))
    assert equal(differentiated(lambda x: group_norm(x, 3), x), differentiated(nn.GroupNorm(3, 12, affine=False), x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_cpu_layer_norm_is_bit_for_bit_what_the_transformer_computes(dtype) -> None:
    x, both = torch.randn(3, 10, 12).to(dtype), torch.randn(3, 1, 72).to(dtype)

    def normed(x: Tensor, both: Tensor) -> Tensor:
        scale, shift = both.chunk(6, dim=2)[1:3]
        return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:]), 1 + scale)

    ours = differentiated(lambda x, both: layer_norm(x, *both.chunk(6, dim=2)[1:3]), x, both)
    assert equal(ours, differentiated(normed, x, both))


@pytest.mark.parametrize("name", ["reference", "gpu"])
def test_every_implementation_serves_the_public_functions_alike(name, request) -> None:
    x, both, weight, bias = pictures(), torch.randn(2, 16), torch.randn(8), torch.randn(8)
    tokens, wide = torch.randn(2, 9, 8), torch.randn(2, 1, 48)
    calls = [
        (lambda x, both: group_norm(x, 2, *both.chunk(2, dim=1), act=True), x, both),
        (lambda x, weight, bias: group_norm(x, 4, weight=weight, bias=bias, eps=1e-3), x, weight, bias),
        (lambda x: group_norm(x, 1, act=True), x),
        (lambda x, wide: layer_norm(x, *wide.chunk(6, dim=2)[3:5], eps=1e-3), tokens, wide),
        (lambda x, row: layer_norm(x, row.expand(2, 1, 8), row.expand(2, 1, 8)), tokens, wide[:1, :, :8]),
        (lambda x, wide: layer_norm(x, wide[..., 0::3], wide[..., 1::3]), tokens, wide[..., :24]),
    ]
    wanted = [differentiated(*call) for call in calls]
    if name == "gpu":
        request.getfixturevalue("asked")
    else:
        SWITCH.use(name)
        request.addfinalizer(lambda: SWITCH.use("auto"))
    for call, theirs in zip(calls, wanted, strict=True):
        for made, other in zip(differentiated(*call), theirs, strict=True):
            torch.testing.assert_close(made, other, atol=1e-4, rtol=1e-5)


@pytest.mark.usefixtures("asked")
def test_the_kernels_keep_the_dtype_of_x_beside_float32_weights() -> None:
    x, weight, bias = pictures(dtype=torch.bfloat16), torch.randn(8), torch.randn(8)
    y, grad_x, grad_weight, _ = differentiated(
        lambda *each: group_norm(each[0], 2, weight=each[1], bias=each[2]), x, weight, bias
    )
    assert y.dtype is grad_x.dtype is torch.bfloat16
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert grad_weight.dtype is torch.float32
    exact = F.group_norm(x.double(), 2, weight.double(), bias.double())
    torch.testing.assert_close(y.double(), exact, atol=1e-4, rtol=CLOSE[torch.bfloat16])


# ---- the choice


def problem(**changes) -> Problem:
    sizes = {"pictures": 2, "positions": 256, "channels": 48, "groups": 1}
    kinds = {"norm": "group", "dtype": torch.bfloat16, "scaled_by": "picture", "parameters": torch.bfloat16}
    return Problem(**{**sizes, **kinds, "act": True, "packed": True, **changes})


def test_a_key_names_the_class_of_shapes() -> None:
    assert key(problem()) == "group norm of 256 positions, 48 channels, groups 1, scaled by picture, SiLU, bfloat16"
    assert key(problem(norm="layer", positions=64, channels=128)) == "layer norm of 64 tokens, 128 wide, bfloat16"
    assert key(problem()) == key(problem(pictures=7))


REFUSED = [
    ({"dtype": torch.float64, "parameters": torch.float64}, "x is torch.float64"),
    ({"packed": False}, r"contiguous\(memory_format=torch.channels_last\)"),
    ({"packed": False, "norm": "layer"}, r"Use x.contiguous\(\)"),
    ({"parameters": torch.float32}, "would not keep the dtype of x"),
    ({"parameters": torch.float16}, "would not keep the dtype of x"),
    ({"scaled_by": "channel", "parameters": torch.float64}, "scale or shift is torch.float64"),
    ({"channels": 4097}, "4097 channels normed together: the kernel takes up to 4096"),
    ({"pictures": 0}, "0 pictures"),
    ({"positions": 1 << 20, "channels": 2048}, "pictures of 2147483648 numbers"),
]


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(("changes", "words"), REFUSED)
def test_what_the_kernels_cannot_take_is_refused_with_the_reason_and_auto_goes_on(changes, words, monkeypatch) -> None:
    with pytest.raises(ImplementationUnavailable, match=rf"'gpu' of norm_act.*{words}.*torch or reference would"):
        SWITCH.serve("cpu", problem(**changes))
    SWITCH.use("auto")
    monkeypatch.setattr(operators.measured, "unproven", lambda *_: None)
    assert SWITCH.serve("cuda", problem(**changes)) == "torch"
    assert SWITCH.serve("cuda", problem()) == "gpu"


@pytest.mark.usefixtures("asked")
def test_a_call_that_cannot_be_taken_is_refused() -> None:
    with pytest.raises(ImplementationUnavailable, match="channels_last"):
        group_norm(torch.randn(2, 8, 3, 5), 2)
    with pytest.raises(ImplementationUnavailable, match=r"Use x.contiguous\(\)"):
        layer_norm(torch.randn(2, 8, 5).mT, torch.randn(2, 1, 8), torch.randn(2, 1, 8))
    with pytest.raises(ImplementationUnavailable, match="float64"):
        group_norm(pictures(dtype=torch.float64), 2)


def test_auto_takes_no_kernel_that_is_not_proven_and_the_cpu_takes_torch(monkeypatch) -> None:
    asked_for = []
    monkeypatch.setattr(operators.measured, "unproven", lambda op, key: asked_for.append((op, key)) or "not measured")
    assert SWITCH.serve("cuda", problem()) == "torch"
    assert asked_for == [("norm_act", key(problem()))]
    assert SWITCH.serve("cpu", problem()) == "torch"


@pytest.mark.usefixtures("asked")
def test_without_a_gpu_or_the_interpreter_the_kernels_are_refused_on_a_cpu(monkeypatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(ImplementationUnavailable, match="Triton's kernels need a GPU, or TRITON_INTERPRET=1"):
        group_norm(pictures(), 2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: group_norm(pictures(), 3), r"x \(2, 8, 3, 5\), groups 3"),
        (lambda: group_norm(torch.zeros(2, 8, 3), 2), r"x is \(B, C, H, W\)"),
        (lambda: group_norm(pictures(), 2, torch.zeros(2, 8)), r"scale \(2, 8\): parameters come in pairs"),
        (lambda: group_norm(pictures(), 2, bias=torch.zeros(8)), r"bias \(8,\): parameters come in pairs"),
        (
            lambda: group_norm(
                pictures(), 2, torch.zeros(2, 8), torch.zeros(2, 8), weight=torch.zeros(8), bias=torch.zeros(8)
            ),
            "or weight and bias, or none",
        ),
        (lambda: group_norm(pictures(), 2, torch.zeros(8), torch.zeros(8)), r"scale \(8,\), shift \(8,\) for x"),
        (lambda: group_norm(pictures(), 2, weight=torch.zeros(8), bias=torch.zeros(4)), r"bias \(4,\) for x"),
        (lambda: layer_norm(torch.zeros(2, 3, 4), torch.zeros(2, 4), torch.zeros(2, 4)), r"scale \(2, 4\)"),
        (lambda: layer_norm(pictures(), torch.zeros(2, 1, 4), torch.zeros(2, 1, 4)), r"x is \(B, N, W\)"),
    ],
)
def test_bad_input_is_named(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


# ---- torch.library, torch.compile and torch.export


@pytest.mark.parametrize("scaled_by", ["picture", None])
def test_the_operator_of_rows_keeps_the_rules_of_torch(scaled_by) -> None:
    _, x, gain, shift = rows_of((2, 6, 3, 5, 2), torch.float32, scaled_by)
    leaves = [None if each is None else each.requires_grad_() for each in (x, gain, shift)]
    torch.library.opcheck(torch.ops.w4rl.norm_act_group, (*leaves, 2, 1e-5, True))


def test_the_operator_of_tokens_keeps_the_rules_of_torch() -> None:
    _, *leaves = tokens_of((2, 5, 7), torch.float32)
    torch.library.opcheck(torch.ops.w4rl.norm_act_layer, (*(each.requires_grad_() for each in leaves), 1e-5))


class Step(nn.Module):
    """Both norms in a row, as networks call them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor, both: Tensor) -> Tensor:
        x = group_norm(x, 2, *both.chunk(2, dim=1), act=True)
        x = group_norm(x, 4, weight=self.weight, bias=self.bias)
        tokens = x.permute(0, 2, 3, 1).flatten(1, 2)
        return layer_norm(tokens, *both[:, None].chunk(2, dim=2)).square().sum()


def check_compiled(backend: str) -> None:
    torch._dynamo.reset()
    torch.manual_seed(2)
    step, x, both = Step(), pictures().requires_grad_(), torch.randn(2, 16, requires_grad=True)
    leaves = (x, both, *step.parameters())
    expected = torch.autograd.grad(step(x, both), leaves)
    made = torch.autograd.grad(torch.compile(step, fullgraph=True, backend=backend)(x, both), leaves)
    for each, other in zip(made, expected, strict=True):
        torch.testing.assert_close(each, other, atol=1e-3, rtol=1e-4)


def operators_in(step: nn.Module) -> set[str]:
    exported = torch.export.export(step, (pictures(), torch.randn(2, 16)))
    torch.testing.assert_close(exported.module()(pictures(), torch.ones(2, 16)), step(pictures(), torch.ones(2, 16)))
    return {str(node.target).split(".")[0] for node in exported.graph.nodes if node.op == "call_function"}


def test_torchs_own_operators_are_all_that_a_graph_sees_on_a_cpu() -> None:
    check_compiled("aot_eager")
    assert "w4rl" not in operators_in(Step())


@pytest.mark.usefixtures("asked")
def test_the_kernels_are_operators_of_a_graph() -> None:
    check_compiled("aot_eager")
    assert "w4rl" in operators_in(Step())


@pytest.mark.usefixtures("asked")
def test_a_graph_made_for_a_gpu_runs_by_the_definition_where_there_is_none() -> None:
    x, both = pictures(), torch.randn(2, 16)
    exported = torch.export.export(Step(), (x, both))
    SWITCH.use("auto")
    wanted = exported.module()(x, both)
    SWITCH.use("gpu")
    torch.testing.assert_close(exported.module()(x, both), wanted)


@pytest.mark.slow
@pytest.mark.usefixtures("asked")
def test_it_compiles_whole() -> None:
    check_compiled("inductor")


# ---- the model of what is moved


def moved(*tensors: Tensor) -> int:
    return sum(each.numel() * each.itemsize for each in tensors)


@pytest.mark.parametrize("scaled_by", ["picture", "channel"])
def test_traffic_is_the_bytes_of_what_goes_in_and_out(kernels, scaled_by) -> None:
    grad, x, gain, shift = rows_of((2, 6, 3, 5, 2), torch.bfloat16, scaled_by)
    asks = problem(positions=15, channels=6, groups=2, scaled_by=scaled_by)
    y, mean, rstd = kernels.group(x, gain, shift, 2, 1e-5, True)
    gradients = kernels.group_backward(grad, x, gain, shift, mean, rstd, 2, True)
    seen = moved(gain, shift) * (1 if scaled_by == "picture" else 2)
    parts = 0 if scaled_by == "picture" else 2 * 2 * 6 * 4
    forward, backward = traffic.forward(asks), traffic.backward(asks)
    assert forward[:2] == (moved(x) + seen, moved(y, mean, rstd))
    assert backward[:2] == (moved(grad, x, mean, rstd) + seen + parts, moved(*gradients) + parts)
    assert forward.flops == 12 * x.numel()


def test_traffic_counts_the_second_read_of_a_group_that_does_not_fit_and_partial_sums_of_tokens() -> None:
    large = problem(positions=4096, channels=64, groups=2, scaled_by=None, parameters=None)
    size = 2 * 4096 * 64 * 2
    assert traffic.forward(large)[:2] == (2 * size, size + 2 * 2 * 8)
    assert traffic.backward(large)[:2] == (4 * size + 2 * 2 * 8, size)
    tokens = problem(norm="layer", positions=256, channels=192)
    parts, size = 2 * 2 * 4 * 192 * 4, 2 * 256 * 192 * 2
    assert traffic.chunks(256, 192) == 4
    assert traffic.backward(tokens).written == size + 2 * 2 * 192 * 2 + parts


@pytest.mark.parametrize(
    ("positions", "channels"), list(itertools.product((1, 15, 256, 4096, 10_000), (1, 7, 48, 4096)))
)
def test_tiles_are_powers_of_two_that_reach_over_everything(positions, channels) -> None:
    group, layer = traffic.group_tile(positions, channels), traffic.layer_tile(positions, channels)
    for tile in (group, layer):
        assert all(size & (size - 1) == 0 for size in tile[:2])
        assert tile.columns >= channels
    assert group.rows * group.steps >= positions
    assert group.rows * group.columns <= traffic.TILE
    assert traffic.chunks(positions, channels) * layer.rows * layer.steps >= positions
