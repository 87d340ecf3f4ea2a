"""How far an engine is from the module it was built from, output by output, on real inputs.

Errors are absolute differences to eager float32 in the unit of the output. Shapes: N rows, B of them in a call.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from w4rl_engines.errors import EngineError, ParityFailed
from w4rl_engines.protocol import Port, StepSpec

Run = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerance:
    """The largest errors that pass, in the unit of an output."""

    p99: float
    maximum: float


RELATIVE = {
    "float32": Tolerance(p99=1e-4, maximum=1e-3),
    "bfloat16": Tolerance(p99=3e-2, maximum=0.3),
    "bfloat16-fast": Tolerance(p99=3e-2, maximum=0.3),
    "int8": Tolerance(p99=0.1, maximum=1.0),
}
"""Tolerances where none is given: shares of the largest number that eager float32 gives, and at least one integer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Error:
    """One output's errors (p99 is the nearest rank), where the largest is, and what was allowed."""

    mean: float
    p99: float
    maximum: float
    worst: tuple[int, ...]
    unit: str
    tolerance: Tolerance

    @property
    def excess(self) -> float:
        """How many times the tolerance it is; above 1 it does not pass."""
        pairs = ((self.p99, self.tolerance.p99), (self.maximum, self.tolerance.maximum))
        return max(_share(error, allowed) for error, allowed in pairs)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """The errors of every output over `rows` real inputs, as `by` computed them, and whether a failure was accepted."""

    by: str
    rows: int
    outputs: Mapping[str, Error]
    accepted: bool = False

    @property
    def passed(self) -> bool:
        return all(error.excess <= 1 for error in self.outputs.values())

    @property
    def excess(self) -> float:
        return max(error.excess for error in self.outputs.values())

    @property
    def mean(self) -> float:
        """The mean errors as shares of what is tolerated at p99, the worst output's: it tells equal excesses apart."""
        return max(_share(error.mean, error.tolerance.p99) for error in self.outputs.values())


def rows_of(run: Run, spec: StepSpec, inputs: Sequence[Tensor], batch: int) -> tuple[Tensor, ...]:
    """What `run` makes of N rows in calls of exactly `batch`, the last one filled up with rows from the start."""
    count, parts = len(inputs[0]), []
    for first in range(0, count, batch):
        index = torch.arange(first, first + batch, device=inputs[0].device) % count
        outputs = run(*(tensor[index] for tensor in inputs))
        for port, output in zip(spec.outputs, outputs, strict=True):
            port.require(output, batch)
        parts.append([output[: count - first].clone() for output in outputs])
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def compare(
    spec: StepSpec,
    wanted: Sequence[Tensor],
    given: Sequence[Tensor],
    tolerances: Mapping[str, Tolerance],
    *,
    precision: str,
    by: str,
) -> Parity:
    """Hold every output (N, ...) of an engine against eager float32."""
    errors = {
        port.name: _error(port, ours, theirs, tolerances.get(port.name) or default(port, ours, precision))
        for port, ours, theirs in zip(spec.outputs, wanted, given, strict=True)
    }
    return Parity(by=by, rows=len(wanted[0]), outputs=errors)


def default(port: Port, wanted: Tensor, precision: str) -> Tolerance:
    """A tolerance from the size of what eager float32 gives."""
    size = float(wanted.double().abs().max()) * port.scale
    least = 0.0 if wanted.is_floating_point() else port.scale
    share = RELATIVE[precision]
    return Tolerance(p99=max(share.p99 * size, least), maximum=max(share.maximum * size, least))


def require(parity: Parity, what: str, *, accept: bool) -> None:
    """Refuse an engine out of tolerance, naming the worst output and where; what is not finite is never accepted."""
    if parity.passed or (accept and all(math.isfinite(error.maximum) for error in parity.outputs.values())):
        return
    name, error = max(parity.outputs.items(), key=lambda item: item[1].excess)
    raise ParityFailed(
        f"{name} of {what}: p99 {error.p99:.3g}, largest {error.maximum:.3g} {error.unit} at {list(error.worst)}",
        f"against eager float32 at most {error.tolerance.p99:.3g} (p99) and {error.tolerance.maximum:.3g} pass",
        "Use a higher precision or another tolerance, or accept it: the artifact then says so",
    )


def require_real(spec: StepSpec, inputs: Sequence[Tensor]) -> None:
    """Refuse inputs that prove nothing: none at all, not finite, or nothing but zeros."""
    for port, tensor in zip(spec.inputs, inputs, strict=True):
        if tensor.numel() and not tensor.any():
            raise EngineError(f"{port.name} is all zeros", "parity on zeros proves nothing", "Give rows of real inputs")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise EngineError(f"{port.name} is not finite", "nothing can be compared", "Give rows of real inputs")


def _error(port: Port, wanted: Tensor, given: Tensor, tolerance: Tolerance) -> Error:
    off = (wanted.double() - given.double()).abs().mul(port.scale).nan_to_num(nan=math.inf, posinf=math.inf)
    if not off.numel():
        return Error(mean=0.0, p99=0.0, maximum=0.0, worst=(), unit=port.unit, tolerance=tolerance)
    flat = off.flatten()
    rank = math.ceil(0.99 * len(flat))
    worst = torch.unravel_index(flat.argmax(), off.shape)
    return Error(
        mean=float(flat.mean()),
        p99=float(flat.kthvalue(rank).values),
        maximum=float(flat.max()),
        worst=tuple(int(index) for index in worst),
        unit=port.unit,
        tolerance=tolerance,
    )


def _share(error: float, allowed: float) -> float:
    if error == 0:
        return 0.0
    return error / allowed if allowed else math.inf
