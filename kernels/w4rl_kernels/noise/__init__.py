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

from w4rl_kernels import measured
from w4rl_kernels.noise import reference
from w4rl_kernels.probe import missing, triton_interpreted, triton_on_gpu
from w4rl_kernels.select import Implementation, Switch

__all__ = ["IMPLEMENTATIONS", "SWITCH", "Draw", "Problem", "key", "normal_noise", "random_bits"]

LARGEST = 2**31 - 2**12
"""Numbers of a row, and programs of a kernel: both are counted in 32 bits."""
BLOCK = 512
"""Numbers of a row that a program takes."""
FEW = 64


class Pair(NamedTuple):
    """bits(seeds, first, second, count, stream) -> words, and normal(seeds, first, second, stream, out)."""

    bits: Callable[[Tensor, Tensor, Tensor, int, int], Tensor]
    normal: Callable[[Tensor, Tensor, Tensor, int, Tensor], None]


class Problem(NamedTuple):
    """So many numbers of each of some rows."""

    rows: int
    numbers: int


def key(problem: Problem) -> str:
    """The class of shapes that a measurement stands for."""
    return f"rows of {FEW} numbers or fewer" if problem.numbers <= FEW else f"rows of more than {FEW} numbers"


def refuses(problem: Problem) -> str | None:
    """Why the kernels cannot take a problem, or None."""
    if max(problem) > LARGEST or problem.rows * -(-problem.numbers // BLOCK) > LARGEST:
        return f"{problem.rows} rows of {problem.numbers} numbers: it takes up to {LARGEST}, and as many programs"
    return None


def _numba() -> Pair:
    from w4rl_kernels.noise import cpu

    return Pair(cpu.bits, cpu.normal)


def _triton() -> Pair:
    from w4rl_kernels.noise import gpu

    return Pair(gpu.bits, gpu.normal)


def _fill(seeds: Tensor, first: Tensor, second: Tensor, stream: int, out: Tensor) -> None:
    out.copy_(reference.normal(seeds, first, second, out.shape[1], stream))


REFERENCE = Implementation(name="reference", load=lambda: Pair(reference.bits, _fill))
IMPLEMENTATIONS: dict[str, tuple[Implementation[Pair], ...]] = {
    "cuda": (
        Implementation(
            name="gpu",
            load=_triton,
            unavailable=triton_on_gpu,
            refuses=refuses,
            unproven=lambda problem: measured.unproven("noise", key(problem)),
        ),
        REFERENCE,
    ),
    "cpu": (
        Implementation(name="cpu", load=_numba, unavailable=lambda: missing("numba", "w4rl-fast")),
        REFERENCE,
        Implementation(name="gpu", load=_triton, unavailable=triton_interpreted, refuses=refuses),
    ),
}
SWITCH: Switch[Pair] = Switch("noise", IMPLEMENTATIONS, Problem)


class Draw(NamedTuple):
    """Standard normal numbers that nobody has made yet: seeds, first and second (B,), int64, and a stream."""

    seeds: Tensor
    first: Tensor
    second: Tensor
    stream: int = 0

    def normal(self, shape: Sequence[int], *, out: Tensor | None = None) -> Tensor:
        """As `normal_noise`."""
        return normal_noise(*self[:3], shape, stream=self.stream, out=out)

    def check(self) -> None:
        """Refuse what is no draw."""
        for tensor in self[:3]:
            if tensor.dtype is not torch.int64 or tensor.shape != self.seeds.shape or tensor.ndim != 1:
                raise ValueError(
                    f"a tensor {tuple(tensor.shape)} of {tensor.dtype}: seeds, first and second are int64 (B,). "
                    "Convert it"
                )
        if not 0 <= self.stream < 2**32:
            raise ValueError(f"stream {self.stream}: it lies between 0 and 2^32 - 1. Choose a smaller one")


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
    Draw(seeds, first, second, stream).check()
    if out is None:
        out = torch.empty(len(seeds), *shape, device=seeds.device)
    elif out.shape != (len(seeds), *shape) or out.dtype is not torch.float32 or not out.is_contiguous():
        raise ValueError(
            f"out {tuple(out.shape)} of {out.dtype}: contiguous float32 {(len(seeds), *shape)} is filled. Leave it out"
        )
    count = math.prod(shape)
    _on(seeds, count).normal(seeds, first, second, stream, out.view(len(seeds), count))
    return out


def random_bits(seeds: Tensor, first: Tensor, second: Tensor, count: int, *, stream: int = 0) -> Tensor:
    """Uniform words of 32 bits (B, count) in int64, from seeds, first and second (B,), int64."""
    Draw(seeds, first, second, stream).check()
    return _on(seeds, count).bits(seeds, first, second, count, stream)


def _on(seeds: Tensor, count: int) -> Pair:
    device = seeds.device.type
    return SWITCH.function(device, SWITCH.of(device, len(seeds), count))
