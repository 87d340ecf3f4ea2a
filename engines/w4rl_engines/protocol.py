"""What a step takes and gives, what an engine is, and what every backend offers.

Every tensor has the batch B first; a spec leaves it out, an engine has it fixed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from w4rl_engines.errors import EngineError


@dataclass(frozen=True, kw_only=True, slots=True)
class Port:
    """One tensor (B, *shape); errors in it are reported times `scale`, in `unit`."""

    name: str
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    scale: float = 1.0
    unit: str = ""

    def __post_init__(self) -> None:
        if not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            raise ValueError(
                f"dtype {self.dtype!r} of {self.name}: torch has none of that name. Use float32, uint8, ..."
            )
        if not self.name.isidentifier():
            raise ValueError(f"name {self.name!r}: a tensor's name is an identifier. Use letters, digits and _")

    @property
    def torch_dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def admit(self, tensor: Tensor, batch: int, device: torch.device) -> None:
        """Refuse a tensor of another shape, dtype or device: an engine would read past its end."""
        if tensor.shape != (batch, *self.shape) or tensor.dtype != self.torch_dtype or tensor.device != device:
            raise EngineError(
                f"{self.name} {tuple(tensor.shape)} of {tensor.dtype} on {tensor.device}",
                f"this engine takes {(batch, *self.shape)} of {self.torch_dtype} on {device}",
                "Convert it, or load another batch size",
            )

    def require(self, output: Tensor, batch: int) -> None:
        """Refuse an output of another shape or dtype than the spec says."""
        if output.shape != (batch, *self.shape) or output.dtype != self.torch_dtype:
            raise EngineError(
                f"{self.name} {tuple(output.shape)} of {output.dtype}",
                f"the spec says {(batch, *self.shape)} of {self.torch_dtype}",
                "Correct the spec, or build it with w4rl_engines.spec_of",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSpec:
    """What one call of a module takes, in order, and what it gives."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def __post_init__(self) -> None:
        names = [port.name for port in (*self.inputs, *self.outputs)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"names {', '.join(twice)}: each tensor has a name of its own. Rename some")
        if not self.inputs or not self.outputs:
            raise ValueError("a step without inputs or without outputs: there is nothing to run. Name both")

    def admit(self, tensors: Sequence[Tensor], batch: int, device: torch.device) -> tuple[Tensor, ...]:
        """The inputs of one call, contiguous; anything that does not fit is refused by name."""
        if len(tensors) != len(self.inputs):
            named = ", ".join(port.name for port in self.inputs)
            raise EngineError(f"{len(tensors)} tensors", f"this engine takes {named}", "Give one tensor for each")
        for port, tensor in zip(self.inputs, tensors, strict=True):
            port.admit(tensor, batch, device)
        return tuple(tensor.contiguous() for tensor in tensors)


def spec_of(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[Port | str]) -> StepSpec:
    """The spec of a module, from one call on rows of named inputs; a port given for an output keeps its unit."""
    with torch.no_grad():
        given = module(*inputs.values())
    tensors = (given,) if isinstance(given, Tensor) else tuple(given)
    ports = [port if isinstance(port, Port) else Port(name=port) for port in outputs]
    return StepSpec(
        inputs=tuple(_port(name, tensor) for name, tensor in inputs.items()),
        outputs=tuple(_port(p.name, t, p.scale, p.unit) for p, t in zip(ports, tensors, strict=True)),
    )


def _port(name: str, tensor: Tensor, scale: float = 1.0, unit: str = "") -> Port:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Port(name=name, shape=tuple(tensor.shape[1:]), dtype=dtype, scale=scale, unit=unit)


class Engine(Protocol):
    """One step at one batch size. Outputs may alias the engine's memory until its next call: clone what is kept.

    Inputs are only read. One engine is called by one thread at a time; several engines run beside each other.
    """

    @property
    def spec(self) -> StepSpec: ...

    @property
    def batch(self) -> int: ...

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]: ...

    def fallback(self) -> str | None:
        """What its runtime says it does instead of what it was asked for; None where it does that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One batch size to build: the frozen module, real inputs (batch, ...), and what it is built for.

    `low` names the layers that compute in the lower precision; `rows` are more real inputs, any number of them.
    """

    module: nn.Module
    spec: StepSpec
    inputs: tuple[Tensor, ...]
    rows: tuple[Tensor, ...]
    backend: str
    precision: str
    low: frozenset[str] = frozenset()
    targets: tuple[str, ...] = ()

    @property
    def batch(self) -> int:
        return len(self.inputs[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where and as what a blob is to run; `threads` is for the runtimes that have threads of their own."""

    spec: StepSpec
    batch: int
    backend: str
    precision: str
    device: torch.device
    threads: int = 1

    def made_up(self) -> tuple[Tensor, ...]:
        """Inputs for what happens once before the first real call: random floats, always the same, and zeros."""
        generator = torch.Generator().manual_seed(0)
        return tuple(self._random(port, generator).to(self.device) for port in self.spec.inputs)

    def _random(self, port: Port, generator: torch.Generator) -> Tensor:
        shape, dtype = (self.batch, *port.shape), port.torch_dtype
        if dtype.is_floating_point:
            return torch.randn(shape, generator=generator).to(dtype)
        return torch.zeros(shape, dtype=dtype)

    @classmethod
    def of(cls, job: Job, threads: int) -> "Place":
        """Where a job was built."""
        device = job.inputs[0].device
        return cls(
            spec=job.spec,
            batch=job.batch,
            backend=job.backend,
            precision=job.precision,
            device=device,
            threads=threads,
        )


class BackendModule(Protocol):
    """What the file of a backend offers."""

    def unavailable(self) -> str | None:
        """Why it cannot both build and run here, and what to do; None if it can."""

    def build(self, job: Job, blob: Path) -> None:
        """Write the one file that runs the job's module."""

    def load(self, blob: Path, place: Place) -> Engine:
        """Read it back, ready to run."""
