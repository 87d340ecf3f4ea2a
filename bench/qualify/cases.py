"""Problems of the kernels as calls on random numbers, for a thousand worlds at once, with what is predicted of them.

Nothing is allocated before `make` is called.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.qualify.problems import MODULES, SWITCHES
from w4rl_kernels import attention, edm_step, noise, norm_act
from w4rl_kernels.attention import traffic as attention_traffic
from w4rl_kernels.edm_step.traffic import NOISE
from w4rl_kernels.norm_act import traffic as norm_traffic
from w4rl_kernels.select import Switch

PICTURES, LARGE = 1024, 256
"""A batch, and the megabytes that one tensor of it takes at most."""
HISTORY = 4
MODEST = 0.1
"""Deviation of scales and shifts."""


class Inputs(NamedTuple):
    """What a call takes: rows, a picture each, and what all pictures share. `upstream`: the gradient of its result."""

    rows: list[Tensor]
    shared: list[Tensor]
    upstream: Tensor | None = None

    @property
    def all(self) -> list[Tensor]:
        return [*self.rows, *self.shared]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One op on one class of shapes: `call` takes all of what `make` makes on a device.

    Bytes and operations are those of the traffic model, of the gradient too if that is asked for: it is one of the
    first result by all that the call takes. `roof` names the peak that operations are held to.
    """

    op: str
    key: str
    dtype: torch.dtype
    call: Callable[..., tuple[Tensor, ...]]
    make: Callable[[torch.device], Inputs]
    pictures: int
    moved: int
    flops: int
    roof: str
    grad: bool = False

    @property
    def switch(self) -> Switch[Any]:
        return SWITCHES[self.op]

    def __str__(self) -> str:
        forward_only = self.grad and not self.key.endswith("with gradient")
        return f"{self.op}: {self.key}{', with gradient' if forward_only else ''}"


def case_of(op: str, problem: Any, dtype: torch.dtype, *, few: bool, grad: bool = False) -> Case:
    """Of a problem, whatever its number of pictures; `few` for a batch of two."""
    made: Case = BUILDERS[op](problem, dtype, few, grad)
    return made


