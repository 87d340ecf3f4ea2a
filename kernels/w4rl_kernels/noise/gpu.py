"""Counter-based noise on a GPU by Triton: the integers and floats of the reference, four numbers out of each counter.

A program takes BLOCK numbers of one row. Products and sums stay apart: every kernel is launched without fusion.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from w4rl_kernels.ahead import Ahead
from w4rl_kernels.noise import BLOCK, reference

WARPS = 4
ROUNDS = tl.constexpr(reference.ROUNDS)
M0, M1 = (tl.constexpr(word) for word in reference.MULTIPLIERS)
W0, W1 = (tl.constexpr(word) for word in reference.WEYL)
ROOT_HALF = tl.constexpr(reference.ROOT_HALF)
L0, L1, L2, L3, L4, L5, L6, L7, L8 = (tl.constexpr(each) for each in reference.LOG)
LOW_LOG_2, HIGH_LOG_2 = (tl.constexpr(each) for each in reference.LOG_2)
S0, S1, S2 = (tl.constexpr(each) for each in reference.SIN)
C0, C1, C2 = (tl.constexpr(each) for each in reference.COS)
EIGHTH = tl.constexpr(reference.EIGHTH)


@triton.jit
def philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Four words of 32 bits from a counter and a key."""
    for _ in tl.static_range(ROUNDS):
        high0, high1 = tl.umulhi(c0, M0), tl.umulhi(c2, M1)
        low0, low1 = c0 * M0, c2 * M1
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + W0, k1 + W1
    return c0, c1, c2, c3


@triton.jit
def radius(word):  # type: ignore[no-untyped-def]
    """The distance from the origin that a word chooses."""
    shifted = ((word >> 8) + 1).to(tl.float32).to(tl.int32, bitcast=True) - ROOT_HALF
    exponent = ((shifted >> 23) - 24).to(tl.float32)
    x = ((shifted & 0x7FFFFF) + ROOT_HALF).to(tl.float32, bitcast=True) - 1.0
    square = x * x
    y = (((x * L0 + L1) * x + L2) * x + L3) * x + L4
    y = (((y * x + L5) * x + L6) * x + L7) * x + L8
    tail = y * x * square + exponent * LOW_LOG_2 - square * 0.5
    return tl.sqrt_rn((x + tail + exponent * HIGH_LOG_2) * -2.0)


@triton.jit
def turn(word):  # type: ignore[no-untyped-def]
    """Cosine and sine of the angle that a word chooses."""
    place = ((word >> 6) & 0xFFFFFF).to(tl.int32)
    x = (2 * place + (1 - 16777216)).to(tl.float32) * EIGHTH
    square = x * x
    sin = ((square * S0 + S1) * square + S2) * square * x + x
    cos = ((square * C0 + C1) * square + C2) * square * square - square * 0.5 + 1.0
    odd = ((word >> 30) & 1) == 1
    first, second = tl.where(odd, sin, cos), tl.where(odd, cos, sin)
    first = tl.where(((word + 0x40000000) >> 31) == 1, -first, first)
    return first, tl.where((word >> 31) == 1, -second, second)


@triton.jit
def word_block(block, first, second, stream, seed, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """The four words of each of BLOCK // 4 counters: those of the numbers from block * BLOCK on."""
    counter = (block * (BLOCK // 4) + tl.arange(0, BLOCK // 4)).to(tl.uint32)
    at = (counter, first.to(tl.uint32), second.to(tl.uint32), stream.to(tl.uint32))
    return philox(at[0], at[1], at[2], at[3], seed.to(tl.uint32), (seed >> 32).to(tl.uint32))


@triton.jit
def normal_block(block, first, second, stream, seed, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """BLOCK normal numbers of one row, in the order of the reference."""
    a, b, c, d = word_block(block, first, second, stream, seed, BLOCK)
    near, far = radius(a), radius(c)
    cos_near, sin_near = turn(b)
    cos_far, sin_far = turn(d)
    return tl.interleave(tl.interleave(near * cos_near, far * cos_far), tl.interleave(near * sin_near, far * sin_far))


@triton.jit
def position(count, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Of this program: its picture, places in that, places in all pictures, and which of them exist."""
    blocks = tl.cdiv(count, BLOCK)
    picture = (tl.program_id(0) // blocks).to(tl.int64)
    inner = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    return picture, inner, picture * count + inner, inner < count


@triton.jit(do_not_specialize=["stream"])
def normal_kernel(seeds, first, second, out, stream, count, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row, _, at, live = position(count, BLOCK)
    block = tl.program_id(0) % tl.cdiv(count, BLOCK)
    seed, one, other = tl.load(seeds + row), tl.load(first + row), tl.load(second + row)
    tl.store(out + at, normal_block(block, one, other, stream, seed, BLOCK), mask=live)


@triton.jit(do_not_specialize=["stream"])
def bits_kernel(seeds, first, second, out, stream, count, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row, _, at, live = position(count, BLOCK)
    block = tl.program_id(0) % tl.cdiv(count, BLOCK)
    seed, one, other = tl.load(seeds + row), tl.load(first + row), tl.load(second + row)
    a, b, c, d = word_block(block, one, other, stream, seed, BLOCK)
    tl.store(out + at, tl.interleave(tl.interleave(a, c), tl.interleave(b, d)).to(tl.int64), mask=live)


def bits(seeds: Tensor, first: Tensor, second: Tensor, count: int, stream: int) -> Tensor:
    """As `reference.bits`."""
    out = torch.empty(len(seeds), count, dtype=torch.int64, device=seeds.device)
    run(bits_kernel, seeds, first, second, stream, out)
    return out


def normal(seeds: Tensor, first: Tensor, second: Tensor, stream: int, out: Tensor) -> None:
    """As `reference.normal`, into out (B, count)."""
    run(normal_kernel, seeds, first, second, stream, out)


def run(kernel: Any, seeds: Tensor, first: Tensor, second: Tensor, stream: int, out: Tensor) -> None:
    rows, count = out.shape
    if out.numel():
        where = (each.contiguous() for each in (seeds, first, second))
        kernel[(rows * triton.cdiv(count, BLOCK),)](
            *where, out, stream, count, BLOCK=BLOCK, num_warps=WARPS, enable_fp_fusion=False
        )


AHEAD = {
    name: Ahead(
        kernel=kernel,
        signature={**dict.fromkeys(("seeds", "first", "second"), "*i64"), "out": out, "stream": "i32", "count": "i32"},
        constants={"BLOCK": BLOCK},
        integers={"count": BLOCK},
        warps=WARPS,
        fusion=False,
    )
    for name, kernel, out in (("normal", normal_kernel, "*fp32"), ("bits", bits_kernel, "*i64"))
}
