"""Two-hot coding of continuous values over uniform bins: lossless, differentiable, at most two non-zeros.

A dimensions, D features; the bins of a value lie evenly from `low` to `high`, both included.
"""

from typing import Literal

import torch
from torch import Tensor

from w4rl_kernels.two_hot import reference
from w4rl_kernels.two_hot.operators import CPU, GPU, embed_rows

__all__ = ["CPU", "GPU", "decode", "embed", "encode"]

Bound = float | Tensor
Outside = Literal["clamp", "raise"]


def encode(x: Tensor, *, low: Bound, high: Bound, bins: int = 21, outside: Outside = "clamp") -> Tensor:
    """Values (...) to weights (..., bins) that sum to one, in the dtype of x.

    `low` and `high` are numbers, or tensors that broadcast with x. Values outside count as the nearer end, or raise.
    """
    lows, highs = _bounds(x, low, high, outside)
    return reference.encode(x, lows, highs, _at_least_two(bins)).to(x.dtype)


def decode(weights: Tensor, *, low: Bound, high: Bound) -> Tensor:
    """Weights (..., bins) to values (...), in the dtype of the weights: the inverse of `encode`."""
    _at_least_two(weights.shape[-1])
    shape = weights[..., 0]
    return reference.decode(weights, _as_tensor(low, shape), _as_tensor(high, shape)).to(weights.dtype)


def embed(x: Tensor, table: Tensor, *, low: Bound, high: Bound, outside: Outside = "clamp") -> Tensor:
    """Values (..., A) through a table (A, bins, D) to (..., D): what `encode` times the table, summed over A, gives.

    The bins never exist: two rows of the table are interpolated for each value. Differentiable in x and in the table;
    the sum is made in float32, the result has the dtype of the table.
    """
    if table.ndim != 3 or x.ndim < 1 or x.shape[-1] != table.shape[0]:
        raise ValueError(f"x {tuple(x.shape)}, table {tuple(table.shape)}: x ends in A and the table is (A, bins, D)")
    _at_least_two(table.shape[1])
    lows, highs = (bound.expand(x.shape[-1:]).contiguous() for bound in _bounds(x, low, high, outside))
    rows = embed_rows(x.reshape(-1, x.shape[-1]), table, lows, highs)
    return rows.reshape(*x.shape[:-1], table.shape[-1])


def _bounds(x: Tensor, low: Bound, high: Bound, outside: Outside) -> tuple[Tensor, Tensor]:
    lows, highs = _as_tensor(low, x), _as_tensor(high, x)
    if outside == "raise" and bool(((x < lows) | (x > highs)).any()):
        raise ValueError(
            f"values from {float(x.min()):g} to {float(x.max()):g}: they lie between low and high. "
            "Normalise them, or let them count as the nearer end with outside='clamp'"
        )
    return lows, highs


def _as_tensor(bound: Bound, like: Tensor) -> Tensor:
    if isinstance(bound, Tensor):
        return bound.to(device=like.device, dtype=torch.float32)
    return torch.full((), bound, dtype=torch.float32, device=like.device)


def _at_least_two(bins: int) -> int:
    if bins < 2:
        raise ValueError(f"bins {bins}: a value lies between two of them. Use 2 or more")
    return bins
