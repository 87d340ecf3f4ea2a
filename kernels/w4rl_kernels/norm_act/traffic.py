"""What a call of the kernels moves and computes: the model that a measurement is compared with.

Bytes are those the programs ask for. Counted: x, its gradients, parameters once a picture, the saved mean and
1 / deviation in float32, and partial sums in float32, written and read again. A group whose positions and channels do
not fit in the registers of a program is read twice; the second read comes from the L2 cache for the most part, so a
GPU may take less time than the bytes say. Operations: additions, multiplications, divisions, roots and exponentials
of numbers that exist, one each; comparisons, conversions and the lanes that pad a tile are not counted.
"""

from typing import NamedTuple

import torch

from w4rl_kernels.norm_act.operators import Problem

TILE, STEP, LAYER_TILE, CHUNK = 16384, 4096, 2048, 64
"""Numbers a program holds of a group that fits, of one that does not, and of tokens; tokens a program sums over."""


class Traffic(NamedTuple):
    """Bytes read and written, floating point operations."""

    read: int
    written: int
    flops: int


class Tile(NamedTuple):
    """Rows and columns of a program's tile, powers of two, and how many such tiles it walks over."""

    rows: int
    columns: int
    steps: int


def group_tile(positions: int, channels: int) -> Tile:
    """The tile of one group: positions by channels of the group."""
    columns = _power(channels)
    if _power(positions) * columns <= TILE:
        return Tile(_power(positions), columns, 1)
    rows = max(1, STEP // columns)
    return Tile(rows, columns, -(-positions // rows))


def layer_tile(tokens: int, width: int) -> Tile:
    """The tile of a block of tokens; `steps` counts the tiles that the gradient's program sums over."""
    columns = _power(width)
    rows = min(_power(tokens), max(1, LAYER_TILE // columns))
    return Tile(rows, columns, max(1, min(CHUNK, _power(tokens)) // rows))


def chunks(tokens: int, width: int) -> int:
    """Partial sums a picture of the gradients of a layer norm's scale and shift."""
    tile = layer_tile(tokens, width)
    return -(-tokens // (tile.rows * tile.steps))


def forward(problem: Problem) -> Traffic:
    """x, parameters to y, mean and 1 / deviation."""
    numbers, each = _numbers(problem), problem.dtype.itemsize
    walks = _walks(problem)
    flops = 4 + 2 + (2 if problem.scaled_by else 0) + (4 if problem.act else 0) + (2 if walks > 1 else 0)
    return Traffic(
        read=walks * numbers * each + _parameters(problem),
        written=numbers * each + _statistics(problem),
        flops=flops * numbers,
    )


def backward(problem: Problem) -> Traffic:
    """The gradient of y, x, parameters, mean and 1 / deviation to the gradients of x and of the parameters."""
    numbers, each = _numbers(problem), problem.dtype.itemsize
    walks, parts = _walks(problem), _partial_sums(problem)
    slope = 2 + ((8 + (2 if problem.scaled_by else 0)) if problem.act else 0)
    return Traffic(
        read=2 * walks * numbers * each + _parameters(problem) + _statistics(problem) + parts,
        written=numbers * each + _gradients(problem) + parts,
        flops=(walks * slope + 3 + 5) * numbers,
    )


def _numbers(problem: Problem) -> int:
    return problem.pictures * problem.positions * problem.channels


def _walks(problem: Problem) -> int:
    """How often the tensor is read."""
    whole = problem.norm == "layer" or group_tile(problem.positions, problem.channels // problem.groups).steps == 1
    return 1 if whole else 2


def _statistics(problem: Problem) -> int:
    return 8 * problem.pictures * (problem.positions if problem.norm == "layer" else problem.groups)


def _itemsize(problem: Problem) -> int:
    return (problem.parameters or torch.float32).itemsize


def _parameters(problem: Problem) -> int:
    return 2 * problem.pictures * problem.channels * _itemsize(problem) if problem.scaled_by else 0


def _gradients(problem: Problem) -> int:
    rows = {"picture": problem.pictures, "channel": 1, None: 0}[problem.scaled_by]
    return 2 * rows * problem.channels * _itemsize(problem)


def _partial_sums(problem: Problem) -> int:
    """Bytes of the sums that are added up outside of the kernel."""
    if problem.norm == "layer":
        parts = chunks(problem.positions, problem.channels)
        return 8 * problem.pictures * parts * problem.channels if parts > 1 else 0
    return 8 * problem.pictures * problem.channels if problem.scaled_by == "channel" else 0


def _power(number: int) -> int:
    """The next power of two."""
    return 1 << (number - 1).bit_length()
