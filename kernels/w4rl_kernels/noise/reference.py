"""Counter-based noise in plain torch: the definition. Integers are exact, and so is every float on every device.

Philox-4x32-10 (Salmon et al. 2011) turns a counter of four 32-bit words and a key of two into four random words.
Words of 32 bits are held in int64. The floats are single operations of IEEE float32 (+, *, sqrt) in a fixed order, and
no library's logarithm or cosine, which differ between libraries in the last bit.
"""

import math

import torch
from torch import Tensor

MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10

ROOT_HALF = 0x3F3504F3
"""The bits of sqrt(1/2) in float32: mantissas lie between it and sqrt(2)."""
LOG = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
    2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
LOG_2 = (-2.12194440e-4, 0.693359375)
SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
"""Cephes' polynomials for float32, highest power first."""
EIGHTH = math.pi / 4 / 2**24


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Four words (...) from a counter and a key whose words broadcast."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for number in range(ROUNDS):
        low0, high0 = multiply(c0, MULTIPLIERS[0])
        low1, high1 = multiply(c2, MULTIPLIERS[1])
        mixed0 = high1 ^ c1 ^ ((k0 + number * WEYL[0]) & MASK)
        mixed1 = high0 ^ c3 ^ ((k1 + number * WEYL[1]) & MASK)
        c0, c1, c2, c3 = mixed0, low1, mixed1, low0
    return c0, c1, c2, c3


def multiply(word: Tensor, by: int) -> tuple[Tensor, Tensor]:
    """The low and the high word of a product; by halves, since int64 holds no product of two words."""
    upper, lower = (word >> 16) * by, (word & 0xFFFF) * by
    return ((upper << 16) + lower) & MASK, (upper + (lower >> 16)) >> 16


def bits(seeds: Tensor, first: Tensor, second: Tensor, count: int, stream: int) -> Tensor:
    """Random words (B, count): word i is word i % 4 of the counter (i // 4, first, second, stream) under key `seed`."""
    blocks = torch.arange(-(-count // 4), device=seeds.device)
    counter = (blocks, first[:, None] & MASK, second[:, None] & MASK, torch.full_like(blocks, stream))
    words = philox(counter, (seeds[:, None] & MASK, (seeds[:, None] >> 32) & MASK))
    return torch.stack(words, dim=-1).flatten(1)[:, :count]


def normal(seeds: Tensor, first: Tensor, second: Tensor, count: int, stream: int) -> Tensor:
    """Normal numbers (B, count) out of the same words by Box and Muller: two words to the same two places."""
    words = bits(seeds, first, second, count + count % 2, stream).reshape(len(seeds), -1, 2)
    square = -2 * log_of((words[..., 0] >> 8) + 1)
    radius = square.double().sqrt().float()  # torch's own root of float32 is not the nearest float everywhere
    cos, sin = turn(words[..., 1])
    return torch.stack([radius * cos, radius * sin], dim=-1).flatten(1)[:, :count]


def log_of(number: Tensor) -> Tensor:
    """log(number / 2^24) of whole numbers from 1 to 2^24."""
    shifted = number.float().view(torch.int32) - ROOT_HALF
    exponent = ((shifted >> 23) - 24).float()
    x = ((shifted & 0x7FFFFF) + ROOT_HALF).view(torch.float32) - 1
    square = x * x
    tail = polynomial(x, LOG) * x * square + exponent * LOG_2[0] - square * 0.5
    return x + tail + exponent * LOG_2[1]


def turn(word: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of an angle: two bits choose the quadrant, the next 24 a place in it."""
    x = (2 * ((word >> 6) & 0xFFFFFF) + 1 - 2**24).float() * EIGHTH
    square = x * x
    sin = polynomial(square, SIN) * square * x + x
    cos = polynomial(square, COS) * square * square - square * 0.5 + 1
    odd, negative_cos, negative_sin = (word >> 30) % 2 == 1, ((word + 2**30) >> 31) % 2 == 1, (word >> 31) == 1
    cos, sin = torch.where(odd, sin, cos), torch.where(odd, cos, sin)
    return torch.where(negative_cos, -cos, cos), torch.where(negative_sin, -sin, sin)


def polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """By Horner's rule; a product and a sum apart, never fused."""
    value = x * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        value = value * x + coefficient
    return value
