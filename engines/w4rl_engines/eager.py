"""Plain torch from an exported program: the definition of every other engine, there wherever torch is."""

from pathlib import Path

import torch
from torch import Tensor

from w4rl_engines import registry
from w4rl_engines.export import exported, read, save
from w4rl_engines.protocol import Engine, Job, Place


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
