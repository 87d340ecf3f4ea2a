"""Attention: one definition, torch's own operators, and Triton's kernels, which agree on outputs and gradients."""

import importlib.util
import itertools
import os

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from w4rl_kernels import measured
from w4rl_kernels.attention import SWITCH, Problem, attention, key, operators, reference, traffic
from w4rl_kernels.select import ImplementationUnavailable

pytestmark = pytest.mark.filterwarnings("ignore:(invalid|divide by zero|All-NaN|overflow):RuntimeWarning:triton")

SHAPES = [  # B, N, H, D, frame, window
    (1, 1, 1, 1, 0, 0),
    (2, 9, 4, 8, 3, 0),
    (1, 12, 6, 3, 4, 2),
    (2, 57, 1, 16, 0, 0),
    (1, 35, 1, 5, 7, 2),
    (1, 48, 1, 33, 16, 1),
    (1, 33, 2, 64, 11, 0),
]
CLOSE = {
    torch.float32: {"atol": 5e-6, "rtol": 1e-5},
    torch.bfloat16: {"atol": 4e-2, "rtol": 2e-2},
    torch.float16: {"atol": 4e-3, "rtol": 3e-3},
}
"""Where both the inputs and the reference are given exactly: what rounding of shares, slopes and results leaves."""
CASES = [(shape, torch.float32) for shape in SHAPES]
CASES += [(shape, torch.bfloat16) for shape in SHAPES[1::2]] + [(shape, torch.float16) for shape in SHAPES[::3]]
CASES += [((1, 120, 1, 8, 0, 0), torch.bfloat16)]


@pytest.fixture(scope="module")
def gpu():
    """Triton's kernels, through its interpreter where there is no GPU."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip('triton is not installed; pip install "w4rl-fast[triton]"')
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("triton was imported without its interpreter; set TRITON_INTERPRET=1 for the whole run")
    from w4rl_kernels.attention import gpu

    return gpu


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch):
    """Ask for an implementation until the test ends."""
    monkeypatch.setattr(SWITCH, "asked", "auto")
    return SWITCH.use


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.empty gives not-a-number, so that whatever is left unwritten shows."""
    real = torch.empty

    def empty(*size, **options):
        made = real(*size, **options)
        return made.fill_(float("nan")) if made.is_floating_point() else made

    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch, "empty_like", lambda like: empty(like.shape, dtype=like.dtype))


