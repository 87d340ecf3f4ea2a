"""OpenVINO: the fastest on many CPUs, in float32, bfloat16 and int8.

ONNX is the way in: its own converter for programs of torch makes models that crash the process when compiled. In
"bfloat16" and "int8" only the layers chosen by sensitivity are narrow; "bfloat16-fast" lets the runtime narrow what it
likes, norms too, which takes half as long.
"""

import itertools
import logging
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from w4rl_engines import registry
from w4rl_engines.errors import EngineError
from w4rl_engines.machine import has_bfloat16
from w4rl_engines.onnx_export import layer_nodes, silence, write_onnx
from w4rl_engines.protocol import Engine, Job, Place

HINTS = {"float32": "f32", "bfloat16": "f32", "bfloat16-fast": "bf16", "int8": "f32"}
CALIBRATION_CALLS = 32


def unavailable() -> str | None:
    return registry.unavailable("openvino")


def build(job: Job, blob: Path) -> None:
    """Compile for this processor and keep the result; int8 is calibrated on the rows of the job."""
    import openvino

    if job.precision.startswith("bfloat16") and not has_bfloat16():
        reason = "this processor has no such instructions, and OpenVINO would compute in float32"
        raise EngineError(f"precision {job.precision}", reason, "Choose float32 or int8")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step.onnx"
        write_onnx(job, path)
        core = openvino.Core()
        model = core.read_model(path)
        if job.precision == "int8":
            model = _quantised(model, job, layer_nodes(path, job.low))
        blob.write_bytes(core.compile_model(model, "CPU", _settings(job.precision, 1)).export_model().getbuffer())


def load(blob: Path, place: Place) -> Engine:
    return OpenVinoEngine(blob, place)


class OpenVinoEngine:
    """A request that reads the caller's tensors and writes its own: every call overwrites what the last one gave."""

    def __init__(self, blob: Path, place: Place) -> None:
        import openvino

        self.spec, self.batch, self.device = place.spec, place.batch, place.device
        model = openvino.Core().import_model(blob.read_bytes(), "CPU", _settings(place.precision, place.threads))
        self.tensor, self.request = openvino.Tensor, model.create_infer_request()
        self.wanted, self.told = HINTS[place.precision], model.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.outputs = tuple(torch.empty(self.batch, *port.shape, dtype=port.torch_dtype) for port in self.spec.outputs)
        for index, output in enumerate(self.outputs):
            self.request.set_output_tensor(index, self.tensor(output.numpy(), shared_memory=True))

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        for index, given in enumerate(self.spec.admit(tensors, self.batch, self.device)):
            self.request.set_input_tensor(index, self.tensor(given.numpy(), shared_memory=True))
        self.request.infer()
        return self.outputs

    def fallback(self) -> str | None:
        """Where a processor has no bfloat16, OpenVINO computes in float32 and keeps it to itself."""
        return None if self.told == self.wanted else f"OpenVINO computes in {self.told}, not in {self.wanted}"


def _settings(precision: str, threads: int) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }


def _quantised(model: Any, job: Job, nodes: frozenset[str]) -> Any:
    """The model with the products of these nodes in int8, and everything else as it was."""
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.ERROR)
    calls = [tuple(tensor.numpy() for tensor in call) for call in itertools.islice(_calls(job), CALIBRATION_CALLS)]
    products = {"Convolution", "GroupConvolution", "MatMul", "ConvolutionBackpropData"}
    others = [op for op in model.get_ops() if op.get_type_name() in products and _node(op) not in nodes]
    kinds = {op.get_type_name() for op in model.get_ops()} - products - {"Constant", "Parameter", "Result", "Convert"}
    ignored = nncf.IgnoredScope(names=[op.get_friendly_name() for op in others], types=sorted(kinds), validate=False)
    # Left alone, it takes the mean of the rows' extremes, and clips every row beyond that.
    ranges = nncf.AdvancedQuantizationParameters(activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX)
    with silence():
        return nncf.quantize(
            model, nncf.Dataset(calls), subset_size=len(calls), ignored_scope=ignored, advanced_parameters=ranges
        )


def _calls(job: Job) -> Any:
    """Rows of the job in calls of its batch, the last one filled up from the start."""
    for first in range(0, len(job.rows[0]), job.batch):
        index = torch.arange(first, first + job.batch) % len(job.rows[0])
        yield tuple(tensor[index] for tensor in job.rows)


def _node(op: Any) -> str:
    """The ONNX node that an operation was read from."""
    name: str = op.get_friendly_name()
    return name.removesuffix("/WithoutBiases")
