"""torch.compile in this process: the exported program, frozen into machine code when it is loaded."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._inductor.compile_fx import compile_fx

from w4rl_engines import registry
from w4rl_engines.export import TRACING, exported, read, save
from w4rl_engines.protocol import Engine, Job, Place


def unavailable() -> str | None:
    return registry.unavailable("compiled")


def build(job: Job, blob: Path) -> None:
    save(exported(job), blob)


def load(blob: Path, place: Place) -> Engine:
    return CompiledEngine(blob, place)


class CompiledEngine:
    """Compiles when it is loaded, which takes seconds; outputs are new tensors.

    Nothing falls back: what cannot be compiled whole raises, and so does a process in which compiling is switched off.
    While one thread compiles, torch refuses what another one calls: threads load all they need before they run.
    """

    def __init__(self, blob: Path, place: Place) -> None:
        self.spec, self.batch, self.device = place.spec, place.batch, place.device
        self.compiled = False
        self.run = torch.compile(read(blob, place.device), fullgraph=True, dynamic=False, backend=self._compile)
        with TRACING:
            self(*place.blank())

    @torch.no_grad()
    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self.run(*self.spec.admit(tensors, self.batch, self.device))
        return outputs

    def fallback(self) -> str | None:
        return None if self.compiled else "torch ran it uncompiled: unset TORCHDYNAMO_DISABLE, or use eager"

    def _compile(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        self.compiled = True
        return compile_fx(graph, inputs, config_patches={"freezing": True})
