"""TensorRT inside torch: the whole program or nothing, so that no part of it runs as torch unseen."""

import importlib
import warnings
from pathlib import Path

import torch
from torch import Tensor

from w4rl_engines import registry
from w4rl_engines.export import exported, read
from w4rl_engines.protocol import Engine, Job, Place


def unavailable() -> str | None:
    return registry.unavailable("torch-tensorrt")


def build(job: Job, blob: Path) -> None:
    library = importlib.import_module("torch_tensorrt")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = library.dynamo.compile(
            exported(job), inputs=list(job.inputs), use_explicit_typing=True, require_full_compilation=True
        )
        library.save(module, str(blob), inputs=list(job.inputs))


def load(blob: Path, place: Place) -> Engine:
    return TorchTensorRtEngine(blob, place)


class TorchTensorRtEngine:
    """Runs the saved program; outputs are new tensors."""

    def __init__(self, blob: Path, place: Place) -> None:
        importlib.import_module("torch_tensorrt")  # it brings the operators that the program calls
        self.spec, self.batch, self.device = place.spec, place.batch, place.device
        self.run = read(blob, place.device)

    @torch.no_grad()
    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.run(*self.spec.admit(tensors, self.batch, self.device)))

    def fallback(self) -> str | None:
        return None  # built whole or not at all
