"""embed on the CPU by numba: two rows of the table a value, never the bins."""

from typing import Any

import numpy as np
import torch
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic
from torch import Tensor

COLUMNS = 64
"""Features summed at once: four AVX-512 registers, eight of AVX2, half of what there is."""
VECTOR = ir.VectorType(ir.FloatType(), COLUMNS)
EVERYWHERE = ir.Constant(ir.VectorType(ir.IntType(32), COLUMNS), [0] * COLUMNS)
FAST = ("contract", "reassoc", "nsz")


@intrinsic
def sum_rows(_context: Any, rows: Any, lower: Any, share: Any, out: Any) -> Any:
    """out[:COLUMNS]: rows lower[a] and lower[a] + 1 of `rows`, interpolated by share[a], summed over a.

    Written as vectors because a loop in numba keeps the sum in memory: it checks each time whether `out` overlaps.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays = zip(signature.args, values, strict=True)
        rows, lower, share, out = (context.make_array(kind)(context, builder, value) for kind, value in arrays)
        stride, empty = builder.extract_value(rows.strides, 0), ir.Constant(VECTOR, ir.Undefined)

        def row(number: Any) -> Any:
            start = cgutils.pointer_add(builder, rows.data, builder.mul(number, stride))  # type: ignore[no-untyped-call]
            return builder.load(builder.bitcast(start, VECTOR.as_pointer()), align=4)

        zero = ir.Constant(VECTOR, [0.0] * COLUMNS)
        total = cgutils.alloca_once_value(builder, zero)  # type: ignore[no-untyped-call]
        with cgutils.for_range(builder, builder.extract_value(lower.shape, 0)) as loop:
            number, part = (builder.load(builder.gep(each.data, [loop.index])) for each in (lower, share))
            first = builder.insert_element(empty, part, ir.IntType(32)(0))
            below, above = row(number), row(builder.add(number, number.type(1)))
            step = builder.fsub(above, below, flags=FAST)
            step = builder.fmul(step, builder.shuffle_vector(first, empty, EVERYWHERE), flags=FAST)
            mixed = builder.fadd(below, step, flags=FAST)
            builder.store(builder.fadd(builder.load(total), mixed, flags=FAST), total)
        builder.store(builder.load(total), builder.bitcast(out.data, VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(rows, lower, share, out), generate


@njit(cache=True, inline="always")
def place(x, low, scale, bins):  # type: ignore[no-untyped-def]
    """The lower bin of a value, the share of the bin above, and where the value lies, in bins; without a branch.

    Not-a-number lies in the first bin and has itself for a share.
    """
    free = (x - low) * scale
    last = np.float32(bins - 1)
    position = free if free > 0 else np.float32(0)
    position = min(last, position)
    lower = min(int(position), bins - 2)
    return lower, (free if free != free else position) - np.float32(lower), free


@njit(cache=True, fastmath=set(FAST), error_model="numpy", nogil=True)
def embed_rows(x, table, low, scale, out):  # type: ignore[no-untyped-def]
    """x (N, A), table (A, K, D), low and scale (A,) to out (N, D); scale is bins - 1 over the range."""
    dimensions, bins, features = table.shape
    rows = table.reshape(dimensions * bins, features)
    lower, share = np.empty(dimensions, np.int64), np.empty(dimensions, np.float32)
    for n in range(x.shape[0]):
        for a in range(dimensions):
            at, share[a], _ = place(x[n, a], low[a], scale[a], bins)
            lower[a] = a * bins + at
        if features < COLUMNS:
            out[n] = 0
            for a in range(dimensions):
                below, above = rows[lower[a]], rows[lower[a] + 1]
                for d in range(features):
                    out[n, d] += below[d] + share[a] * (above[d] - below[d])
        for column in range(0, features if features >= COLUMNS else 0, COLUMNS):
            first = min(column, features - COLUMNS)  # the last block may overlap the one before it
            sum_rows(rows[:, first:], lower, share, out[n, first:])  # type: ignore[call-arg]


@njit(cache=True, fastmath=set(FAST), error_model="numpy", nogil=True)
def embed_rows_backward(grad, x, table, low, scale, grad_x, grad_table):  # type: ignore[no-untyped-def]
    """grad (N, D) to grad_x (N, A) and, added up, grad_table (A, K, D)."""
    last = table.shape[1] - 1
    for n in range(x.shape[0]):
        for a in range(x.shape[1]):
            lower, share, free = place(x[n, a], low[a], scale[a], last + 1)
            below, above = table[a, lower], table[a, lower + 1]
            to_below, to_above = grad_table[a, lower], grad_table[a, lower + 1]
            slope = np.float32(0)
            for d in range(table.shape[2]):
                slope += grad[n, d] * (above[d] - below[d])
                part = share * grad[n, d]
                to_above[d] += part
                to_below[d] += grad[n, d] - part
            grad_x[n, a] = slope * scale[a] if 0 <= free <= last else np.float32(0)


def embed(x: Tensor, table: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """As `reference.embed`."""
    out = torch.empty(x.shape[0], table.shape[2])
    embed_rows(plain(x), plain(table), low.numpy(), scale_of(low, high, table), out.numpy())
    return out.to(table.dtype)


def embed_backward(grad: Tensor, x: Tensor, table: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and of the table."""
    grad_x, grad_table = torch.empty(x.shape), torch.zeros(table.shape)
    embed_rows_backward(
        plain(grad), plain(x), plain(table), low.numpy(), scale_of(low, high, table), grad_x.numpy(), grad_table.numpy()
    )
    return grad_x.to(x.dtype), grad_table.to(table.dtype)


def plain(tensor: Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return tensor.detach().float().contiguous().numpy()


def scale_of(low: Tensor, high: Tensor, table: Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return ((table.shape[1] - 1) / (high - low)).numpy()
