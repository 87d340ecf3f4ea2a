"""The steps of a sampler between two calls of its denoiser, in plain torch: the definition, and the path of torch.

Every number is float32; each line is the single operations that it says, from left to right, none of them fused. A
division by a number is torch's own: on a CPU the nearest float, on a GPU the product with the nearest inverse.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from w4rl_kernels.noise import normal_noise
from w4rl_kernels.noise import reference as noise


def start(
    seeds: Tensor, first: Tensor, second: Tensor, shape: Sequence[int], stream: int, scale: float, into: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Noise (B, *shape) by its definition times scale, and that times `into`."""
    drawn = noise.normal(seeds, first, second, math.prod(shape), stream).view(len(seeds), *shape)
    return scaled_start(drawn, scale, into, dtype)


def torch_start(
    seeds: Tensor, first: Tensor, second: Tensor, shape: Sequence[int], stream: int, scale: float, into: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The same bits, the noise being made the fastest way there is; a graph that is traced holds its definition."""
    if torch.compiler.is_compiling():
        return start(seeds, first, second, shape, stream, scale, into, dtype)
    return scaled_start(normal_noise(seeds, first, second, shape, stream=stream), scale, into, dtype)


def scaled_start(drawn: Tensor, scale: float, into: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    x = drawn * scale
    return x, (x * into).to(dtype)


def advance(
    x: Tensor, raw: Tensor, base: Tensor | None, skip: float, out: float, sigma: float, after: float, into: float,
    rounding: bool, dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """x (B, 3, S, S) at the level `after`, and that times `into`; both contiguous."""
    moved = euler(x, raw, base, skip, out, sigma, after, rounding)
    return moved, (moved * into).to(dtype)


def finish(
    x: Tensor, raw: Tensor, base: Tensor | None, skip: float, out: float, sigma: float, rounding: bool,
    ring: Tensor | None, slot: int | Tensor, frames: Tensor | None, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """The frame (B, 3, S, S) at the end, contiguous; its bytes are written into the slot of the ring, and to frames."""
    frame = round_to_bytes(to_frame(euler(x, raw, base, skip, out, sigma, 0.0, rounding), base))
    if ring is not None or frames is not None:
        write_bytes(frame, ring=ring, slot=slot, frames=frames)
    return frame.to(dtype).contiguous()


def write_bytes(
    frame: Tensor, *, ring: Tensor | None = None, slot: int | Tensor = 0, frames: Tensor | None = None
) -> None:
    """The bytes of a frame (B, 3, S, S) of whole bytes, as `finish` writes them."""
    whole = frame.add(1).mul_(127.5).round_().to(torch.uint8)
    if frames is not None:
        frames.copy_(whole)
    if isinstance(ring, Tensor) and isinstance(slot, Tensor):
        ring.index_copy_(1, slot.reshape(1), whole[:, None])
    elif ring is not None:
        ring[:, slot].copy_(whole)


def euler(
    x: Tensor, raw: Tensor, base: Tensor | None, skip: float, out: float, sigma: float, after: float, rounding: bool
) -> Tensor:
    """x after one step of first order from the level sigma to the level `after`."""
    x = x.contiguous()
    target = skip * x + out * raw.float()
    if rounding:
        target = to_target(round_to_bytes(to_frame(target, base)), base)
    return x + (x - target) / sigma * (after - sigma)


def to_frame(target: Tensor, base: Tensor | None) -> Tensor:
    return target if base is None else base + 2 * target


def to_target(frame: Tensor, base: Tensor | None) -> Tensor:
    return frame if base is None else (frame - base) / 2


def round_to_bytes(x: Tensor) -> Tensor:
    """The nearest values that uint8 frames can hold; halves to the even byte."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
