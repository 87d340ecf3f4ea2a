"""What attention has to move and to compute: the model that a measurement is compared with.

Bytes: each tensor that enters or leaves a kernel, once; what several programs read again of one sequence is taken to
come from a cache. Operations: a multiplication and an addition each, of the matrix products, over the pairs of query
and key that see each other, without the padding of D, of ragged blocks and of frames that cut them. The exponentials
are not among them: one for each pair and head in the forward pass, two backward. With heads of 8 features they, not the
products, are what a GPU spends its time on.
"""

from typing import NamedTuple

from w4rl_kernels.attention.operators import Problem

NORM_BYTES = 4
"""Of a log of a sum, and of a product of output and gradient: float32."""


class Traffic(NamedTuple):
    """Bytes read, bytes written and floating point operations."""

    read: int
    written: int
    flops: int


def forward(problem: Problem, sequences: int = 1) -> Traffic:
    """Reads qkv, writes the output and the logs; two products: the scores and the mixed values."""
    values, norms = _sizes(problem, sequences)
    return Traffic(
        read=3 * values,
        written=values + norms,
        flops=2 * _product(problem, sequences),
    )


def backward(problem: Problem, sequences: int = 1) -> Traffic:
    """Two kernels, one for queries and one for keys and values; both read qkv, the upstream gradient and the logs.

    The first reads the output too, and writes the products of output and gradient, which the second reads. Scores and
    slopes are made twice, once in each: seven products, where five would do if one program held a whole sequence.
    """
    values, norms = _sizes(problem, sequences)
    of_queries = Traffic(read=5 * values + norms, written=values + norms, flops=3 * _product(problem, sequences))
    of_keys = Traffic(read=4 * values + 2 * norms, written=2 * values, flops=4 * _product(problem, sequences))
    return Traffic(*(first + second for first, second in zip(of_queries, of_keys, strict=True)))


def pairs(problem: Problem) -> int:
    """Pairs of query and key of one sequence that see each other."""
    if not problem.frame:
        return problem.tokens**2
    frames = problem.tokens // problem.frame
    window = problem.window or frames
    return problem.frame**2 * sum(min(number, window) for number in range(1, frames + 1))


def _sizes(problem: Problem, sequences: int) -> tuple[int, int]:
    """Bytes of a tensor of one value a feature, and of one with a float32 a query and head."""
    queries = sequences * problem.tokens * problem.heads
    return queries * problem.features * problem.dtype.itemsize, queries * NORM_BYTES


def _product(problem: Problem, sequences: int) -> int:
    return 2 * sequences * problem.heads * pairs(problem) * problem.features
