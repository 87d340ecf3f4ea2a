"""The steps as operators of torch, without gradients: Triton's kernels on a GPU, the definition on a CPU.

A call that asks for "gpu" on a CPU runs the kernels through Triton's interpreter.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from w4rl_kernels import measured
from w4rl_kernels.edm_step import reference
from w4rl_kernels.noise import BLOCK
from w4rl_kernels.probe import triton_interpreted, triton_on_gpu
from w4rl_kernels.select import Implementation, Switch

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
LARGEST = 2**31 - 2**12
"""Numbers of a picture and programs of a kernel: both are counted in 32 bits."""


class Problem(NamedTuple):
    """One call: of `start` (raw is None), `advance` or `finish`, on pictures of `size` numbers each.

    `raw` and `base` are the dtypes of what is read, or None; `made` is that of the scaled picture or of the last frame;
    `copies` counts how often the bytes of the frame are written (ring, frames).
    """

    part: Literal["start", "advance", "finish"]
    pictures: int
    size: int
    raw: torch.dtype | None
    base: torch.dtype | None
    made: torch.dtype
    rounding: bool = True
    copies: int = 0


class Steps(NamedTuple):
    """The three functions of one implementation, by position, as `reference` has them."""

    start: Callable[..., tuple[Tensor, Tensor]]
    advance: Callable[..., tuple[Tensor, Tensor]]
    finish: Callable[..., Tensor]


def key(problem: Problem) -> str:
    """The class of shapes that a measurement stands for: "advance, pictures of 6912, bfloat16 to bfloat16"."""
    read, made = (str(each).removeprefix("torch.") for each in (problem.raw, problem.made))
    dtypes = made if problem.raw is None else f"{read} to {made}"
    return f"{problem.part}, pictures of {problem.size}, {dtypes}"


def refuses(problem: Problem) -> str | None:
    """Why the kernels cannot take a problem, or None."""
    for dtype in (problem.raw, problem.base, problem.made):
        if dtype is not None and dtype not in FLOATS:
            return f"{dtype}: it takes float32, bfloat16 and float16"
    if problem.size > LARGEST or problem.pictures * -(-problem.size // BLOCK) > LARGEST:
        return f"{problem.pictures} pictures of {problem.size} numbers: it takes up to {LARGEST}, and as many programs"
    return None


def _triton() -> Steps:
    from w4rl_kernels.edm_step import gpu

    return Steps(gpu.start, gpu.advance, gpu.finish)


GPU = Implementation(
    name="gpu",
    load=_triton,
    unavailable=triton_on_gpu,
    refuses=refuses,
    unproven=lambda problem: measured.unproven("edm_step", key(problem)),
)
ON_CPU = Implementation(name="gpu", load=_triton, unavailable=triton_interpreted, refuses=refuses)
TORCH = Implementation(name="torch", load=lambda: Steps(reference.torch_start, reference.advance, reference.finish))
REFERENCE = Implementation(name="reference", load=lambda: Steps(reference.start, reference.advance, reference.finish))
IMPLEMENTATIONS = {"cuda": (GPU, TORCH, REFERENCE), "cpu": (TORCH, REFERENCE, ON_CPU)}
SWITCH: Switch[Steps] = Switch("edm_step", IMPLEMENTATIONS, Problem)


def _here(device: str) -> Steps:
    interpreted = SWITCH.asked == "gpu" and ON_CPU.unavailable() is None
    return SWITCH.function(device, "gpu" if device == "cuda" or interpreted else "reference")


@torch.library.custom_op("w4rl::edm_start", mutates_args=(), device_types="cpu")
def start(
    seeds: Tensor, first: Tensor, second: Tensor, shape: Sequence[int], stream: int, scale: float, into: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """As `reference.start`."""
    return _here("cpu").start(seeds, first, second, shape, stream, scale, into, dtype)


@torch.library.custom_op("w4rl::edm_advance", mutates_args=(), device_types="cpu")
def advance(
    x: Tensor, raw: Tensor, base: Tensor | None, skip: float, out: float, sigma: float, after: float, into: float,
    rounding: bool, dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """As `reference.advance`."""
    return _here("cpu").advance(x, raw, base, skip, out, sigma, after, into, rounding, dtype)


@torch.library.custom_op("w4rl::edm_finish", mutates_args=("ring", "frames"), device_types="cpu")
def finish(
    x: Tensor, raw: Tensor, base: Tensor | None, skip: float, out: float, sigma: float, rounding: bool,
    ring: Tensor | None, slot: int, turn: Tensor | None, frames: Tensor | None, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """As `reference.finish`; the slot is a number, or the content of `turn` where that is given."""
    place = slot if turn is None else turn
    return _here("cpu").finish(x, raw, base, skip, out, sigma, rounding, ring, place, frames, dtype)


start.register_kernel("cuda")(lambda *given: _here("cuda").start(*given))
advance.register_kernel("cuda")(lambda *given: _here("cuda").advance(*given))


@finish.register_kernel("cuda")
def _(
    x: Tensor, raw: Tensor, base: Tensor | None, skip: float, out: float, sigma: float, rounding: bool,
    ring: Tensor | None, slot: int, turn: Tensor | None, frames: Tensor | None, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    place = slot if turn is None else turn
    return _here("cuda").finish(x, raw, base, skip, out, sigma, rounding, ring, place, frames, dtype)


@start.register_fake
def _(
    seeds: Tensor, first: Tensor, second: Tensor, shape: Sequence[int], stream: int, scale: float, into: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    sizes = (seeds.shape[0], *shape)
    return seeds.new_empty(sizes, dtype=torch.float32), seeds.new_empty(sizes, dtype=dtype)


@advance.register_fake
def _(
    x: Tensor, raw: Tensor, base: Tensor | None, skip: float, out: float, sigma: float, after: float, into: float,
    rounding: bool, dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return x.new_empty(x.shape), x.new_empty(x.shape, dtype=dtype)


@finish.register_fake
def _(
    x: Tensor, raw: Tensor, base: Tensor | None, skip: float, out: float, sigma: float, rounding: bool,
    ring: Tensor | None, slot: int, turn: Tensor | None, frames: Tensor | None, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    return x.new_empty(x.shape, dtype=dtype)
