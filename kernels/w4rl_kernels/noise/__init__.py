"""Random numbers that depend on who asks and when, and on nothing else: no state, no order, no batch.

B streams, each with a seed of 64 bits and two counters of 32 (say, an episode and a step). Element i of row b is a
function of seeds[b], first[b], second[b], `stream` and i alone: it is the same on every device, whatever stands in the
other rows, and however many elements are asked for.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from w4rl_kernels.noise import reference
from w4rl_kernels.probe import missing
from w4rl_kernels.select import Implementation, select

__all__ = ["CHOICE", "IMPLEMENTATIONS", "normal_noise", "random_bits"]


class Pair(NamedTuple):
    """bits(seeds, first, second, count, stream) -> words, and normal(seeds, first, second, stream, out)."""

    bits: Callable[[Tensor, Tensor, Tensor, int, int], Tensor]
    normal: Callable[[Tensor, Tensor, Tensor, int, Tensor], None]


def _numba() -> Pair:
    from w4rl_kernels.noise import cpu

    return Pair(cpu.bits, cpu.normal)


def _fill(seeds: Tensor, first: Tensor, second: Tensor, stream: int, out: Tensor) -> None:
    out.copy_(reference.normal(seeds, first, second, out.shape[1], stream))


REFERENCE = Pair(reference.bits, _fill)
IMPLEMENTATIONS: tuple[Implementation[Pair], ...] = (
    Implementation(name="cpu", load=_numba, unavailable=lambda: missing("numba", "w4rl-fast")),
    Implementation(name="reference", load=lambda: REFERENCE),
)
CHOICE = select("normal_noise", IMPLEMENTATIONS)


def normal_noise(
    seeds: Tensor,
    first: Tensor,
    second: Tensor,
    shape: Sequence[int],
    *,
    stream: int = 0,
    out: Tensor | None = None,
) -> Tensor:
    """Standard normal numbers (B, *shape), float32, from seeds, first and second (B,), int64; |x| is at most 5.77.

    `out`, a contiguous float32 tensor of that shape, is filled instead of allocating.
    """
    _check(seeds, first, second, stream)
    if out is None:
        out = torch.empty(len(seeds), *shape, device=seeds.device)
    elif out.shape != (len(seeds), *shape) or out.dtype is not torch.float32 or not out.is_contiguous():
        raise ValueError(
            f"out {tuple(out.shape)} of {out.dtype}: contiguous float32 {(len(seeds), *shape)} is filled. Leave it out"
        )
    _on(seeds).normal(seeds, first, second, stream, out.view(len(seeds), math.prod(shape)))
    return out


def random_bits(seeds: Tensor, first: Tensor, second: Tensor, count: int, *, stream: int = 0) -> Tensor:
    """Uniform words of 32 bits (B, count) in int64, from seeds, first and second (B,), int64."""
    _check(seeds, first, second, stream)
    return _on(seeds).bits(seeds, first, second, count, stream)


def _on(seeds: Tensor) -> Pair:
    return CHOICE.function if seeds.device.type == "cpu" else REFERENCE


def _check(seeds: Tensor, first: Tensor, second: Tensor, stream: int) -> None:
    for tensor in (seeds, first, second):
        if tensor.dtype is not torch.int64 or tensor.shape != seeds.shape or tensor.ndim != 1:
            raise ValueError(
                f"a tensor {tuple(tensor.shape)} of {tensor.dtype}: seeds, first and second are int64 (B,). Convert it"
            )
    if not 0 <= stream < 2**32:
        raise ValueError(f"stream {stream}: it lies between 0 and 2^32 - 1. Choose a smaller one")
