"""The norms on a GPU by Triton: statistics and arithmetic in float32, no atomics, the same sums every time.

The variance is the mean of centred squares, never the difference of two large numbers.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from w4rl_kernels.ahead import Ahead
from w4rl_kernels.norm_act.traffic import Tile, chunks, group_tile, layer_tile


@triton.jit
def pair(  # type: ignore[no-untyped-def]
    gain, shift, picture, gain_stride, shift_stride, channel, inside, SCALED: tl.constexpr, ONE: tl.constexpr
):  # fmt: skip
    """What a normed value is multiplied by, ONE + gain, and the shift, of the channels of a picture."""
    if SCALED:
        factor = ONE + tl.load(gain + picture * gain_stride + channel, mask=inside, other=0.0).to(tl.float32)
        offset = tl.load(shift + picture * shift_stride + channel, mask=inside, other=0.0).to(tl.float32)
    else:
        factor = tl.full(channel.shape, 1.0, tl.float32)
        offset = tl.zeros(channel.shape, tl.float32)
    return factor, offset


@triton.jit
def finish(normed, factor, offset, ACT: tl.constexpr):  # type: ignore[no-untyped-def]
    """Normed values to what is stored."""
    out = normed * factor[None, :] + offset[None, :]
    if ACT:
        out = out * tl.sigmoid(out)
    return out


@triton.jit
def before_act(grad, normed, factor, offset, ACT: tl.constexpr):  # type: ignore[no-untyped-def]
    """The gradient of what SiLU is given."""
    if ACT:
        before = normed * factor[None, :] + offset[None, :]
        half = tl.sigmoid(before)
        grad = grad * half * (1.0 + before * (1.0 - half))
    return grad


@triton.jit
def group_kernel(  # type: ignore[no-untyped-def]
    x, gain, shift, y, means, rstds, gain_stride, shift_stride, eps, P: tl.constexpr, C: tl.constexpr, G: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SCALED: tl.constexpr, ONE: tl.constexpr, ACT: tl.constexpr,
):  # fmt: skip
    """One program: one group of one picture, in registers if its P positions are no more than ROWS, else read twice."""
    width: tl.constexpr = C // G
    picture, group = tl.program_id(0).to(tl.int64) // G, tl.program_id(0) % G
    row, column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    inside, channel = column < width, group * width + column
    factor, offset = pair(gain, shift, picture, gain_stride, shift_stride, channel, inside, SCALED, ONE)
    at = row[:, None] * C + channel[None, :]
    x += picture * P * C
    y += picture * P * C
    if ROWS >= P:
        live = (row < P)[:, None] & inside[None, :]
        values = tl.load(x + at, mask=live, other=0.0).to(tl.float32)
        mean = tl.sum(values) / (P * width)
        centred = tl.where(live, values - mean, 0.0)
        rstd = 1.0 / tl.sqrt(tl.sum(centred * centred) / (P * width) + eps)
        tl.store(y + at, finish(centred * rstd, factor, offset, ACT).to(y.dtype.element_ty), mask=live)
    else:
        # Each lane keeps the mean and the centred squares of its own values; the lanes meet once, at the end.
        own = tl.zeros((ROWS, COLUMNS), tl.float32)
        squares = tl.zeros((ROWS, COLUMNS), tl.float32)
        for first in range(0, P, ROWS):
            live = (first + row < P)[:, None] & inside[None, :]
            values = tl.load(x + first * C + at, mask=live, other=0.0).to(tl.float32)
            step = tl.where(live, values - own, 0.0)
            own += step / (first // ROWS + 1)
            squares += step * (values - own)
        seen = tl.where(inside[None, :], ((P - row + ROWS - 1) // ROWS)[:, None], 0).to(tl.float32)
        mean = tl.sum(seen * own) / (P * width)
        apart = own - mean
        rstd = 1.0 / tl.sqrt(tl.sum(squares + seen * apart * apart) / (P * width) + eps)
        for first in range(0, P, ROWS):
            live = (first + row < P)[:, None] & inside[None, :]
            values = tl.load(x + first * C + at, mask=live, other=0.0).to(tl.float32)
            out = finish((values - mean) * rstd, factor, offset, ACT)
            tl.store(y + first * C + at, out.to(y.dtype.element_ty), mask=live)
    tl.store(means + tl.program_id(0), mean)
    tl.store(rstds + tl.program_id(0), rstd)


@triton.jit
def group_grad_kernel(  # type: ignore[no-untyped-def]
    grad, x, gain, shift, means, rstds, grad_x, grad_gain, grad_shift, gain_stride, shift_stride, P: tl.constexpr,
    C: tl.constexpr, G: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SCALED: tl.constexpr,
    ONE: tl.constexpr, ACT: tl.constexpr,
):  # fmt: skip
    """One program: one group of one picture, as `group_kernel`; grad_gain and grad_shift are (B, C)."""
    width: tl.constexpr = C // G
    picture, group = tl.program_id(0).to(tl.int64) // G, tl.program_id(0) % G
    row, column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    inside, channel = column < width, group * width + column
    factor, offset = pair(gain, shift, picture, gain_stride, shift_stride, channel, inside, SCALED, ONE)
    mean, rstd = tl.load(means + tl.program_id(0)), tl.load(rstds + tl.program_id(0))
    at = row[:, None] * C + channel[None, :]
    x += picture * P * C
    grad += picture * P * C
    grad_x += picture * P * C
    if ROWS >= P:
        live = (row < P)[:, None] & inside[None, :]
        normed = (tl.load(x + at, mask=live, other=0.0).to(tl.float32) - mean) * rstd
        slope = tl.load(grad + at, mask=live, other=0.0).to(tl.float32)
        slope = before_act(slope, normed, factor, offset, ACT)
        of_gain, of_shift = tl.sum(slope * normed, axis=0), tl.sum(slope, axis=0)
        level, tilt = tl.sum(factor * of_shift) / (P * width), tl.sum(factor * of_gain) / (P * width)
        out = rstd * (slope * factor[None, :] - level - normed * tilt)
        tl.store(grad_x + at, out.to(grad_x.dtype.element_ty), mask=live)
    else:
        gains = tl.zeros((ROWS, COLUMNS), tl.float32)
        shifts = tl.zeros((ROWS, COLUMNS), tl.float32)
        for first in range(0, P, ROWS):
            live = (first + row < P)[:, None] & inside[None, :]
            normed = (tl.load(x + first * C + at, mask=live, other=0.0).to(tl.float32) - mean) * rstd
            slope = tl.load(grad + first * C + at, mask=live, other=0.0).to(tl.float32)
            slope = before_act(slope, normed, factor, offset, ACT)
            gains += slope * normed
            shifts += slope
        of_gain, of_shift = tl.sum(gains, axis=0), tl.sum(shifts, axis=0)
        level, tilt = tl.sum(factor * of_shift) / (P * width), tl.sum(factor * of_gain) / (P * width)
        for first in range(0, P, ROWS):
            live = (first + row < P)[:, None] & inside[None, :]
            normed = (tl.load(x + first * C + at, mask=live, other=0.0).to(tl.float32) - mean) * rstd
            slope = tl.load(grad + first * C + at, mask=live, other=0.0).to(tl.float32)
            slope = before_act(slope, normed, factor, offset, ACT)
            out = rstd * (slope * factor[None, :] - level - normed * tilt)
            tl.store(grad_x + first * C + at, out.to(grad_x.dtype.element_ty), mask=live)
    if SCALED:
        tl.store(grad_gain + picture * C + channel, of_gain.to(grad_gain.dtype.element_ty), mask=inside)
        tl.store(grad_shift + picture * C + channel, of_shift.to(grad_shift.dtype.element_ty), mask=inside)


@triton.jit
def layer_kernel(  # type: ignore[no-untyped-def]
    x, scale, shift, y, means, rstds, scale_stride, shift_stride, eps, N: tl.constexpr, W: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One program: ROWS tokens of one picture."""
    blocks: tl.constexpr = (N + ROWS - 1) // ROWS
    picture = tl.program_id(0).to(tl.int64) // blocks
    row, column = (tl.program_id(0) % blocks) * ROWS + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    factor, offset = pair(scale, shift, picture, scale_stride, shift_stride, column, column < W, True, 1.0)
    live = (row < N)[:, None] & (column < W)[None, :]
    x += picture * N * W
    y += picture * N * W
    at = row[:, None] * W + column[None, :]
    values = tl.load(x + at, mask=live, other=0.0).to(tl.float32)
    mean = tl.sum(values, axis=1) / W
    centred = tl.where(live, values - mean[:, None], 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=1) / W + eps)
    tl.store(y + at, finish(centred * rstd[:, None], factor, offset, False).to(y.dtype.element_ty), mask=live)
    tl.store(means + picture * N + row, mean, mask=row < N)
    tl.store(rstds + picture * N + row, rstd, mask=row < N)


