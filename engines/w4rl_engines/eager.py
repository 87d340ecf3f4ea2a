"""Plain torch from an exported program: the definition of every other engine, there wherever torch is."""

from pathlib import Path

import torch
from torch import Tensor, nn

from w4rl_engines import registry
from w4rl_engines.export import exported, read, save
from w4rl_engines.protocol import Engine, Job, Place, StepSpec


def unavailable() -> str | None:
    return registry.unavailable("eager")


def build(job: Job, blob: Path) -> None:
    save(exported(job), blob)


def load(blob: Path, place: Place) -> Engine:
    return EagerEngine(blob, place)


class EagerEngine:
    """Runs the program operator by operator; outputs are new tensors."""

    def __init__(self, blob: Path, place: Place) -> None:
        self.spec, self.batch, self.device = place.spec, place.batch, place.device
        self.run = read(blob, place.device)

    @torch.no_grad()
    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self.run(*self.spec.admit(tensors, self.batch, self.device))
        return outputs

    def fallback(self) -> str | None:
        return None


class ModuleEngine:
    """A module itself as an engine, of one batch size: what is measured where nothing was built."""

    def __init__(self, module: nn.Module, spec: StepSpec, batch: int) -> None:
        self.module, self.spec, self.batch = module, spec, batch

    @torch.no_grad()
    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        out = self.module(*tensors)
        return (out,) if isinstance(out, Tensor) else tuple(out)

    def fallback(self) -> str | None:
        return None
