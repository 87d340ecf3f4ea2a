"""A program holds nothing that only this package knows, and ONNX says what it says."""

import pytest
import torch
from torch import nn

from w4rl_engines.export import Step, exported
from w4rl_engines.protocol import Job, spec_of
from w4rl_kernels.two_hot import embed


class Acting(nn.Module):
    """Actions (B, 2) through a table of bins to (B, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0)))

    def forward(self, actions):
        return embed(actions, self.table, low=-1.0, high=1.0)


@pytest.fixture(scope="module")
def job():
    module, rows = Acting(), torch.linspace(-1.5, 1.5, 12).reshape(6, 2)
    spec = spec_of(module, {"actions": rows}, ["features"])
    return Job(module=Step(module), spec=spec, inputs=(rows,), rows=(rows,), backend="eager", precision="float32")


def test_our_operators_become_their_definitions(job) -> None:
    program = exported(job)
    assert not [node for node in program.graph.nodes if "w4rl" in str(node.target)]
    torch.testing.assert_close(program.module()(*job.inputs), job.module(*job.inputs))


def test_a_step_is_frozen_and_leaves_its_module_alone() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    step = Step(module)
    assert not step.training
    assert not any(weight.requires_grad for weight in step.parameters())
    assert module.training
    assert all(weight.requires_grad for weight in module.parameters())
    x = torch.randn(3, 2)
    assert torch.equal(step(x)[0], step(x)[0]), "dropout is off"
    with torch.no_grad():
        module[0].weight.zero_()
    assert step.module[0].weight.any()
