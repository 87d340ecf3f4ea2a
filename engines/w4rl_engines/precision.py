"""Which layers compute in fewer bits: products of weights may, everything between them stays in float32.

Norms, softmax, noise scalings and sums are never narrowed, so that only the layers that take the time lose digits.
"""

import bisect
import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d)

Run = Callable[..., tuple[Tensor, ...]]


class Narrow(nn.Module):
    """A product of weights that computes in bfloat16 between an input and an output of another dtype."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = copy.deepcopy(inner).to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x.to(torch.bfloat16))
        return out.to(x.dtype)


class Quantised(nn.Module):
    """A product of weights that computes as int8 would: one scale an output channel, and one for the whole input."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = copy.deepcopy(inner)
        weight = self.inner.weight
        assert isinstance(weight, Tensor)
        axes = tuple(range(1, weight.ndim))
        with torch.no_grad():
            weight.copy_(in_steps(weight, weight.abs().amax(axes, keepdim=True)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(in_steps(x, x.abs().amax()))
        return out


LAYERS = {"bfloat16": Narrow, "int8": Quantised}


def in_steps(x: Tensor, largest: Tensor) -> Tensor:
    """The nearest of 255 values that lie evenly between -largest and largest."""
    step = (largest / 127).clamp(min=torch.finfo(x.dtype).tiny)
    return (x / step).round().clamp(-127, 127) * step


def products(module: nn.Module) -> dict[str, nn.Module]:
    """The layers of a module that may be narrowed, by name; those that another layer reads into are left out."""
    inside = tuple(name for name, each in module.named_modules() if isinstance(each, nn.MultiheadAttention))
    return {
        name: each
        for name, each in module.named_modules()
        if type(each) in PRODUCTS and each.weight.dtype is torch.float32 and not name.startswith(inside)
    }


def narrowed(module: nn.Module, low: frozenset[str], precision: str) -> nn.Module:
    """A copy of a module whose layers of these names compute in a lower precision."""
    copied = copy.deepcopy(module)
    for name, layer in products(copied).items():
        if name in low:
            copied.set_submodule(name, LAYERS[precision](layer))
    return copied


def sensitivity(module: nn.Module, precision: str, error: Callable[[Run], tuple[float, float]]) -> dict[str, float]:
    """The error of the module with one layer narrowed, for each layer: the most sensitive first.

    `error` says how far out of tolerance it is, and a finer number for outputs that are whole numbers, where most
    layers are as far out as each other.
    """
    table = {name: error(narrowed(module, frozenset({name}), precision)) for name in products(module)}
    ordered = sorted(table.items(), key=lambda item: (-round(item[1][0], 2), -item[1][1]))
    return {name: excess for name, (excess, _) in ordered}


def choose(
    module: nn.Module, precision: str, table: Mapping[str, float], error: Callable[[Run], float]
) -> frozenset[str]:
    """The layers to narrow so that `error` is at most 1: all, or all but as few of the most sensitive as it takes."""
    names = list(table)

    def passes(kept: int) -> bool:
        return error(narrowed(module, frozenset(names[kept:]), precision)) <= 1

    kept = 0 if passes(0) else bisect.bisect_left(range(len(names)), True, lo=1, key=passes)
    return frozenset(names[kept:])
