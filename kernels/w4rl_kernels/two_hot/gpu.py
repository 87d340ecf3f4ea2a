"""embed on a GPU by Triton: two rows of the table a value, never the bins, and no atomics: the same sum every time."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from w4rl_kernels.ahead import Ahead

ROWS, COLUMNS, SPLITS = 32, 64, 16
GRAD_ROWS = 16  # with 32 the gradient of the values spills on sm_120


@triton.jit
def place(values, low, high, K: tl.constexpr):  # type: ignore[no-untyped-def]
    """Lower bin and the share of the bin above, and whether the value lies in the range."""
    free = (values - low) / (high - low) * (K - 1)
    position = tl.where(free < 0, 0.0, tl.where(free > K - 1, K - 1.0, free))
    known = tl.where(position == position, position, 0.0)
    lower = tl.minimum(known.to(tl.int32), K - 2)
    return lower, position - lower, (free >= 0) & (free <= K - 1)


@triton.jit
def embed_kernel(  # type: ignore[no-untyped-def]
    x, table, low, high, out, n, A: tl.constexpr, K: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    """One program: ROWS rows by COLUMNS features."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    live = (row < n)[:, None] & (column < D)[None, :]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for a in range(A):
        values = tl.load(x + row * A + a, mask=row < n, other=0.0).to(tl.float32)
        lower, share, _ = place(values, tl.load(low + a), tl.load(high + a), K)
        below_at = table + (a * K + lower)[:, None] * D + column[None, :]
        below = tl.load(below_at, mask=live, other=0.0).to(tl.float32)
        above = tl.load(below_at + D, mask=live, other=0.0).to(tl.float32)
        total += below + share[:, None] * (above - below)
    tl.store(out + row[:, None] * D + column[None, :], total.to(out.dtype.element_ty), mask=live)


@triton.jit
def grad_x_kernel(  # type: ignore[no-untyped-def]
    grad, x, table, low, high, grad_x, n, A: tl.constexpr, K: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    """One program: ROWS rows of one dimension."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    a = tl.program_id(1)
    values = tl.load(x + row * A + a, mask=row < n, other=0.0).to(tl.float32)
    lowest, highest = tl.load(low + a), tl.load(high + a)
    lower, _, inside = place(values, lowest, highest, K)
    slope = tl.zeros((ROWS,), tl.float32)
    for start in range(0, D, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        live = (row < n)[:, None] & (column < D)[None, :]
        below_at = table + (a * K + lower)[:, None] * D + column[None, :]
        step = tl.load(below_at + D, mask=live, other=0.0).to(tl.float32)
        step -= tl.load(below_at, mask=live, other=0.0).to(tl.float32)
        upstream = tl.load(grad + row[:, None] * D + column[None, :], mask=live, other=0.0).to(tl.float32)
        slope += tl.sum(upstream * step, axis=1)
    slope = tl.where(inside, slope * ((K - 1) / (highest - lowest)), 0.0)
    tl.store(grad_x + row * A + a, slope.to(grad_x.dtype.element_ty), mask=row < n)


@triton.jit
def grad_table_kernel(  # type: ignore[no-untyped-def]
    grad, x, low, high, parts, n, share_of_rows, A: tl.constexpr, K: tl.constexpr, D: tl.constexpr,
    PADDED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One program: all bins of one dimension by COLUMNS features, over one share of the rows."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    a = tl.program_id(1)
    split = tl.program_id(2).to(tl.int64)
    bins = tl.arange(0, PADDED)
    total = tl.zeros((PADDED, COLUMNS), tl.float32)
    lowest, highest = tl.load(low + a), tl.load(high + a)
    for start in range(0, share_of_rows, ROWS):
        row = split * share_of_rows + start + tl.arange(0, ROWS)
        here = (row < n) & (row < (split + 1) * share_of_rows)
        values = tl.load(x + row * A + a, mask=here, other=0.0).to(tl.float32)
        lower, share, _ = place(values, lowest, highest, K)
        weights = tl.where(bins[:, None] == lower[None, :], 1.0 - share[None, :], 0.0)
        weights += tl.where(bins[:, None] == lower[None, :] + 1, share[None, :], 0.0)
        live = here[:, None] & (column < D)[None, :]
        upstream = tl.load(grad + row[:, None] * D + column[None, :], mask=live, other=0.0).to(tl.float32)
        total += tl.dot(weights, upstream, input_precision="ieee")
    at = parts + ((split * A + a) * K + bins)[:, None] * D + column[None, :]
    tl.store(at, total, mask=(bins < K)[:, None] & (column < D)[None, :])


def embed(x: Tensor, table: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """As `reference.embed`."""
    (n, dimensions), (_, bins, features) = x.shape, table.shape
    out = torch.empty(n, features, dtype=table.dtype, device=x.device)
    grid = (triton.cdiv(n, ROWS), triton.cdiv(features, COLUMNS))
    if n:
        embed_kernel[grid](
            x.contiguous(), table.contiguous(), low, high, out, n, dimensions, bins, features, ROWS, COLUMNS
        )
    return out


def embed_backward(grad: Tensor, x: Tensor, table: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """As `reference.embed_backward`."""
    (n, dimensions), (_, bins, features) = x.shape, table.shape
    if not n:
        return torch.zeros_like(x), torch.zeros_like(table)
    x, grad = x.contiguous(), grad.contiguous()
    grad_x = torch.empty_like(x)
    grad_x_kernel[(triton.cdiv(n, GRAD_ROWS), dimensions)](
        grad, x, table.contiguous(), low, high, grad_x, n, dimensions, bins, features, GRAD_ROWS, COLUMNS
    )
    splits = min(SPLITS, triton.cdiv(n, ROWS))
    parts = torch.empty(splits, dimensions, bins, features, dtype=torch.float32, device=x.device)
    grad_table_kernel[(triton.cdiv(features, COLUMNS), dimensions, splits)](
        grad, x, low, high, parts, n, triton.cdiv(n, splits), dimensions, bins, features,
        max(16, triton.next_power_of_2(bins)), ROWS, COLUMNS,
    )  # fmt: skip
    return grad_x, parts.sum(0).to(table.dtype)


SIZES = {"A": 4, "K": 21, "D": 256, "ROWS": ROWS, "COLUMNS": COLUMNS}
POINTERS = ("x", "table", "low", "high", "grad", "out", "grad_x", "parts")
INTEGERS = {"n": 1024, "share_of_rows": 1024 // SPLITS}
"""Of a batch of a thousand worlds."""
AHEAD = {
    f"{name}[{values}]": Ahead(
        kernel=kernel,
        signature={
            argument: f"*{'fp32' if argument in ('low', 'high', 'parts') else values}"
            if argument in POINTERS
            else "i32"
            for argument in kernel.arg_names
            if argument not in constants
        },
        constants=constants,
        integers=INTEGERS,
    )
    for values in ("fp32", "bf16")
    for name, kernel, constants in (
        ("embed", embed_kernel, SIZES),
        ("grad_x", grad_x_kernel, {**SIZES, "ROWS": GRAD_ROWS}),
        ("grad_table", grad_table_kernel, {**SIZES, "PADDED": 32}),
    )
}
