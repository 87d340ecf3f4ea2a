"""ONNX Runtime: float32 on any CPU, and the judge of what is exported for other runtimes."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from w4rl_engines import registry
from w4rl_engines.onnx_export import write_onnx
from w4rl_engines.protocol import Engine, Job, Place

PROVIDERS = ["CPUExecutionProvider"]


def unavailable() -> str | None:
    return registry.unavailable("onnxruntime")


def build(job: Job, blob: Path) -> None:
    write_onnx(job, blob)


def load(blob: Path, place: Place) -> Engine:
    return OnnxRuntimeEngine(blob, place)


class OnnxRuntimeEngine:
    """A session that reads the caller's tensors and writes its own: every call overwrites what the last one gave."""

    def __init__(self, blob: Path, place: Place) -> None:
        import onnxruntime

        self.spec, self.batch, self.device = place.spec, place.batch, place.device
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = place.threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(blob, options, providers=PROVIDERS)
        self.kinds = {port.name: _numpy(port.torch_dtype) for port in (*self.spec.inputs, *self.spec.outputs)}
        self.outputs = tuple(torch.empty(self.batch, *port.shape, dtype=port.torch_dtype) for port in self.spec.outputs)
        self.binding = self.session.io_binding()
        for port, tensor in zip(self.spec.outputs, self.outputs, strict=True):
            self.binding.bind_output(port.name, "cpu", 0, self.kinds[port.name], tensor.shape, tensor.data_ptr())

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = self.spec.admit(tensors, self.batch, self.device)
        for port, tensor in zip(self.spec.inputs, given, strict=True):
            self.binding.bind_input(port.name, "cpu", 0, self.kinds[port.name], tensor.shape, tensor.data_ptr())
        self.session.run_with_iobinding(self.binding)
        return self.outputs

    def fallback(self) -> str | None:
        """Python may give a session other providers than it was asked for."""
        given = self.session.get_providers()
        return None if given == PROVIDERS else f"ONNX Runtime runs it by {', '.join(given)}"


def _numpy(dtype: torch.dtype) -> Any:
    return torch.empty(0, dtype=dtype).numpy().dtype.type
