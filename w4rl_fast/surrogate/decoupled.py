"""Decoupled gradients: the value is what the world came to, the derivative is what the surrogate foresaw."""

from typing import Any

import torch
from torch import Tensor


class Decoupled(torch.autograd.Function):
    """Forward: the first tensor, bit for bit. Backward: the whole gradient to the second, none to the first."""

    @staticmethod
    def forward(_: Any, true: Tensor, predicted: Tensor) -> Tensor:
        if true.shape != predicted.shape:
            raise ValueError(f"true {tuple(true.shape)}, predicted {tuple(predicted.shape)}: they are of one shape")
        return true.view_as(true)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


def decoupled(true: Tensor, predicted: Tensor) -> Tensor:
    """`true` in value, `predicted` in every derivative."""
    swapped: Tensor = Decoupled.apply(true, predicted)  # type: ignore[no-untyped-call]
    return swapped