def problem(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """qkv, whose heads differ in scale, and an upstream gradient."""
    sequences, tokens, heads, features = shape[:4]
    made = torch.Generator().manual_seed(tokens * 64 + features)
    qkv = torch.randn(sequences, tokens, 3, heads, features, generator=made)
    qkv *= torch.linspace(1.0, 2.0, heads)[:, None]
    return qkv.to(dtype), torch.randn(sequences, tokens, heads, features, generator=made).to(dtype)


def by_hand(qkv: Tensor, frame: int, window: int) -> Tensor:
    """The same again, one query and one head at a time."""
    sequences, tokens, _, heads, features = qkv.shape
    out = torch.zeros(sequences, tokens, heads, features, dtype=qkv.dtype)
    for b, n, h in itertools.product(range(sequences), range(tokens), range(heads)):
        first = max(0, n // frame - window + 1) * frame if window else 0
        last = (n // frame + 1) * frame if frame else tokens
        q, k, v = qkv[b, n, 0, h], qkv[b, first:last, 1, h], qkv[b, first:last, 2, h]
        out[b, n, h] = (k @ q / features**0.5).softmax(0) @ v
    return out


# ---- the definition


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_the_reference_is_the_softmax_of_each_query(shape) -> None:
    qkv = problem(shape)[0].double()
    out, lse = reference.attention_and_norm(qkv, *shape[4:])
    torch.testing.assert_close(out, by_hand(qkv, *shape[4:]))
    hidden = ~reference.visible(shape[1], *shape[4:], qkv.device)
    scores = torch.einsum("bnhd,bmhd->bhnm", qkv[:, :, 0], qkv[:, :, 1]) / shape[3] ** 0.5
    torch.testing.assert_close(lse, scores.masked_fill(hidden, float("-inf")).exp().sum(-1).log().float())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_of_the_reference_is_that_of_autograd(shape) -> None:
    qkv, grad = (each.double() for each in problem(shape))
    expected = torch.autograd.grad(reference.attention(qkv.requires_grad_(), *shape[4:]), qkv, grad)[0]
    torch.testing.assert_close(reference.attention_backward(grad, qkv.detach(), *shape[4:]), expected)


def test_it_is_differentiable_and_its_gradient_is_the_finite_difference() -> None:
    qkv = torch.randn(2, 4, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda qkv: attention(qkv, frame=2, window=1), (qkv,))


def test_frames_are_seen_by_their_own_and_later_ones_within_the_window() -> None:
    seen = reference.visible(6, 2, 2, torch.device("cpu"))
    assert seen.int().tolist() == [[1, 1, 0, 0, 0, 0]] * 2 + [[1, 1, 1, 1, 0, 0]] * 2 + [[0, 0, 1, 1, 1, 1]] * 2


# ---- torch's own operators


def attend_before(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What the networks computed before this op was there."""
    if q.device.type == "cpu" and q.dtype is torch.bfloat16:
        return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1) @ v
    return F.scaled_dot_product_attention(q, k, v)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_on_a_cpu_the_bits_are_those_of_before(dtype, layout) -> None:
    """Of a convolution's output (B, 3 H D, h, w) in either layout, and of the gradient."""
    picture = torch.randn(2, 3 * 2 * 8, 4, 6).to(dtype).contiguous(memory_format=layout).requires_grad_()
    q, k, v = picture.unflatten(1, (3, 2, -1)).flatten(4).transpose(3, 4).unbind(1)
    expected = attend_before(q, k, v).transpose(1, 2)
    made = attention(picture.permute(0, 2, 3, 1).flatten(1, 2).unflatten(2, (3, 2, 8)))
    assert made.is_contiguous()
    assert torch.equal(made, expected)
    gradients = [torch.autograd.grad(out.square().sum(), picture)[0] for out in (made, expected)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_torch_agrees_with_the_reference(shape, dtype) -> None:
    """In bfloat16 on a CPU torch rounds the scores too."""
    qkv, grad = problem(shape, dtype)
    close = {name: 2 * bound for name, bound in CLOSE[dtype].items()}
    for name in ("torch", "reference"):
        function = SWITCH.function("cpu", name)
        made = function(qkv.requires_grad_(), *shape[4:])
        expected = reference.attention(qkv.detach().double(), *shape[4:])
        torch.testing.assert_close(made.double(), expected, **close)
        slopes = torch.autograd.grad(made, qkv, grad)[0]
        expected = reference.attention_backward(grad.double(), qkv.detach().double(), *shape[4:])
        torch.testing.assert_close(slopes.double(), expected, **close)


# ---- the kernels


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("shape", "dtype"), CASES)
def test_the_kernels_agree_with_the_reference(gpu, shape, dtype) -> None:
    qkv, grad = problem(shape, dtype)
    out, lse = gpu.attention(qkv, *shape[4:])
    expected, norm = reference.attention_and_norm(qkv.double(), *shape[4:])
    assert (out.dtype, lse.dtype, out.is_contiguous()) == (dtype, torch.float32, True)
    torch.testing.assert_close(out.double(), expected, **CLOSE[dtype])
    torch.testing.assert_close(lse, norm, atol=1e-5, rtol=1e-5)
    slopes = gpu.attention_backward(grad, qkv, out, lse, *shape[4:])
    assert (slopes.dtype, slopes.is_contiguous()) == (dtype, True)
    expected = reference.attention_backward(grad.double(), qkv.double(), *shape[4:])
    torch.testing.assert_close(slopes.double(), expected, **{name: 2 * bound for name, bound in CLOSE[dtype].items()})
    assert (slopes - expected).norm() <= CLOSE[dtype]["rtol"] * expected.norm()


def test_large_scores_and_equal_ones_are_both_fine(gpu) -> None:
    """Scores in the thousands, where an exponential overflows; and none, where each share is one of nine."""
    qkv = problem((1, 9, 1, 8))[0]
    loud = qkv * torch.tensor([100.0, 100.0, 1.0])[:, None, None]
    torch.testing.assert_close(gpu.attention(loud, 0, 0)[0], reference.attention(loud, 0, 0), atol=1e-3, rtol=1e-3)
    quiet = qkv * torch.tensor([0.0, 1.0, 1.0])[:, None, None]
    out, lse = gpu.attention(quiet, 0, 0)
    torch.testing.assert_close(out, quiet[:, :, 2].mean(1, keepdim=True).expand_as(out))
    torch.testing.assert_close(lse, torch.full_like(lse, 9).log())


def test_padding_stays_out_of_scores_far_below_zero(gpu) -> None:
    """Around -280: there the score of a key that does not exist, 0, would count for more than float32 holds."""
    qkv, grad = problem((1, 9, 1, 8))
    qkv[:, :, 0] += 10
    qkv[:, :, 1] -= 10
    out, lse = gpu.attention(qkv, 0, 0)
    assert (lse < -200).all()
    torch.testing.assert_close(out, reference.attention(qkv, 0, 0), atol=1e-3, rtol=1e-3)
    expected = reference.attention_backward(grad, qkv, 0, 0)
    torch.testing.assert_close(gpu.attention_backward(grad, qkv, out, lse, 0, 0), expected, atol=5e-3, rtol=1e-3)


def test_blocks_that_the_window_hides_are_never_read(gpu) -> None:
    """Three frames of one block each: what stands in another frame, be it not-a-number, changes nothing."""
    qkv, grad = problem((1, 48, 1, 8))
    assert gpu.plan(48, 1, 8, torch.float32).constants["BLOCK"] == 16
    out, lse = gpu.attention(qkv, 16, 1)
    slopes = gpu.attention_backward(grad, qkv, out, lse, 16, 1)
    poison = torch.zeros(48)
    poison[:16] = poison[32:] = float("nan")
    bad_qkv, bad_grad = qkv + poison[:, None, None, None], grad + poison[:, None, None]
    bad_out, bad_lse = gpu.attention(bad_qkv, 16, 1)
    assert torch.equal(bad_out[:, 16:32], out[:, 16:32])
    bad_slopes = gpu.attention_backward(bad_grad, bad_qkv, bad_out, bad_lse, 16, 1)
    assert torch.equal(bad_slopes[:, 16:32], slopes[:, 16:32])


def test_not_a_number_stays_with_its_query_and_its_sequence(gpu) -> None:
    qkv, _ = problem((2, 5, 1, 4))
    qkv[0, 2, 0] = float("nan")
    out, _ = gpu.attention(qkv, 0, 0)
    assert out[0, 2].isnan().all()
    assert out[0, [0, 1, 3, 4]].isfinite().all()
    assert out[1].isfinite().all()


def test_no_sequences_are_no_error(gpu) -> None:
    qkv, grad = torch.zeros(0, 4, 3, 2, 8), torch.zeros(0, 4, 2, 8)
    out, lse = gpu.attention(qkv, 0, 0)
    assert (out.shape, lse.shape) == (grad.shape, (0, 2, 4))
    assert gpu.attention_backward(grad, qkv, out, lse, 0, 0).shape == qkv.shape


@pytest.mark.parametrize(
    ("tokens", "dtype", "block"),
    [
        (64, torch.bfloat16, 64),
        (144, torch.bfloat16, 32),
        (576, torch.float16, 64),
        (48, torch.bfloat16, 16),
        (1, torch.bfloat16, 16),
        (50, torch.bfloat16, 64),
        (1024, torch.float32, 32),
    ],
)
def test_blocks_are_as_large_as_they_can_be_without_much_padding(gpu, tokens, dtype, block) -> None:
    constants = gpu.plan(tokens, 1, 8, dtype).constants
    assert (constants["BLOCK"], constants["STEP"]) == (block, max(16, block // 2))


@pytest.mark.parametrize(
    ("heads", "features", "dtype", "together"),
    [(12, 8, torch.bfloat16, 4), (8, 8, torch.float32, 2), (7, 8, torch.float32, 1), (4, 64, torch.bfloat16, 1)],
)
def test_heads_that_memory_gives_at_once_are_taken_together(gpu, heads, features, dtype, together) -> None:
    assert gpu.plan(64, heads, features, dtype).constants["HEADS"] == together


# ---- the operator, and who serves a call


def test_asked_for_by_name_the_kernels_serve_and_differentiate(gpu, use) -> None:
    """The upstream gradient comes as it likes: here expanded and transposed."""
    qkv, _ = problem((2, 6, 2, 8))
    sides = torch.randn(8, 2).T
    results = []
    for name in ("gpu", "reference"):
        use(name)
        assert (operators._on_cpu().forward is gpu.attention) == (name == "gpu")
        leaf = qkv.clone().requires_grad_()
        out = attention(leaf, frame=3, window=1)
        results.append((out, *torch.autograd.grad((out * sides).sum(), leaf)))
        assert ("w4rl_attention" in str(out.grad_fn)) == (name == "gpu")
    for made, expected in zip(*results, strict=True):
        torch.testing.assert_close(made, expected, **CLOSE[torch.float32])


@pytest.mark.parametrize("asked", ["auto", "gpu"])
def test_the_operator_keeps_the_rules_of_torch(use, asked, request) -> None:
    if asked == "gpu":
        request.getfixturevalue("gpu")
    use(asked)
    qkv, grad = problem((1, 6, 2, 4))
    torch.library.opcheck(torch.ops.w4rl.attention, (qkv.requires_grad_(), 3, 1))
    out, lse = torch.ops.w4rl.attention(qkv.detach(), 3, 1)
    torch.library.opcheck(torch.ops.w4rl.attention_backward, (grad, qkv.detach(), out, lse, 3, 1))


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("qkv", "words"),
    [
        (torch.zeros(1, 4, 3, 2, 8, dtype=torch.float64), "float64: it takes float32, bfloat16, float16"),
        (torch.zeros(1, 4, 3, 2, 65), "heads of 65 features: it takes 1 to 64"),
        (torch.zeros(1, 4097, 3, 1, 1), "4097 tokens: it takes 1 to 4096"),
        (torch.zeros(1, 8, 3, 2, 4).transpose(1, 4), "not contiguous.*Give it qkv.contiguous"),
        (torch.zeros(1, 1, 1, 1, 1).expand(1, 4096, 3, 4096, 64), "4096 heads: one sequence has 2147483648"),
    ],
)
def test_what_the_kernels_cannot_take_is_refused_if_asked_for_and_falls_back_otherwise(use, qkv, words) -> None:
    use("gpu")
    with pytest.raises(ImplementationUnavailable, match=rf"{words}.*torch or reference would serve it"):
        attention(qkv)
    use("auto")
    given = Problem(qkv.shape[1], qkv.shape[3], qkv.shape[4], qkv.dtype, contiguous=qkv.is_contiguous())
    assert [SWITCH.serve(device, given) for device in ("cpu", "cuda")] == ["torch", "torch"]


def test_without_the_interpreter_the_kernels_need_a_gpu_and_graphs_the_reference(use, monkeypatch) -> None:
    use("gpu")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    qkv, _ = problem((1, 6, 1, 8))
    with pytest.raises(ImplementationUnavailable, match=r"need a GPU, or TRITON_INTERPRET=1.*torch or reference"):
        attention(qkv)
    assert torch.equal(torch.ops.w4rl.attention(qkv, 0, 0)[0], reference.attention(qkv, 0, 0))


@pytest.mark.usefixtures("gpu")
def test_auto_takes_the_kernels_where_they_were_measured_to_win(use, monkeypatch) -> None:
    use("auto")
    given = Problem(256, 12, 8, torch.bfloat16, grad=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(measured, "table", lambda: {"sm_90": {"attention": {key(given): 1.5}}})
    assert SWITCH.serve("cuda", given) == "gpu"
    assert SWITCH.serve("cuda", given._replace(grad=False)) == "torch", "no such measurement"
    monkeypatch.setattr(measured, "table", lambda: {"sm_90": {"attention": {key(given): 0.5}}})
    assert SWITCH.serve("cuda", given) == "torch"


@pytest.mark.parametrize(("tokens", "frame", "window"), [(12, 12, 0), (12, 12, 1), (12, 4, 3), (12, 4, 9), (4, 4, 2)])
def test_frames_and_windows_that_hide_nothing_are_no_problem_of_their_own(monkeypatch, tokens, frame, window) -> None:
    asked = []
    monkeypatch.setattr(SWITCH, "serve", lambda _, given: asked.append(given) or "torch")
    qkv, _ = problem((1, tokens, 1, 4))
    torch.testing.assert_close(attention(qkv, frame=frame, window=window), by_hand(qkv, frame, window))
    assert (asked[0].frame, asked[0].window) == (0 if frame == tokens else frame, 0)


@pytest.mark.parametrize("asks", [False, True])
def test_the_choice_rests_on_whether_a_gradient_is_asked_for(monkeypatch, asks) -> None:
    seen = []
    monkeypatch.setattr(SWITCH, "serve", lambda _, given: seen.append(given.grad) or "torch")
    qkv = problem((1, 4, 1, 4))[0].requires_grad_(asks)
    attention(qkv)
    with torch.no_grad():
        attention(qkv)
    assert seen == [asks, False]


@pytest.mark.parametrize(
    ("shape", "sizes", "words"),
    [
        ((2, 6, 2, 4), {}, r"qkv \(2, 6, 2, 4\): it is \(B, N, 3, H, D\)"),
        ((2, 6, 2, 1, 4), {}, r"qkv \(2, 6, 2, 1, 4\)"),
        ((1, 6, 3, 1, 4), {"frame": 4}, "6 tokens in frames of 4.*multiple of 4"),
        ((1, 6, 3, 1, 4), {"frame": -1}, "frame -1"),
        ((1, 6, 3, 1, 4), {"frame": 3, "window": -1}, "window -1"),
        ((1, 6, 3, 1, 4), {"window": 1}, "frame 0, window 1"),
    ],
)
def test_bad_input_is_named(shape, sizes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        attention(torch.zeros(shape), **sizes)


# ---- what a measurement is stored under and compared with


def test_the_class_of_shapes_is_said_in_words() -> None:
    assert key(Problem(256, 12, 8, torch.bfloat16)) == "256 tokens, 12 heads of 8, bfloat16"
    given = Problem(576, 128, 8, torch.float32, frame=144, window=2, grad=True)
    assert key(given) == "576 tokens, 128 heads of 8, float32, frames of 144, window 2, with gradient"


@pytest.mark.parametrize(("frame", "window"), [(0, 0), (3, 0), (3, 1), (3, 2), (1, 4)])
def test_pairs_are_those_that_see_each_other(frame: int, window: int) -> None:
    given = Problem(12, 1, 8, torch.float32, frame=frame, window=window)
    assert traffic.pairs(given) == int(reference.visible(12, frame, window, torch.device("cpu")).sum())


def test_traffic_counts_each_tensor_once_a_kernel() -> None:
    given = Problem(64, 2, 8, torch.bfloat16)
    qkv, out, lse = 3 * 64 * 2 * 8 * 2, 64 * 2 * 8 * 2, 64 * 2 * 4
    product = 2 * 2 * 64 * 64 * 8
    assert traffic.forward(given) == (qkv, out + lse, 2 * product)
    read = (qkv + 2 * out + lse) + (qkv + out + 2 * lse)
    assert traffic.backward(given, 5) == tuple(5 * each for each in (read, lse + qkv, 7 * product))


# ---- graphs


class Step(torch.nn.Module):
    def forward(self, qkv: Tensor) -> Tensor:
        return attention(qkv, frame=3, window=1).square().sum()


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["auto", "gpu"])
def test_it_compiles_whole_and_exports(use, asked, request) -> None:
    if asked == "gpu":
        request.getfixturevalue("gpu")
    torch._dynamo.reset()
    use(asked)
    qkv = problem((2, 6, 2, 8))[0].requires_grad_()
    expected = torch.autograd.grad(Step()(qkv), qkv)[0]
    compiled = torch.compile(Step(), fullgraph=True)
    torch.testing.assert_close(torch.autograd.grad(compiled(qkv), qkv)[0], expected)
    for sequences in (3, 5):  # the number of sequences may change without a choice anew
        several = problem((sequences, 6, 2, 8))[0]
        torch.testing.assert_close(compiled(several), Step()(several))
    batch = {"qkv": {0: torch.export.Dim("sequences")}}
    exported = torch.export.export(Step(), (qkv.detach(),), dynamic_shapes=batch)
    own = [str(node.target) for node in exported.graph.nodes if "w4rl" in str(node.target)]
    assert bool(own) == (asked == "gpu")
    expected = Step()(several).detach()
    use("auto")
    torch.testing.assert_close(exported.module()(several), expected)
    assert operators._on_cpu() is operators.REFERENCE
