"""A module as a program of torch: static shapes, frozen weights, and no operator that only this package knows."""

import copy
import importlib
import io
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from w4rl_engines.precision import narrowed
from w4rl_engines.protocol import Job

DEFINITIONS = {"w4rl::two_hot_embed": ("w4rl_kernels.two_hot.reference", "embed")}
"""The reference that takes the place of each operator of w4rl_kernels in a program."""

TRACING = threading.Lock()
"""torch reads or compiles one program at a time, and fails where two threads try."""


class Step(nn.Module):
    """A frozen copy of a module, which always gives a tuple."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module)
        self.eval().requires_grad_(False)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        out = self.module(*tensors)
        return (out,) if isinstance(out, Tensor) else tuple(out)


def exported(job: Job) -> ExportedProgram:
    """The job's module, with some layers in bfloat16 where it asks for that."""
    module = narrowed(job.module, job.low, job.precision) if job.precision == "bfloat16" else job.module
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, job.inputs)
        plain: ExportedProgram = program.run_decompositions(_definitions(program))
    for node in plain.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names the folders of the machine it was built on
    return plain


def save(program: ExportedProgram, blob: Path) -> None:
    """Write a program without the inputs it was traced with; by way of memory, since torch dies of a full disk."""
    program.example_inputs = None
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, buffer)
    blob.write_bytes(buffer.getbuffer())


def read(blob: Path, device: torch.device) -> nn.Module:
    """The program in a file, ready to be called."""
    with TRACING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.load(blob).module().to(device)


def _definitions(program: ExportedProgram) -> dict[torch._ops.OperatorBase, Callable[..., object]]:
    """References of the operators in a program; torch's own stay as they are."""
    targets = {node.target for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)}
    known = {target: DEFINITIONS[target._schema.name] for target in targets if target._schema.name in DEFINITIONS}
    return {target: getattr(importlib.import_module(module), name) for target, (module, name) in known.items()}
