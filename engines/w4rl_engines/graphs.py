"""A CUDA graph of an engine: what it launches is recorded once, and replayed without the host."""

import torch
from torch import Tensor

from w4rl_engines.errors import EngineError
from w4rl_engines.protocol import Engine

WARM_UP = 3


class Captured:
    """The same step in one launch; inputs are copied into its own tensors, and every call overwrites its outputs."""

    def __init__(self, engine: Engine, inputs: tuple[Tensor, ...]) -> None:
        if not inputs[0].is_cuda:
            raise EngineError(f"a CUDA graph on {inputs[0].device}", "only a GPU has them", "Run the engine as it is")
        self.engine, self.spec, self.batch = engine, engine.spec, engine.batch
        self.inputs = tuple(tensor.clone() for tensor in inputs)
        stream = torch.cuda.Stream(inputs[0].device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(inputs[0].device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                engine(*self.inputs)
        torch.cuda.current_stream(inputs[0].device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.outputs = engine(*self.inputs)

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        for own, given in zip(self.inputs, self.spec.admit(tensors, self.batch, self.inputs[0].device), strict=True):
            own.copy_(given)
        self.graph.replay()
        return self.outputs

    def fallback(self) -> str | None:
        return self.engine.fallback()
