"""The steps of a sampler on a GPU by Triton: one pass each, and the bits of plain torch.

A program takes BLOCK numbers of one picture. Products and sums stay apart: every kernel is launched without fusion.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from w4rl_kernels.ahead import Ahead
from w4rl_kernels.noise import BLOCK
from w4rl_kernels.noise.gpu import normal_block, position

WARPS = 4
REACH = 2**31
HALF_BYTES = tl.constexpr(127.5)
INVERSE = tl.constexpr(float(np.float32(1) / np.float32(127.5)))
ROUNDS_OFF = tl.constexpr(1.5 * 2.0**23)
"""Added and taken off, it leaves the nearest whole number, halves to even, of 0 to 255."""


@triton.jit
def store(at, values, live, INTERPRETED: tl.constexpr):  # type: ignore[no-untyped-def]
    """Float32 as what `at` points to, the nearest; Triton's interpreter would cut off what bfloat16 lacks."""
    if INTERPRETED and at.dtype.element_ty == tl.bfloat16:
        bits = values.to(tl.uint32, bitcast=True)
        nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        values = tl.where(values == values, nearest.to(tl.float32, bitcast=True), values)
    tl.store(at, values.to(at.dtype.element_ty), mask=live)


@triton.jit
def load(at, picture, inner, live, by_picture, by_channel, by_row, by_column, SIDE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Numbers of one picture (3, SIDE, SIDE) of any strides, in float32."""
    channel, row, column = inner // (SIDE * SIDE), inner // SIDE % SIDE, inner % SIDE
    offset = channel * by_channel + row * by_row + column * by_column
    return tl.load(at + picture * by_picture + offset, mask=live, other=0.0).to(tl.float32)


@triton.jit
def over(values, by, inverse, INVERTED: tl.constexpr):  # type: ignore[no-untyped-def]
    """A quotient as torch makes it: on a GPU the product with the nearest inverse, on a CPU the nearest float."""
    return values * inverse if INVERTED else tl.div_rn(values, by)


@triton.jit
def nearest_byte(frame):  # type: ignore[no-untyped-def]
    """The whole number from 0 to 255 that is nearest, as float32; not-a-number stays."""
    frame = tl.where(frame < -1.0, -1.0, tl.where(frame > 1.0, 1.0, frame))
    return (frame + 1.0) * HALF_BYTES + ROUNDS_OFF - ROUNDS_OFF


@triton.jit
def of_byte(number, INVERTED: tl.constexpr):  # type: ignore[no-untyped-def]
    """The number in [-1, 1] that a byte stands for."""
    return over(number, HALF_BYTES, INVERSE, INVERTED) - 1.0


@triton.jit
def euler(  # type: ignore[no-untyped-def]
    x, raw, base, skip, out, sigma, inverse, step, BASED: tl.constexpr, ROUNDED: tl.constexpr, INVERTED: tl.constexpr
):
    """As `reference.euler`; step is `after - sigma`."""
    target = x * skip + raw * out
    if ROUNDED:
        frame = base + target * 2.0 if BASED else target
        frame = of_byte(nearest_byte(frame), INVERTED)
        target = (frame - base) * 0.5 if BASED else frame
    return x + over(x - target, sigma, inverse, INVERTED) * step


@triton.jit(do_not_specialize=["stream"])
def start_kernel(  # type: ignore[no-untyped-def]
    seeds, first, second, x, scaled, stream, scale, into, count, BLOCK: tl.constexpr, INTERPRETED: tl.constexpr
):
    """One program: BLOCK numbers of one row, four out of each counter, in the order of `noise.reference`."""
    row, _, at, live = position(count, BLOCK)
    block = tl.program_id(0) % tl.cdiv(count, BLOCK)
    seed, step, episode = tl.load(seeds + row), tl.load(first + row), tl.load(second + row)
    values = normal_block(block, step, episode, stream, seed, BLOCK) * scale
    tl.store(x + at, values, mask=live)
    store(scaled + at, values * into, live, INTERPRETED)


@triton.jit
def advance_kernel(  # type: ignore[no-untyped-def]
    x, raw, base, moved, scaled, skip, out, sigma, inverse, step, into,
    raw_picture, raw_channel, raw_row, raw_column, base_picture, base_channel, base_row, base_column,
    SIDE: tl.constexpr, BASED: tl.constexpr, ROUNDED: tl.constexpr, INVERTED: tl.constexpr,
    INTERPRETED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK numbers of one picture."""
    picture, inner, at, live = position(3 * SIDE * SIDE, BLOCK)
    here = tl.load(x + at, mask=live, other=0.0)
    said = load(raw, picture, inner, live, raw_picture, raw_channel, raw_row, raw_column, SIDE)
    known = here
    if BASED:
        known = load(base, picture, inner, live, base_picture, base_channel, base_row, base_column, SIDE)
    there = euler(here, said, known, skip, out, sigma, inverse, step, BASED, ROUNDED, INVERTED)
    tl.store(moved + at, there, mask=live)
    store(scaled + at, there * into, live, INTERPRETED)


@triton.jit(do_not_specialize=["slot"])
def finish_kernel(  # type: ignore[no-untyped-def]
    x, raw, base, frame, frames, ring, turned, skip, out, sigma, inverse, step,
    raw_picture, raw_channel, raw_row, raw_column, base_picture, base_channel, base_row, base_column,
    frames_picture, ring_picture, ring_slot, slots, slot,
    SIDE: tl.constexpr, BASED: tl.constexpr, ROUNDED: tl.constexpr, INVERTED: tl.constexpr, FRAMES: tl.constexpr,
    RING: tl.constexpr, TURNED: tl.constexpr, INTERPRETED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK numbers of one picture, and their bytes; a slot outside the ring is not written."""
    picture, inner, at, live = position(3 * SIDE * SIDE, BLOCK)
    here = tl.load(x + at, mask=live, other=0.0)
    said = load(raw, picture, inner, live, raw_picture, raw_channel, raw_row, raw_column, SIDE)
    known = here
    if BASED:
        known = load(base, picture, inner, live, base_picture, base_channel, base_row, base_column, SIDE)
    there = euler(here, said, known, skip, out, sigma, inverse, step, BASED, ROUNDED, INVERTED)
    number = nearest_byte(known + there * 2.0 if BASED else there)
    store(frame + at, of_byte(number, INVERTED), live, INTERPRETED)
    byte = tl.where(number == number, number, 0.0).to(tl.uint8)
    if FRAMES:
        tl.store(frames + picture * frames_picture + inner, byte, mask=live)
    if RING:
        place = tl.load(turned) if TURNED else slot.to(tl.int64)
        inside = (place >= 0) & (place < slots)
        tl.store(ring + picture * ring_picture + place * ring_slot + inner, byte, mask=live & inside)


def start(
    seeds: Tensor, first: Tensor, second: Tensor, shape: Sequence[int], stream: int, scale: float, into: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """As `reference.start`."""
    rows, count = len(seeds), prod(shape)
    x = torch.empty(rows, *shape, dtype=torch.float32, device=seeds.device)
    scaled = torch.empty(rows, *shape, dtype=dtype, device=seeds.device)
    if x.numel():
        start_kernel[(rows * triton.cdiv(count, BLOCK),)](
            seeds.contiguous(), first.contiguous(), second.contiguous(), x, scaled, stream, scale, into, count,
            **options(),
        )  # fmt: skip
    return x, scaled


def advance(
    x: Tensor, raw: Tensor, base: Tensor | None, skip: float, out: float, sigma: float, after: float, into: float,
    rounding: bool, dtype: torch.dtype, inverted: bool | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """As `reference.advance`; `inverted` says how to divide, if not as torch does on this device."""
    moved = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    scaled = torch.empty(x.shape, dtype=dtype, device=x.device)
    if x.numel():
        raw, base = near(raw), near(base) if rounding and base is not None else None
        read = base if base is not None else x
        advance_kernel[grid(x)](
            x.contiguous(), raw, read, moved, scaled, skip, out, sigma, inverse(sigma), after - sigma, into,
            *raw.stride(), *read.stride(), SIDE=x.shape[-1], BASED=base is not None, ROUNDED=rounding,
            INVERTED=x.is_cuda if inverted is None else inverted, **options(),
        )  # fmt: skip
    return moved, scaled


def finish(
    x: Tensor, raw: Tensor, base: Tensor | None, skip: float, out: float, sigma: float, rounding: bool,
    ring: Tensor | None, slot: int | Tensor, frames: Tensor | None, dtype: torch.dtype, inverted: bool | None = None,
) -> Tensor:  # fmt: skip
    """As `reference.finish`; `inverted` as in `advance`."""
    frame = torch.empty(x.shape, dtype=dtype, device=x.device)
    if x.numel():
        raw, read = near(raw), x if base is None else near(base)
        turned = slot if isinstance(slot, Tensor) else None
        by_picture, by_slot = (0, 0) if ring is None else ring.stride()[:2]
        finish_kernel[grid(x)](
            x.contiguous(), raw, read, frame, x if frames is None else frames, x if ring is None else ring,
            x if turned is None else turned, skip, out, sigma, inverse(sigma), 0.0 - sigma, *raw.stride(),
            *read.stride(), 0 if frames is None else frames.stride(0), by_picture, by_slot,
            0 if ring is None else ring.shape[1], 0 if isinstance(slot, Tensor) else slot,
            SIDE=x.shape[-1], BASED=base is not None, ROUNDED=rounding,
            INVERTED=x.is_cuda if inverted is None else inverted, FRAMES=frames is not None, RING=ring is not None,
            TURNED=turned is not None, **options(),
        )  # fmt: skip
    return frame


def grid(x: Tensor) -> tuple[int]:
    return (len(x) * triton.cdiv(x[0].numel(), BLOCK),)


def inverse(sigma: float) -> float:
    """1 / sigma in float32, as torch has it."""
    return float(np.float32(1) / np.float32(sigma))


def near(tensor: Tensor) -> Tensor:
    """The tensor, or a copy if one of its pictures reaches further than 32 bits count."""
    reach = sum((size - 1) * step for size, step in zip(tensor.shape[1:], tensor.stride()[1:], strict=True))
    return tensor if reach < REACH else tensor.contiguous()


def options() -> dict[str, Any]:
    interpreted = bool(triton.knobs.runtime.interpret)
    return {"BLOCK": BLOCK, "INTERPRETED": interpreted, "num_warps": WARPS, "enable_fp_fusion": False}


TYPES = {
    **dict.fromkeys(("seeds", "first", "second"), "*i64"),
    **dict.fromkeys(("x", "base", "moved", "scaled", "frame", "turned"), "*fp32"),
    **dict.fromkeys(("frames", "ring"), "*u8"),
    **dict.fromkeys(("scale", "skip", "out", "sigma", "inverse", "step", "into"), "fp32"),
}
"""Of arguments, where the slot is a number; `raw` has the dtype of the network, and others are strides and counts."""


def ahead(kernel: Any, side: int, raw: str = "fp32", **constants: int) -> Ahead:
    """Of pictures (3, side, side) that are contiguous, and a ring of four of them."""
    steps = {"picture": 3 * side**2, "channel": side**2, "row": side, "column": 1}
    count = steps["picture"]
    integers = {
        **{f"{of}_{name}": step for of in ("raw", "base") for name, step in steps.items()},
        "count": count,
        "frames_picture": count,
        "ring_picture": 4 * count,
        "ring_slot": count,
    }
    constants = {
        "BLOCK": BLOCK,
        "INTERPRETED": 0,
        **({"SIDE": side} if "SIDE" in kernel.arg_names else {}),
        **constants,
    }
    types = {**TYPES, "raw": f"*{raw}"}
    return Ahead(
        kernel=kernel,
        signature={name: types.get(name, "i32") for name in kernel.arg_names if name not in constants},
        constants=constants,
        integers={name: step for name, step in integers.items() if name in kernel.arg_names},
        warps=WARPS,
        fusion=False,
    )


STEP = {"ROUNDED": 1, "INVERTED": 1}
LANDED = {"FRAMES": 1, "RING": 1, "TURNED": 0}
AHEAD = {f"start[{side}]": ahead(start_kernel, side) for side in (48, 64)} | {
    f"{name}[{side}{'' if based else ',bare'},{raw}]": ahead(kernel, side, raw, BASED=based, **STEP, **constants)
    for side in (48, 64)
    for based in (1, 0)
    for raw in ("fp32", "bf16")
    for name, kernel, constants in (("advance", advance_kernel, {}), ("finish", finish_kernel, LANDED))
}