def pictures_of(numbers: int, dtype: torch.dtype, few: bool) -> int:
    return 2 if few else max(16, min(PICTURES, (LARGE << 20) // (numbers * dtype.itemsize)))


def attend(problem: attention.Problem, dtype: torch.dtype, few: bool, grad: bool) -> Case:
    problem = problem._replace(grad=grad)
    shape = (problem.tokens, 3, problem.heads, problem.features)
    pictures = pictures_of(math.prod(shape), dtype, few)
    forward, backward = (each(problem, pictures) for each in (attention_traffic.forward, attention_traffic.backward))
    return Case(
        op="attention",
        key=attention.key(problem),
        dtype=dtype,
        call=lambda qkv: (attention.attention(qkv, frame=problem.frame, window=problem.window),),
        make=lambda device: Inputs([torch.randn(pictures, *shape, device=device, dtype=dtype)], []),
        pictures=pictures,
        moved=sum(forward[:2]) + grad * sum(backward[:2]),
        flops=forward.flops + grad * backward.flops,
        roof=f"gemm_{'bf16' if dtype is torch.bfloat16 else 'fp32'}_tflops",
        grad=grad,
    )


def norm(problem: norm_act.Problem, dtype: torch.dtype, few: bool, grad: bool) -> Case:
    pictures = pictures_of(problem.positions * problem.channels, dtype, few)
    problem = problem._replace(pictures=pictures, packed=True)
    forward, backward = norm_traffic.forward(problem), norm_traffic.backward(problem)
    return Case(
        op="norm_act",
        key=norm_act.key(problem),
        dtype=dtype,
        call=partial(normed, problem),
        make=partial(pictures_to_norm, problem),
        pictures=pictures,
        moved=sum(forward[:2]) + grad * sum(backward[:2]),
        flops=forward.flops + grad * backward.flops,
        roof="gemm_fp32_tflops",
        grad=grad,
    )


def normed(problem: norm_act.Problem, x: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor]:
    if problem.norm == "layer":
        return (norm_act.layer_norm(x, gain, shift),)
    if problem.scaled_by == "channel":
        return (norm_act.group_norm(x, problem.groups, weight=gain, bias=shift, act=problem.act),)
    return (norm_act.group_norm(x, problem.groups, gain, shift, act=problem.act),)


def pictures_to_norm(problem: norm_act.Problem, device: torch.device) -> Inputs:
    """In the layout that networks give them; scales and shifts of a picture are halves of one tensor there."""
    random = partial(torch.randn, device=device, dtype=problem.dtype)
    count, channels = problem.pictures, problem.channels
    if problem.norm == "layer":
        both = MODEST * random(count, 1, 2 * channels)
        return Inputs([random(count, problem.positions, channels), *both.chunk(2, 2)], [])
    side = math.isqrt(problem.positions)
    x = random(count, channels, side, side).contiguous(memory_format=torch.channels_last)
    if problem.scaled_by == "channel":
        return Inputs([x], [1 + MODEST * random(channels), MODEST * random(channels)])
    return Inputs([x, *(MODEST * random(count, 2 * channels)).chunk(2, 1)], [])


def step(problem: edm_step.Problem, _dtype: torch.dtype, few: bool, _grad: bool) -> Case:
    pictures = 2 if few else PICTURES
    problem = problem._replace(pictures=pictures)
    traffic, side = edm_step.traffic(problem), math.isqrt(problem.size // 3)
    return Case(
        op="edm_step",
        key=edm_step.key(problem),
        dtype=problem.made,
        call=partial({"start": started, "advance": advanced, "finish": finished}[problem.part], problem),
        make=partial(places, pictures) if problem.part == "start" else partial(pictures_to_step, problem, side),
        pictures=pictures,
        moved=traffic.read + traffic.written,
        flops=traffic.flops,
        roof="gemm_fp32_tflops",
    )


NUMBERS: dict[str, Any] = {"skip": 0.3, "out": 0.7, "sigma": 2.0}
"""Of a step; its time depends on none of them."""


def started(problem: edm_step.Problem, seeds: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    side = math.isqrt(problem.size // 3)
    draw = noise.Draw(seeds, first, second)
    return edm_step.start(draw, (3, side, side), scale=5.0, into=0.2, dtype=problem.made)


def advanced(problem: edm_step.Problem, x: Tensor, raw: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    base = None if problem.base is None else rest[0]
    rounding, made = problem.rounding, problem.made
    return edm_step.advance(x, raw, base, after=0.5, into=0.9, rounding=rounding, dtype=made, **NUMBERS)


def finished(problem: edm_step.Problem, x: Tensor, raw: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
    base = None if problem.base is None else rest[0]
    ring, frames = rest[-2:] if problem.copies else (None, None)
    frame = edm_step.finish(
        x, raw, base, ring=ring, slot=1, frames=frames, rounding=problem.rounding, dtype=problem.made, **NUMBERS
    )
    return (frame,) if ring is None else (frame, frames, ring[:, 1])


def places(count: int, device: torch.device) -> Inputs:
    """Seeds and counters."""
    return Inputs([torch.arange(count, device=device) + turn for turn in range(3)], [])


def pictures_to_step(problem: edm_step.Problem, side: int, device: torch.device) -> Inputs:
    """x, raw, base if there is one, and if bytes are written, rings and frames for them."""
    shape = (problem.pictures, 3, side, side)
    floats = [torch.rand(shape, device=device) * 2 - 1 for _ in range(2 + (problem.base is not None))]
    floats[1] = floats[1].to(problem.raw)
    ring = torch.zeros(problem.pictures, HISTORY, *shape[1:], dtype=torch.uint8, device=device)
    return Inputs([*floats, *((ring, ring[:, 0].clone()) if problem.copies else ())], [])


def draw(problem: noise.Problem, _dtype: torch.dtype, few: bool, _grad: bool) -> Case:
    rows, numbers = 2 if few else PICTURES, problem[1]
    return Case(
        op="noise",
        key=noise.key(noise.Problem(rows, numbers)),
        dtype=torch.float32,
        call=lambda *where: (noise.normal_noise(*where, (numbers,)),),
        make=partial(places, rows),
        pictures=rows,
        moved=rows * (numbers * torch.float32.itemsize + 3 * torch.int64.itemsize),
        flops=rows * numbers * NOISE,
        roof="gemm_fp32_tflops",
    )


BUILDERS: dict[str, Callable[[Any, torch.dtype, bool, bool], Case]] = {
    "attention": attend, "norm_act": norm, "edm_step": step, "noise": draw,
}  # fmt: skip
assert BUILDERS.keys() == MODULES.keys()
