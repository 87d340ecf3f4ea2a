"""The operations of w4rl_kernels that are chosen here, each equal to its reference on what is timed."""

import pytest
import torch

from bench.two_hot import inputs as two_hot_inputs
from w4rl_kernels.noise import normal_noise
from w4rl_kernels.two_hot import embed, encode


@pytest.mark.benchmark(group="two_hot.embed, 16,384 rows")
@pytest.mark.parametrize("form", ["fused", "dense"])
def test_embed(benchmark, form) -> None:
    x, table, _ = (tensor.detach() for tensor in two_hot_inputs())

    def dense() -> torch.Tensor:
        return encode(x, low=-1.0, high=1.0, bins=table.shape[1]).flatten(1) @ table.flatten(0, 1)

    def fused() -> torch.Tensor:
        return embed(x, table, low=-1.0, high=1.0)

    torch.testing.assert_close(fused(), dense(), atol=1e-4, rtol=1e-4)
    benchmark({"fused": fused, "dense": dense}[form])


@pytest.mark.benchmark(group="noise of 64 worlds, 48x48")
def test_noise(benchmark) -> None:
    seeds = torch.arange(64)
    benchmark(lambda: normal_noise(seeds, seeds, seeds, (3, 48, 48), stream=0))
