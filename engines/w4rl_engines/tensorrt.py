"""TensorRT through ONNX: tensorrt-rtx, which builds for RTX cards that are not here, and the full library.

Networks are strongly typed: what the export says in float32 or bfloat16 is what the engine computes.
"""

import importlib
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from w4rl_engines import registry
from w4rl_engines.errors import EngineError
from w4rl_engines.onnx_export import write_onnx
from w4rl_engines.protocol import Engine, Job, Place


def unavailable() -> str | None:
    return registry.unavailable("tensorrt-rtx") and registry.unavailable("tensorrt")


def build(job: Job, blob: Path) -> None:
    """Build for the targets of the job ("sm89", ...), or for the GPU that is here."""
    library = _library(job.backend)
    logger = library.Logger(library.Logger.ERROR)
    builder = library.Builder(logger)
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.OnnxParser(network, logger)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step.onnx"
        write_onnx(job, path)
        if not parser.parse_from_file(str(path)):
            raise RuntimeError("; ".join(parser.get_error(index).desc() for index in range(parser.num_errors)))
    config = builder.create_builder_config()
    if job.targets:
        config.num_compute_capabilities = len(job.targets)
    for index, target in enumerate(job.targets):
        config.set_compute_capability(_capability(library, target), index)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError("the builder gave no engine, and said why above")
    blob.write_bytes(plan)


def load(blob: Path, place: Place) -> Engine:
    return TensorRtEngine(blob, place)


class TensorRtEngine:
    """Runs on the current stream, and writes its own tensors: every call overwrites what the last one gave."""

    def __init__(self, blob: Path, place: Place) -> None:
        self.spec, self.batch, self.device = place.spec, place.batch, place.device
        library = _library(place.backend)
        self.runtime = library.Runtime(library.Logger(library.Logger.ERROR))
        self.engine = self.runtime.deserialize_cuda_engine(blob.read_bytes())
        if self.engine is None:
            reason = "the library cannot read it on this card"
            raise EngineError(f"engine {blob.name}", reason, "Build it for this card: add it to the targets")
        self.context = self.engine.create_execution_context()
        self.outputs = tuple(
            torch.empty(self.batch, *port.shape, dtype=port.torch_dtype, device=place.device)
            for port in self.spec.outputs
        )
        for port, output in zip(self.spec.outputs, self.outputs, strict=True):
            self.context.set_tensor_address(port.name, output.data_ptr())

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = self.spec.admit(tensors, self.batch, self.device)
        for port, tensor in zip(self.spec.inputs, given, strict=True):
            self.context.set_tensor_address(port.name, tensor.data_ptr())
        if not self.context.execute_async_v3(torch.cuda.current_stream(self.device).cuda_stream):
            raise EngineError("a call of TensorRT", "the library refused it", "See what it printed")
        return self.outputs

    def fallback(self) -> str | None:
        return None


def _library(backend: str) -> Any:
    return importlib.import_module("tensorrt_rtx" if backend == "tensorrt-rtx" else "tensorrt")


def _capability(library: Any, target: str) -> Any:
    known = {name.lower(): value for name, value in library.ComputeCapability.__members__.items() if "SM" in name}
    if target not in known:
        raise EngineError(f"target {target}", f"the library builds for {', '.join(known)}", "Choose among these")
    return known[target]