@triton.jit
def layer_grad_kernel(  # type: ignore[no-untyped-def]
    grad, x, scale, means, rstds, grad_x, grad_scale, grad_shift, scale_stride, N: tl.constexpr, W: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """One program: STEPS blocks of ROWS tokens of one picture; the sums grad_scale and grad_shift are (programs, W)."""
    chunks: tl.constexpr = (N + ROWS * STEPS - 1) // (ROWS * STEPS)
    picture = tl.program_id(0).to(tl.int64) // chunks
    column = tl.arange(0, COLUMNS)
    inside = column < W
    factor = 1.0 + tl.load(scale + picture * scale_stride + column, mask=inside, other=0.0).to(tl.float32)
    scales = tl.zeros((ROWS, COLUMNS), tl.float32)
    shifts = tl.zeros((ROWS, COLUMNS), tl.float32)
    x += picture * N * W
    grad += picture * N * W
    grad_x += picture * N * W
    means += picture * N
    rstds += picture * N
    for step in range(STEPS):
        row = ((tl.program_id(0) % chunks) * STEPS + step) * ROWS + tl.arange(0, ROWS)
        live = (row < N)[:, None] & inside[None, :]
        at = row[:, None] * W + column[None, :]
        mean = tl.load(means + row, mask=row < N, other=0.0)
        rstd = tl.load(rstds + row, mask=row < N, other=0.0)
        normed = (tl.load(x + at, mask=live, other=0.0).to(tl.float32) - mean[:, None]) * rstd[:, None]
        upstream = tl.load(grad + at, mask=live, other=0.0).to(tl.float32)
        scales += upstream * normed
        shifts += upstream
        slope = upstream * factor[None, :]
        level, tilt = tl.sum(slope, axis=1) / W, tl.sum(slope * normed, axis=1) / W
        out = rstd[:, None] * (slope - level[:, None] - normed * tilt[:, None])
        tl.store(grad_x + at, out.to(grad_x.dtype.element_ty), mask=live)
    at = tl.program_id(0).to(tl.int64) * W + column
    tl.store(grad_scale + at, tl.sum(scales, axis=0).to(grad_scale.dtype.element_ty), mask=inside)
    tl.store(grad_shift + at, tl.sum(shifts, axis=0).to(grad_shift.dtype.element_ty), mask=inside)


def group(
    x: Tensor, gain: Tensor | None, shift: Tensor | None, groups: int, eps: float, act: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """As `reference.group`."""
    (pictures, positions, channels), y = x.shape, torch.empty_like(x)
    means, rstds = (torch.empty(pictures, groups, dtype=torch.float32, device=x.device) for _ in range(2))
    tile = group_tile(positions, channels // groups)
    gains, shifts, *strides = _lined_up(gain, shift, x)
    group_kernel[(pictures * groups,)](
        x, gains, shifts, y, means, rstds, *strides, eps, positions, channels, groups, tile.rows, tile.columns,
        gain is not None, _one(gain), act, num_warps=group_warps(tile, FORWARD),
    )  # fmt: skip
    return y, means, rstds


def group_backward(
    grad: Tensor,
    x: Tensor,
    gain: Tensor | None,
    shift: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    groups: int,
    act: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `reference.group_backward`."""
    (pictures, positions, channels), grad_x = x.shape, torch.empty_like(x)
    tile = group_tile(positions, channels // groups)
    gains, shifts, *strides = _lined_up(gain, shift, x)
    sums = [_sums(each, pictures, channels, x) for each in (gain, shift)]
    group_grad_kernel[(pictures * groups,)](
        grad, x, gains, shifts, mean, rstd, grad_x, *sums, *strides, positions, channels, groups, tile.rows,
        tile.columns, gain is not None, _one(gain), act, num_warps=group_warps(tile, BACKWARD),
    )  # fmt: skip
    if gain is not None and shift is not None and gain.ndim == 1:
        return grad_x, sums[0].sum(0).to(gain.dtype), sums[1].sum(0).to(shift.dtype)
    return grad_x, sums[0], sums[1]


def layer(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """As `reference.layer`."""
    (pictures, tokens, width), y = x.shape, torch.empty_like(x)
    means, rstds = (torch.empty(pictures, tokens, dtype=torch.float32, device=x.device) for _ in range(2))
    tile = layer_tile(tokens, width)
    scales, shifts, *strides = _lined_up(scale, shift, x)
    layer_kernel[(pictures * triton.cdiv(tokens, tile.rows),)](
        x, scales, shifts, y, means, rstds, *strides, eps, tokens, width, tile.rows, tile.columns,
        num_warps=warps(tile, LAYER),
    )  # fmt: skip
    return y, means, rstds


def layer_backward(
    grad: Tensor, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """As `reference.layer_backward`."""
    (pictures, tokens, width), grad_x = x.shape, torch.empty_like(x)
    tile, parts = layer_tile(tokens, width), chunks(tokens, width)
    scales, _, stride, _ = _lined_up(scale, shift, x)
    sums = [
        torch.empty(pictures * parts, width, dtype=each.dtype if parts == 1 else torch.float32, device=x.device)
        for each in (scale, shift)
    ]
    layer_grad_kernel[(pictures * parts,)](
        grad, x, scales, mean, rstd, grad_x, *sums, stride, tokens, width, tile.rows, tile.columns, tile.steps,
        num_warps=warps(tile, LAYER),
    )  # fmt: skip
    if parts > 1:
        sums = [each.view(pictures, parts, width).sum(1) for each in sums]
    return grad_x, sums[0].to(scale.dtype), sums[1].to(shift.dtype)


FORWARD, BACKWARD, LOOP, LAYER = 64, 32, 16, 16
"""Numbers of a tile a thread holds: fewer where a program holds several tiles, as gradients and loops do."""


def warps(tile: Tile, numbers: int) -> int:
    return min(16, max(1, tile.rows * tile.columns // (32 * numbers)))


def group_warps(tile: Tile, numbers: int) -> int:
    return warps(tile, numbers if tile.steps == 1 else LOOP)


def _lined_up(gain: Tensor | None, shift: Tensor | None, x: Tensor) -> tuple[Tensor, Tensor, int, int]:
    """Gain and shift with channels one after another, and the steps from picture to picture; x stands in for None."""
    if gain is None or shift is None:
        return x, x, 0, 0
    gain, shift = (each if each.stride(-1) == 1 else each.contiguous() for each in (gain, shift))
    return (gain, shift, 0, 0) if gain.ndim == 1 else (gain, shift, gain.stride(0), shift.stride(0))


def _one(gain: Tensor | None) -> float:
    """What is added to the gain."""
    return 1.0 if gain is not None and gain.ndim == 2 else 0.0


def _sums(like: Tensor | None, pictures: int, channels: int, x: Tensor) -> Tensor:
    """Where the gradient of a parameter goes: one row a picture, in float32 if they are to be added up."""
    if like is None:
        return torch.empty(0, dtype=x.dtype, device=x.device)
    return torch.empty(pictures, channels, dtype=torch.float32 if like.ndim == 1 else like.dtype, device=x.device)


ADAPTIVE = (
    (256, 768, 24), (256, 16, 1), (2304, 64, 2), (36, 1536, 48), (64, 96, 3), (64, 16, 1), (64, 48, 1), (144, 768, 24),
    (576, 384, 12), (1024, 384, 12), (4096, 64, 2),
)  # fmt: skip
"""Positions, channels and groups of the presets' norms before convolutions: scaled by picture, and SiLU behind.

Those that differ in the number of groups alone share a row. It moves addresses only; but where the channels are no
power of two that takes registers, and so these stand for all.
"""
LAST = ((256, 32, 1), (256, 16, 1), (2304, 64, 2), (4096, 64, 2))
"""The same of norms before the last convolution: scaled by channel, and SiLU behind."""
BARE = ((64, 96, 3), (64, 48, 1), (36, 1024, 32), (144, 512, 16), (256, 512, 16))
"""The same of norms before attention: scaled by channel."""
LAYERS = ((64, 128), (64, 192), (256, 192))
"""Tokens and width of the presets, and more tokens than a program of the gradient sums over."""
HALF = ((256, 768, 24), (256, 16, 1), (2304, 64, 2))
"""Forward in float16 too, as is the first of LAYERS: at least one of what each preset asks for."""
STATISTICS = dict.fromkeys(("means", "rstds"), "*fp32")
SUMS = dict.fromkeys(("grad_gain", "grad_shift", "grad_scale"), "*fp32")
"""Partial sums, where there are several of a parameter."""


def _job(
    kernel: triton.JITFunction, values: str, constants: dict[str, int], threads: int, stride: int, *, summed: bool
) -> Ahead:
    strides = dict.fromkeys(("gain_stride", "shift_stride", "scale_stride"), "i32")
    types = {**STATISTICS, **strides, "eps": "fp32", **(SUMS if summed else {})}
    return Ahead(
        kernel=kernel,
        signature={name: types.get(name, f"*{values}") for name in kernel.arg_names if name not in constants},
        constants=constants,
        integers={name: stride for name in strides if name in kernel.arg_names},
        warps=threads,
    )


def _groups(kind: str, values: str, positions: int, channels: int, groups: int) -> dict[str, Ahead]:
    tile, adaptive = group_tile(positions, channels // groups), kind == "adaptive"
    sizes = {"P": positions, "C": channels, "G": groups, "ROWS": tile.rows, "COLUMNS": tile.columns}
    sizes |= {"SCALED": True, "ONE": int(adaptive), "ACT": kind != "bare"}
    name, stride = f"[{positions}x{channels}/{groups},{kind},{values}]", 2 * channels if adaptive else 0
    return {
        f"{kernel}{name}": _job(function, values, sizes, group_warps(tile, numbers), stride, summed=not adaptive)
        for kernel, function, numbers in (
            ("group", group_kernel, FORWARD), ("group_grad", group_grad_kernel, BACKWARD)
        )
    }  # fmt: skip


def _layers(values: str, tokens: int, width: int) -> dict[str, Ahead]:
    tile, name = layer_tile(tokens, width), f"[{tokens}x{width},{values}]"
    sizes = {"N": tokens, "W": width, "ROWS": tile.rows, "COLUMNS": tile.columns}
    return {
        f"{kernel}{name}": _job(
            function, values, constants, warps(tile, LAYER), 6 * width, summed=chunks(tokens, width) > 1
        )
        for kernel, function, constants in (
            ("layer", layer_kernel, sizes), ("layer_grad", layer_grad_kernel, {**sizes, "STEPS": tile.steps})
        )
    }  # fmt: skip


def _jobs() -> dict[str, Ahead]:
    made: dict[str, Ahead] = {}
    for values in ("fp32", "bf16"):
        for kind, shapes in (("adaptive", ADAPTIVE), ("last", LAST), ("bare", BARE)):
            for shape in shapes:
                made |= _groups(kind, values, *shape)
        for tokens, width in LAYERS:
            made |= _layers(values, tokens, width)
    half = [_groups("adaptive", "fp16", *shape) for shape in HALF] + [_layers("fp16", *LAYERS[0])]
    return made | {name: job for each in half for name, job in each.items() if "grad" not in name}


AHEAD = _jobs()
