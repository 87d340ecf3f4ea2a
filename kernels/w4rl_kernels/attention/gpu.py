"""Attention on a GPU by Triton: straight from the projection, no transposes, no atomics: the same sum every time.

Every kernel has one program for a block of tokens of one sequence and one group of heads, which it takes in turn.
Scores, sums and exponentials are float32; D is padded to a power of two of at least 16, and ragged N masked.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from w4rl_kernels.ahead import Ahead

LOG2E = tl.constexpr(1.4426950408889634)
FETCH = 64
"""Bytes that memory gives at once: heads that share them are taken by one program."""
STAGES = 2
"""Steps of the gradient of keys and values that are in flight at once: with three it spills on sm_86, 89 and 120."""


@triton.jit
def place(H: tl.constexpr, HEADS: tl.constexpr, BLOCKS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Sequence, first head and block of this program; the blocks of one sequence are neighbours."""
    program = tl.program_id(0)
    group = program // BLOCKS
    return (group // (H // HEADS)).to(tl.int64), group % (H // HEADS) * HEADS, program % BLOCKS


@triton.jit
def tile(at, token, N: tl.constexpr, STRIDE: tl.constexpr, D: tl.constexpr, PADDED: tl.constexpr):  # type: ignore[no-untyped-def]
    """Pointers to the D features of some tokens of one head, and which of them exist."""
    feature = tl.arange(0, PADDED)
    return at + token[:, None] * STRIDE + feature[None, :], (token < N)[:, None] & (feature < D)[None, :]


@triton.jit
def load(at, token, N: tl.constexpr, STRIDE: tl.constexpr, D: tl.constexpr, PADDED: tl.constexpr):  # type: ignore[no-untyped-def]
    """Tokens by padded features, zero where there are none."""
    pointers, there = tile(at, token, N, STRIDE, D, PADDED)
    return tl.load(pointers, mask=there, other=0.0)


@triton.jit
def store(at, token, values, N: tl.constexpr, STRIDE: tl.constexpr, D: tl.constexpr, PADDED: tl.constexpr):  # type: ignore[no-untyped-def]
    pointers, there = tile(at, token, N, STRIDE, D, PADDED)
    tl.store(pointers, values.to(at.dtype.element_ty), mask=there)


@triton.jit
def multiply(a, b, INTERPRETED: tl.constexpr):  # type: ignore[no-untyped-def]
    """a @ b in float32; Triton's interpreter has no product of bfloat16."""
    if INTERPRETED:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def seen_by(query, N: tl.constexpr, FRAME: tl.constexpr, WINDOW: tl.constexpr):  # type: ignore[no-untyped-def]
    """From which key up to which one a query sees: its own frame and WINDOW - 1 before it, or all before it."""
    start, stop = query * 0, query * 0 + N
    if FRAME:
        stop = (query // FRAME + 1) * FRAME
    if WINDOW:
        start = tl.maximum(query // FRAME - WINDOW + 1, 0) * FRAME
    return start, stop


@triton.jit
def sees(query, key, N: tl.constexpr, FRAME: tl.constexpr, WINDOW: tl.constexpr):  # type: ignore[no-untyped-def]
    start, stop = seen_by(query, N, FRAME, WINDOW)
    if WINDOW:
        return (key >= start) & (key < stop)
    return key < stop


@triton.jit
def seeing(first, SIZE: tl.constexpr, N: tl.constexpr, FRAME: tl.constexpr, WINDOW: tl.constexpr):  # type: ignore[no-untyped-def]
    """From which query up to which one any sees the keys from `first` to `first` + SIZE."""
    start, stop = 0, N
    if FRAME:
        start = first // FRAME * FRAME
    if WINDOW:
        stop = tl.minimum(((first + SIZE - 1) // FRAME + WINDOW) * FRAME, N)
    return start, stop


@triton.jit
def attention_kernel(  # type: ignore[no-untyped-def]
    qkv, out, lse, N: tl.constexpr, H: tl.constexpr, D: tl.constexpr, FRAME: tl.constexpr, WINDOW: tl.constexpr,
    HEADS: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK queries; the softmax is made as the keys go by, STEP at a time."""
    to_log2: tl.constexpr = D**-0.5 * LOG2E
    blocks: tl.constexpr = (N + BLOCK - 1) // BLOCK
    row: tl.constexpr = H * D
    sequence, first_head, block = place(H, HEADS, blocks)
    query = block * BLOCK + tl.arange(0, BLOCK)
    start, _ = seen_by(block * BLOCK, N, FRAME, WINDOW)
    _, stop = seen_by(tl.minimum(block * BLOCK + BLOCK, N) - 1, N, FRAME, WINDOW)
    for head in range(first_head, first_head + HEADS):
        at = qkv + sequence * (3 * N * row) + head * D
        q = load(at, query, N, 3 * row, D, PADDED)
        highest = tl.full((BLOCK,), -3.4e38, tl.float32)
        weight = tl.zeros((BLOCK,), tl.float32)
        total = tl.zeros((BLOCK, PADDED), tl.float32)
        for begin in range(start, stop, STEP):
            key = begin + tl.arange(0, STEP)
            k = load(at + row, key, N, 3 * row, D, PADDED)
            v = load(at + 2 * row, key, N, 3 * row, D, PADDED)
            scores = multiply(q, tl.trans(k), INTERPRETED)
            if FRAME or N % STEP:
                scores = tl.where(sees(query[:, None], key[None, :], N, FRAME, WINDOW), scores, float("-inf"))
            now = tl.maximum(highest, tl.max(scores, axis=1) * to_log2)
            shares = tl.exp2(scores * to_log2 - now[:, None])
            fade = tl.exp2(highest - now)
            weight = weight * fade + tl.sum(shares, axis=1)
            total = total * fade[:, None] + multiply(shares.to(v.dtype), v, INTERPRETED)
            highest = now
        store(out + sequence * (N * row) + head * D, query, total / weight[:, None], N, row, D, PADDED)
        tl.store(lse + (sequence * H + head) * N + query, (highest + tl.log2(weight)) / LOG2E, mask=query < N)


@triton.jit
def grad_q_kernel(  # type: ignore[no-untyped-def]
    grad, qkv, out, lse, delta, grad_qkv, N: tl.constexpr, H: tl.constexpr, D: tl.constexpr, FRAME: tl.constexpr,
    WINDOW: tl.constexpr, HEADS: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr,
    INTERPRETED: tl.constexpr,
):  # fmt: skip
    """One program: the gradients of BLOCK queries; leaves in `delta` each one's product of output and gradient."""
    to_log2: tl.constexpr = D**-0.5 * LOG2E
    blocks: tl.constexpr = (N + BLOCK - 1) // BLOCK
    row: tl.constexpr = H * D
    sequence, first_head, block = place(H, HEADS, blocks)
    query = block * BLOCK + tl.arange(0, BLOCK)
    start, _ = seen_by(block * BLOCK, N, FRAME, WINDOW)
    _, stop = seen_by(tl.minimum(block * BLOCK + BLOCK, N) - 1, N, FRAME, WINDOW)
    for head in range(first_head, first_head + HEADS):
        offset = sequence * (N * row)
        at = qkv + 3 * offset + head * D
        upstream = load(grad + offset + head * D, query, N, row, D, PADDED)
        made = load(out + offset + head * D, query, N, row, D, PADDED)
        product = tl.sum(upstream.to(tl.float32) * made.to(tl.float32), axis=1)
        line = (sequence * H + head) * N + query
        tl.store(delta + line, product, mask=query < N)
        norm = tl.load(lse + line, mask=query < N, other=float("inf")) * LOG2E
        q = load(at, query, N, 3 * row, D, PADDED)
        total = tl.zeros((BLOCK, PADDED), tl.float32)
        for begin in range(start, stop, STEP):
            key = begin + tl.arange(0, STEP)
            k = load(at + row, key, N, 3 * row, D, PADDED)
            v = load(at + 2 * row, key, N, 3 * row, D, PADDED)
            shares = tl.exp2(multiply(q, tl.trans(k), INTERPRETED) * to_log2 - norm[:, None])
            if FRAME or N % STEP:
                shares = tl.where(sees(query[:, None], key[None, :], N, FRAME, WINDOW), shares, 0.0)
            slopes = shares * (multiply(upstream, tl.trans(v), INTERPRETED) - product[:, None])
            total += multiply(slopes.to(k.dtype), k, INTERPRETED)
        store(grad_qkv + 3 * offset + head * D, query, total * D**-0.5, N, 3 * row, D, PADDED)


@triton.jit
def grad_kv_kernel(  # type: ignore[no-untyped-def]
    grad, qkv, lse, delta, grad_qkv, N: tl.constexpr, H: tl.constexpr, D: tl.constexpr, FRAME: tl.constexpr,
    WINDOW: tl.constexpr, HEADS: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr,
    INTERPRETED: tl.constexpr,
):  # fmt: skip
    """One program: the gradients of BLOCK keys and values; scores lie transposed, keys by queries."""
    to_log2: tl.constexpr = D**-0.5 * LOG2E
    blocks: tl.constexpr = (N + BLOCK - 1) // BLOCK
    row: tl.constexpr = H * D
    sequence, first_head, block = place(H, HEADS, blocks)
    key = block * BLOCK + tl.arange(0, BLOCK)
    start, stop = seeing(block * BLOCK, BLOCK, N, FRAME, WINDOW)
    for head in range(first_head, first_head + HEADS):
        offset = sequence * (N * row)
        at = qkv + 3 * offset + head * D
        k = load(at + row, key, N, 3 * row, D, PADDED)
        v = load(at + 2 * row, key, N, 3 * row, D, PADDED)
        grad_k = tl.zeros((BLOCK, PADDED), tl.float32)
        grad_v = tl.zeros((BLOCK, PADDED), tl.float32)
        for begin in range(start, stop, STEP):
            query = begin + tl.arange(0, STEP)
            line = (sequence * H + head) * N + query
            norm = tl.load(lse + line, mask=query < N, other=float("inf")) * LOG2E
            product = tl.load(delta + line, mask=query < N, other=0.0)
            q = load(at, query, N, 3 * row, D, PADDED)
            upstream = load(grad + offset + head * D, query, N, row, D, PADDED)
            shares = tl.exp2(multiply(k, tl.trans(q), INTERPRETED) * to_log2 - norm[None, :])
            if FRAME:
                shares = tl.where(sees(query[None, :], key[:, None], N, FRAME, WINDOW), shares, 0.0)
            grad_v += multiply(shares.to(q.dtype), upstream, INTERPRETED)
            slopes = shares * (multiply(v, tl.trans(upstream), INTERPRETED) - product[None, :])
            grad_k += multiply(slopes.to(q.dtype), q, INTERPRETED)
        to = grad_qkv + 3 * offset + head * D
        store(to + row, key, grad_k * D**-0.5, N, 3 * row, D, PADDED)
        store(to + 2 * row, key, grad_v, N, 3 * row, D, PADDED)


class Plan(NamedTuple):
    """How a problem is cut: the constants of the kernels and their warps."""

    constants: dict[str, int]
    warps: int

    def programs(self, sequences: int) -> tuple[int]:
        """The grid."""
        blocks = triton.cdiv(self.constants["N"], self.constants["BLOCK"])
        return (sequences * self.constants["H"] // self.constants["HEADS"] * blocks,)


def plan(tokens: int, heads: int, features: int, dtype: torch.dtype, frame: int = 0, window: int = 0) -> Plan:
    """Blocks as long as registers hold without spills on any architecture, and as pad N by an eighth at most.

    float32 is multiplied without tensor cores, and so exactly; that takes registers: its blocks are half as long. The
    tokens that pass by a block come in steps of half its length.
    """
    single = dtype is torch.float32
    sizes = (32, 16) if single else (64, 32, 16)
    size = min(sizes, key=lambda each: max(triton.cdiv(tokens, each) * each, tokens * 9 / 8))
    shared = max(1, FETCH // (features * dtype.itemsize))
    constants = {
        "N": tokens,
        "H": heads,
        "D": features,
        "FRAME": frame,
        "WINDOW": window,
        "HEADS": max(each for each in range(1, min(heads, shared) + 1) if heads % each == 0),
        "PADDED": max(16, triton.next_power_of_2(features)),
        "BLOCK": size,
        "STEP": max(16, size // 2),
        "INTERPRETED": bool(triton.knobs.runtime.interpret),
    }
    return Plan(constants, size // 8 if single else size // 16)


def attention(qkv: Tensor, frame: int, window: int) -> tuple[Tensor, Tensor]:
    """As `reference.attention_and_norm`; qkv is contiguous."""
    sequences, tokens, _, heads, features = qkv.shape
    out = torch.empty(sequences, tokens, heads, features, dtype=qkv.dtype, device=qkv.device)
    lse = torch.empty(sequences, heads, tokens, dtype=torch.float32, device=qkv.device)
    if qkv.numel():
        cut = plan(tokens, heads, features, qkv.dtype, frame, window)
        attention_kernel[cut.programs(sequences)](qkv, out, lse, **cut.constants, num_warps=cut.warps)
    return out, lse


def attention_backward(grad: Tensor, qkv: Tensor, out: Tensor, lse: Tensor, frame: int, window: int) -> Tensor:
    """As `reference.attention_backward`, from what `attention` gave; all are contiguous."""
    sequences, tokens, _, heads, features = qkv.shape
    grad_qkv, delta = torch.empty_like(qkv), torch.empty_like(lse)
    if qkv.numel():
        cut = plan(tokens, heads, features, qkv.dtype, frame, window)
        grad_q_kernel[cut.programs(sequences)](
            grad, qkv, out, lse, delta, grad_qkv, **cut.constants, num_warps=cut.warps
        )
        grad_kv_kernel[cut.programs(sequences)](
            grad, qkv, lse, delta, grad_qkv, **cut.constants, num_warps=cut.warps, num_stages=STAGES
        )
    return grad_qkv


SHAPES = (
    (64, 12, 8, 0, 0), (64, 6, 8, 0, 0), (64, 4, 32, 0, 0), (64, 4, 48, 0, 0), (36, 128, 8, 0, 0), (144, 64, 8, 0, 0),
    (256, 12, 8, 0, 0), (1024, 4, 64, 0, 0), (576, 128, 8, 144, 0), (256, 12, 8, 64, 2),
)  # fmt: skip
"""Tokens, heads, features, frame and window of what the presets ask for, and of histories as tokens in the last two.

Those that differ in the number of heads alone share a row, so long as as many are taken together: it moves addresses
only, which changes registers by ten or so.
"""
HALF = ((64, 12, 8, 0, 0), (64, 6, 8, 0, 0), (64, 4, 32, 0, 0), (36, 128, 8, 0, 0), (256, 12, 8, 64, 2))
"""Forward in float16 too: at least one of what each preset asks for, and a mask."""
KERNELS = (("forward", attention_kernel, 3), ("grad_q", grad_q_kernel, 3), ("grad_kv", grad_kv_kernel, STAGES))
FLOATS = ("lse", "delta")


def _jobs(values: str, dtype: torch.dtype, shape: tuple[int, int, int, int, int]) -> dict[str, Ahead]:
    tokens, heads, features, frame, window = shape
    cut = plan(tokens, heads, features, dtype, frame, window)
    mask = f"/{frame}/{window}" if frame else ""
    return {
        f"{name}[{tokens}x{heads}x{features}{mask},{values}]": Ahead(
            kernel=kernel,
            signature={
                argument: "*fp32" if argument in FLOATS else f"*{values}"
                for argument in kernel.arg_names
                if argument not in cut.constants
            },
            constants={**cut.constants, "INTERPRETED": False},
            warps=cut.warps,
            stages=stages,
        )
        for name, kernel, stages in (KERNELS[:1] if dtype is torch.float16 else KERNELS)
    }


AHEAD = {
    name: job
    for values, dtype, shapes in (
        ("fp32", torch.float32, SHAPES), ("bf16", torch.bfloat16, SHAPES), ("fp16", torch.float16, HALF)
    )
    for shape in shapes
    for name, job in _jobs(values, dtype, shape).items()
}  # fmt: skip
