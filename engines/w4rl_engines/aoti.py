"""AOTInductor: the machine code of torch.compile in a file, ready in an instant, with no compiler and no dynamo."""

import io
import warnings
from pathlib import Path

import torch
from torch import Tensor

from w4rl_engines import registry
from w4rl_engines.export import exported
from w4rl_engines.protocol import Engine, Job, Place


def unavailable() -> str | None:
    return registry.unavailable("aoti")


def build(job: Job, blob: Path) -> None:
    program, buffer = exported(job), io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch._inductor.aoti_compile_and_package(
            program, package_path=buffer, inductor_configs={"freezing": True, "aot_inductor.debug_compile": False}
        )
    blob.write_bytes(buffer.getbuffer())


def load(blob: Path, place: Place) -> Engine:
    return AotiEngine(blob, place)


class AotiEngine:
    """Machine code for these very shapes; outputs are new tensors."""

    def __init__(self, blob: Path, place: Place) -> None:
        self.spec, self.batch, self.device = place.spec, place.batch, place.device
        index = place.device.index if place.device.index is not None else -1
        self.run = torch._inductor.aoti_load_package(str(blob), device_index=index)

    @torch.no_grad()
    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.run(*self.spec.admit(tensors, self.batch, self.device)))

    def fallback(self) -> str | None:
        return None
