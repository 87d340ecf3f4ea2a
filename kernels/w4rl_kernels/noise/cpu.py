"""Counter-based noise on the CPU by numba: the integers and floats of the reference, sixteen blocks at a time.

Every number is of 32 bits and said to be: numba would widen what it mixes, and nothing would be computed in parallel.
"""

import numpy as np
import torch
from numba import njit
from torch import Tensor

from w4rl_kernels.noise import reference

ROUNDS = reference.ROUNDS
M0, M1 = (np.uint64(word) for word in reference.MULTIPLIERS)
W0, W1 = (np.uint32(word) for word in reference.WEYL)
ROOT_HALF = np.int32(reference.ROOT_HALF)
L0, L1, L2, L3, L4, L5, L6, L7, L8 = (np.float32(c) for c in reference.LOG)
LOW_LOG_2, HIGH_LOG_2 = (np.float32(c) for c in reference.LOG_2)
S0, S1, S2 = (np.float32(c) for c in reference.SIN)
C0, C1, C2 = (np.float32(c) for c in reference.COS)
EIGHTH, HALF, ONE, MINUS_TWO = np.float32(reference.EIGHTH), np.float32(0.5), np.float32(1), np.float32(-2)


@njit(cache=True, inline="always")
def philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Four words from a counter and a key."""
    for _ in range(ROUNDS):
        p0, p1 = np.uint64(c0) * M0, np.uint64(c2) * M1
        c0, c1 = np.uint32(np.uint32(p1 >> np.uint64(32)) ^ c1 ^ k0), np.uint32(p1)
        c2, c3 = np.uint32(np.uint32(p0 >> np.uint64(32)) ^ c3 ^ k1), np.uint32(p0)
        k0, k1 = np.uint32(k0 + W0), np.uint32(k1 + W1)
    return c0, c1, c2, c3


@njit(cache=True, inline="always")
def radius(word):  # type: ignore[no-untyped-def]
    """The distance from the origin that a word chooses."""
    number = np.float32(np.int32(word >> np.uint32(8)) + np.int32(1))
    shifted = np.int32(number.view(np.int32) - ROOT_HALF)
    exponent = np.float32(np.int32(shifted >> np.int32(23)) - np.int32(24))
    x = np.int32(np.int32(shifted & np.int32(0x7FFFFF)) + ROOT_HALF).view(np.float32) - ONE
    square = x * x
    y = (((x * L0 + L1) * x + L2) * x + L3) * x + L4
    y = (((y * x + L5) * x + L6) * x + L7) * x + L8
    tail = y * x * square + exponent * LOW_LOG_2 - square * HALF
    return np.sqrt(MINUS_TWO * (x + tail + exponent * HIGH_LOG_2))


@njit(cache=True, inline="always")
def turn(word):  # type: ignore[no-untyped-def]
    """Cosine and sine of the angle that a word chooses."""
    place = np.int32(np.uint32(word >> np.uint32(6)) & np.uint32(0xFFFFFF))
    x = np.float32(np.int32(np.int32(2) * place + np.int32(1 - 2**24))) * EIGHTH
    square = x * x
    sin = ((square * S0 + S1) * square + S2) * square * x + x
    cos = ((square * C0 + C1) * square + C2) * square * square - square * HALF + ONE
    odd = np.uint32(word >> np.uint32(30)) & np.uint32(1)
    first, second = (sin, cos) if odd else (cos, sin)
    first = -first if np.uint32(word + np.uint32(1 << 30)) >> np.uint32(31) else first
    second = -second if word >> np.uint32(31) else second
    return first, second


@njit(cache=True, inline="always")
def four(block, first, second, stream, seed):  # type: ignore[no-untyped-def]
    """Four normal numbers."""
    a, b, c, d = philox(block, first, second, stream, np.uint32(seed), np.uint32(seed >> 32))
    near, far = radius(a), radius(c)
    (x, y), (z, w) = turn(b), turn(d)
    return near * x, near * y, far * z, far * w


@njit(cache=True, nogil=True, error_model="numpy")
def fill_normal(seeds, first, second, stream, out):  # type: ignore[no-untyped-def]
    """seeds, first and second (B,) to out (B, count)."""
    whole = out.shape[1] // 4
    for n in range(out.shape[0]):
        row, seed, c1, c2, c3 = out[n], seeds[n], np.uint32(first[n]), np.uint32(second[n]), np.uint32(stream)
        for block in range(whole):
            x, y, z, w = four(np.uint32(block), c1, c2, c3, seed)
            row[4 * block], row[4 * block + 1], row[4 * block + 2], row[4 * block + 3] = x, y, z, w
        if whole * 4 < len(row):
            rest = four(np.uint32(whole), c1, c2, c3, seed)
            for number in range(len(row) - whole * 4):
                row[4 * whole + number] = rest[number]


@njit(cache=True, nogil=True, error_model="numpy")
def fill_bits(seeds, first, second, stream, out):  # type: ignore[no-untyped-def]
    """seeds, first and second (B,) to words out (B, count)."""
    for n in range(out.shape[0]):
        for block in range(-(-out.shape[1] // 4)):
            words = philox(
                np.uint32(block), np.uint32(first[n]), np.uint32(second[n]), np.uint32(stream),
                np.uint32(seeds[n]), np.uint32(seeds[n] >> 32),
            )  # fmt: skip
            for number in range(min(4, out.shape[1] - 4 * block)):
                out[n, 4 * block + number] = words[number]


def bits(seeds: Tensor, first: Tensor, second: Tensor, count: int, stream: int) -> Tensor:
    """As `reference.bits`."""
    out = torch.empty(len(seeds), count, dtype=torch.int64)
    fill_bits(seeds.numpy(), first.numpy(), second.numpy(), stream, out.numpy())
    return out


def normal(seeds: Tensor, first: Tensor, second: Tensor, stream: int, out: Tensor) -> None:
    """As `reference.normal`, into out (B, count)."""
    fill_normal(seeds.numpy(), first.numpy(), second.numpy(), stream, out.numpy())
