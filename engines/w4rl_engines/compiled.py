"""torch.compile in this process: the exported program, frozen into machine code when it is loaded."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._inductor.compile_fx import compile_fx

from w4rl_engines import registry
from w4rl_engines.errors import ArtifactRefused
from w4rl_engines.export import TRACING, exported, read, save
from w4rl_engines.protocol import Engine, Job, Place

ALIKE = 0.1
"""Mean differences as a share of the largest number: rounding moves less, other code moves more."""


def unavailable() -> str | None:
    return registry.unavailable("compiled")


def build(job: Job, blob: Path) -> None:
    save(exported(job), blob)


def load(blob: Path, place: Place) -> Engine:
    return CompiledEngine(blob, place)


class CompiledEngine:
    """Compiles when it is loaded, which takes seconds; outputs are new tensors.

    Nothing falls back: what cannot be compiled whole raises, and so does a process in which compiling is switched off.
    torch may take machine code from a cache on the disk that nobody has proven, so its numbers are held to the
    program's own before anyone sees them. While one thread compiles, torch refuses what another one calls: threads load
    all they need before they run.
    """

    def __init__(self, blob: Path, place: Place) -> None:
        self.spec, self.batch, self.device = place.spec, place.batch, place.device
        self.compiled = False
        program = read(blob, place.device)
        self.run = torch.compile(program, fullgraph=True, dynamic=False, backend=self._compile)
        given = place.made_up()
        with TRACING, torch.no_grad():
            if not alike(self(*given), program(*given)):
                reason = "the machine code that torch gave for it says something else than its program"
                remedy = "Empty torch's cache (TORCHINDUCTOR_CACHE_DIR, or the folder of temporary files), or use aoti"
                raise ArtifactRefused(f"compiled engine {blob.name}", reason, remedy)

    @torch.no_grad()
    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self.run(*self.spec.admit(tensors, self.batch, self.device))
        return outputs

    def fallback(self) -> str | None:
        return None if self.compiled else "torch ran it uncompiled: unset TORCHDYNAMO_DISABLE, or use eager"

    def _compile(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        self.compiled = True
        return compile_fx(graph, inputs, config_patches={"freezing": True})


def alike(given: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> bool:
    """Whether two sets of outputs are the same but for rounding; where neither is a number they are."""
    for ours, theirs in zip(given, wanted, strict=True):
        ours, theirs = ours.double(), theirs.double()
        if not torch.equal(ours.isfinite(), theirs.isfinite()):
            return False
        ours, theirs = ours.nan_to_num(0, 0, 0), theirs.nan_to_num(0, 0, 0)
        if ours.numel() and (ours - theirs).abs().mean() > ALIKE * theirs.abs().max():
            return False
    return True
