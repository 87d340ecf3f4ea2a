"""What a step moves and computes at least: the model that a measurement is compared with.

Counted are the bytes of every tensor that is read or written, once each, and single operations of float32 (a sum, a
product, a quotient, a comparison, a root or a change of type is one). Not counted are the whole numbers of Philox, some
25 operations a number, of addresses and of the slot, and the padding of the last block of a picture.
Nothing is differentiated, so nothing goes backward.
"""

from typing import NamedTuple

import torch

from w4rl_kernels.edm_step.operators import Problem

NOISE = 27
"""A number out of Box and Muller: half of a logarithm and a root (31), a cosine and a sine (21) and two products."""
BLEND, EULER, ROUND, RESIDUAL, SCALE = 3, 4, 8, 4, 1
"""The target out of x and raw; the step; to bytes and back; to a frame and back; and scaled for the network."""


class Traffic(NamedTuple):
    """Bytes read, bytes written, and floating point operations."""

    read: int
    written: int
    flops: int


def traffic(problem: Problem) -> Traffic:
    """Of one call."""
    numbers = problem.pictures * problem.size
    if problem.part == "start":
        written = torch.float32.itemsize + problem.made.itemsize
        return Traffic(3 * torch.int64.itemsize * problem.pictures, numbers * written, numbers * (NOISE + 1 + SCALE))
    finish = problem.part == "finish"
    based = problem.base is not None and (problem.rounding or finish)
    read = torch.float32.itemsize + sum(
        dtype.itemsize for dtype in (problem.raw, problem.base if based else None) if dtype is not None
    )
    flops = BLEND + EULER + (ROUND + RESIDUAL * based) * problem.rounding
    if finish:
        return Traffic(
            numbers * read,
            numbers * (problem.made.itemsize + problem.copies * torch.uint8.itemsize),
            numbers * (flops + 2 * based + ROUND + bool(problem.copies)),
        )
    return Traffic(
        numbers * read, numbers * (torch.float32.itemsize + problem.made.itemsize), numbers * (flops + SCALE)
    )
