"""Both backbones by kernels of ours: the same picture and the same gradients as by torch's own operators."""

import importlib.util
import os

import pytest
import torch

from tests.weights import awake
from w4rl_fast.world.config import BackboneConfig, TransformerConfig
from w4rl_fast.world.dit import DiT
from w4rl_fast.world.unet import UNet
from w4rl_kernels import attention, norm_act

SWITCHES = (attention.SWITCH, norm_act.SWITCH)
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason='pip install "w4rl-fast[triton]"'),
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="set TRITON_INTERPRET=1 for the whole run"),
]
UNET = BackboneConfig(patch=2, widths=(8, 16), depths=(1, 1), attention=(False, True), condition_dim=12)
DIT = TransformerConfig(patch=4, width=24, depth=2, heads=3, condition_dim=12)


@pytest.fixture(params=["unet", "dit"])
def network(request):
    torch.manual_seed(0)
    made = UNet(UNET, 6, 3, 2) if request.param == "unet" else DiT(DIT, 4, 6, 3, 2)
    return awake(made).to(memory_format=torch.channels_last)


def painted(network, name):
    """The picture, and the gradients of all weights and of what was given, by one implementation of every op."""
    torch.manual_seed(1)
    side = 16 // network.patch
    given = [torch.randn(2, 6, 16, 16), torch.randn(2, 12), torch.randn(2, 2, side, side)]
    before = [each.asked for each in SWITCHES]
    for switch in SWITCHES:
        switch.use(name)
    try:
        picture = network(*(each.requires_grad_() for each in given))
        slopes = torch.autograd.grad(picture.square().sum(), [*given, *network.parameters()])
    finally:
        for switch, asked in zip(SWITCHES, before, strict=True):
            switch.use(asked)
    return picture.detach(), slopes


def test_a_network_is_the_same_by_our_kernels(network) -> None:
    wanted, wanted_slopes = painted(network, "torch")
    made, slopes = painted(network, "gpu")
    torch.testing.assert_close(made, wanted, atol=2e-4, rtol=1e-3)
    for each, other in zip(slopes, wanted_slopes, strict=True):
        torch.testing.assert_close(each, other, atol=2e-3 * float(other.abs().max()) + 1e-6, rtol=1e-2)


def test_the_kernels_are_what_was_asked_for(network, monkeypatch) -> None:
    """Every norm and every attention goes through a switch: one that refuses all is heard of."""
    monkeypatch.setattr(norm_act.SWITCH, "serve", lambda *_: pytest.fail("asked"))
    with pytest.raises(pytest.fail.Exception, match="asked"):
        painted(network, "auto")
