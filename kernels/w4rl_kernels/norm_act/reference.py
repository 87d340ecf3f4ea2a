"""The norms in plain torch, computed in float64: the definition, and its gradients written out.

x (B, P, C); gain and shift as in `operators`. What is saved, mean and 1 / deviation, is at least float32.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def wide(x: Tensor) -> torch.dtype:
    """The dtype of the mean and of 1 / deviation."""
    return torch.promote_types(x.dtype, torch.float32)


def group(
    x: Tensor, gain: Tensor | None, shift: Tensor | None, groups: int, eps: float, act: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """y (B, P, C), mean and 1 / deviation (B, groups)."""
    grouped = _grouped(x.double(), groups)
    variance, mean = torch.var_mean(grouped, (1, 3), correction=0)
    rstd = (variance + eps).rsqrt()
    y = _scaled(_normed(x, mean, rstd), gain, shift)
    return (F.silu(y) if act else y).to(x.dtype), mean.to(wide(x)), rstd.to(wide(x))


def group_backward(
    grad: Tensor,
    x: Tensor,
    gain: Tensor | None,
    shift: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    groups: int,
    act: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, gain and shift, of their shapes and dtypes; empty (0,) for a gain or shift that is None."""
    normed, slope = _normed(x, mean, rstd), grad.double()
    if act:
        before = _scaled(normed, gain, shift)
        half = torch.sigmoid(before)
        slope = slope * half * (1 + before * (1 - half))
    inner = _grouped(slope * _factor(gain), groups)
    by_group = _grouped(normed, groups)
    inner = inner - inner.mean((1, 3), keepdim=True) - by_group * (inner * by_group).mean((1, 3), keepdim=True)
    grad_x = (inner * rstd.double()[:, None, :, None]).flatten(2)
    return grad_x.to(x.dtype), _summed(slope * normed, gain, x), _summed(slope, shift, x)


def layer(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """y (B, N, W), mean and 1 / deviation (B, N), from scale and shift (B, W)."""
    variance, mean = torch.var_mean(x.double(), 2, correction=0)
    rstd = (variance + eps).rsqrt()
    y = _scaled((x.double() - mean[..., None]) * rstd[..., None], scale, shift)
    return y.to(x.dtype), mean.to(wide(x)), rstd.to(wide(x))


def layer_backward(
    grad: Tensor, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x (B, N, W), scale and shift (B, W)."""
    rows = rstd.double()[..., None]
    normed = (x.double() - mean.double()[..., None]) * rows
    inner = grad.double() * _factor(scale)
    grad_x = (inner - inner.mean(2, keepdim=True) - normed * (inner * normed).mean(2, keepdim=True)) * rows
    return grad_x.to(x.dtype), _summed(grad.double() * normed, scale, x), _summed(grad.double(), shift, x)


def _grouped(x: Tensor, groups: int) -> Tensor:
    return x.reshape(*x.shape[:2], groups, -1)


def _normed(x: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
    grouped = _grouped(x.double(), mean.shape[1])
    return ((grouped - mean.double()[:, None, :, None]) * rstd.double()[:, None, :, None]).flatten(2)


def _factor(gain: Tensor | None) -> Tensor | float:
    if gain is None:
        return 1.0
    return gain.double() if gain.ndim == 1 else 1 + gain.double()[:, None]


def _scaled(normed: Tensor, gain: Tensor | None, shift: Tensor | None) -> Tensor:
    if shift is None:
        return normed
    return normed * _factor(gain) + (shift.double() if shift.ndim == 1 else shift.double()[:, None])


def _summed(slope: Tensor, like: Tensor | None, x: Tensor) -> Tensor:
    """The sum of (B, P, C) over what shares a parameter, in its dtype."""
    if like is None:
        return x.new_empty(0)
    return slope.sum((0, 1) if like.ndim == 1 else 1).to(like.dtype)
