"""Between two calls of a denoiser: a sampler of first order (EDM, Euler), in one pass a step.

B pictures, frames (B, 3, S, S) in [-1, 1], and numbers that the caller computes from the noise levels: D(x) = skip * x
+ out * F(into * x). `base` (B, 3, S, S) is the frame that the network predicts half the difference to, or None, where
it predicts the frame. With `rounding` every clean picture is one of whole bytes. What is kept is float32; networks take
and give float32, bfloat16 or float16, of any strides.

For inference: nothing is differentiated. Every implementation on a device gives the same bits.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from w4rl_kernels.edm_step import operators
from w4rl_kernels.edm_step.operators import IMPLEMENTATIONS, SWITCH, Problem, key
from w4rl_kernels.edm_step.reference import round_to_bytes, write_bytes
from w4rl_kernels.edm_step.traffic import Traffic, traffic
from w4rl_kernels.noise import Draw

__all__ = [
    "IMPLEMENTATIONS", "SWITCH", "Problem", "Traffic", "advance", "finish", "key", "round_to_bytes", "start", "traffic",
    "write_bytes",
]  # fmt: skip


def start(draw: Draw, shape: Sequence[int], *, scale: float, into: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The noise a sample starts from: x (B, *shape), float32, and x * into in `dtype`, for the network.

    x is `draw.normal(shape) * scale`.
    """
    draw.check()
    seeds, first, second, stream = draw
    given = (seeds, first, second, tuple(shape), stream, float(scale), float(into), dtype)
    name = SWITCH.of(seeds.device.type, "start", seeds.shape[0], prod(shape), None, None, dtype)
    if name == "gpu":
        return operators.start(*given)
    return SWITCH.function(seeds.device.type, name).start(*given)


def advance(
    x: Tensor,
    raw: Tensor,
    base: Tensor | None,
    *,
    skip: float,
    out: float,
    sigma: float,
    after: float,
    into: float,
    rounding: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """From the level sigma to the level `after`: the new x, float32, and x * into in `dtype`, for the network.

    x (B, 3, S, S), float32; raw, of the same shape, is what the network made of the scaled x.
    """
    _check(x, raw, base, sigma)
    facts = ("advance", x.shape[0], prod(x.shape[1:]), raw.dtype, _dtype(base), dtype, rounding)
    given = (x, raw, base, float(skip), float(out), float(sigma), float(after), float(into), rounding, dtype)
    if (name := SWITCH.of(x.device.type, *facts)) == "gpu":
        return operators.advance(*given)
    return SWITCH.function(x.device.type, name).advance(*given)


def finish(
    x: Tensor,
    raw: Tensor,
    base: Tensor | None,
    *,
    skip: float,
    out: float,
    sigma: float,
    rounding: bool,
    ring: Tensor | None = None,
    slot: int | Tensor = 0,
    frames: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """From the level sigma to none: the frame (B, 3, S, S) of whole bytes, in `dtype`.

    Its bytes are written to frames (B, 3, S, S) and to ring[:, slot], ring being (B, T, 3, S, S), where these are
    given: uint8, their pictures contiguous. `slot` is a number, or an int64 tensor () on the device of x, whose value
    the caller keeps from 0 to T - 1: the kernel writes nothing into a slot that is not there.
    """
    _check(x, raw, base, sigma)
    _check_bytes(x, ring, slot, frames)
    copies = (ring is not None) + (frames is not None)
    facts = ("finish", x.shape[0], prod(x.shape[1:]), raw.dtype, _dtype(base), dtype, rounding, copies)
    numbers = (float(skip), float(out), float(sigma))
    if (name := SWITCH.of(x.device.type, *facts)) == "gpu":
        place, turn = (0, slot) if isinstance(slot, Tensor) else (slot, None)
        return operators.finish(x, raw, base, *numbers, rounding, ring, place, turn, frames, dtype)
    finishing = SWITCH.function(x.device.type, name).finish
    return finishing(x, raw, base, *numbers, rounding, ring, slot, frames, dtype)


def _dtype(tensor: Tensor | None) -> torch.dtype | None:
    return None if tensor is None else tensor.dtype


def _check(x: Tensor, raw: Tensor, base: Tensor | None, sigma: float) -> None:
    if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] != x.shape[3] or x.dtype is not torch.float32:
        raise ValueError(f"x {tuple(x.shape)} of {x.dtype}: it is float32 (B, 3, S, S). Convert it")
    for name, tensor in (("x", x), ("raw", raw), ("base", base)):
        if tensor is None:
            continue
        if tensor.shape != x.shape or not tensor.is_floating_point():
            raise ValueError(
                f"{name} {tuple(tensor.shape)} of {tensor.dtype}: it is of floats and has the shape of x,"
                f" {tuple(x.shape)}. Convert it"
            )
        if tensor.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"{name} requires a gradient: a step keeps none. Call it under torch.no_grad()")
    if not sigma > 0:
        raise ValueError(f"sigma {sigma}: a step begins at a level above 0. Leave the last level to `finish`")


def _check_bytes(x: Tensor, ring: Tensor | None, slot: int | Tensor, frames: Tensor | None) -> None:
    for name, tensor, sizes in (("frames", frames, "(B, 3, S, S)"), ("ring", ring, "(B, T, 3, S, S)")):
        if tensor is None:
            continue
        fits = tensor.ndim == sizes.count(",") + 1 and (tensor.shape[0], *tensor.shape[-3:]) == tuple(x.shape)
        plain = tensor.stride()[-3:] == (x.shape[2] * x.shape[3], x.shape[3], 1)
        if tensor.dtype is not torch.uint8 or not fits or not plain:
            raise ValueError(
                f"{name} {tuple(tensor.shape)} of {tensor.dtype} with strides {tensor.stride()}: its bytes are uint8"
                f" {sizes}, x being {tuple(x.shape)}, and each picture is contiguous. Allocate it so"
            )
    if isinstance(slot, Tensor):
        if slot.dtype is not torch.int64 or slot.ndim or slot.device != x.device:
            raise ValueError(
                f"slot {tuple(slot.shape)} of {slot.dtype} on {slot.device}: it is int64 () on {x.device}. Convert it"
            )
    elif ring is not None and not 0 <= slot < ring.shape[1]:
        raise ValueError(f"slot {slot}: the ring has {ring.shape[1]}, counted from 0. Take it modulo that")
