"""Group norm and layer norm with scale, shift and SiLU: on a GPU one read and one write of the tensor.

B pictures, C channels, H x W positions, or N tokens of width W. W4RL_NORM_ACT, or `SWITCH.use`, asks for an
implementation.
"""

import torch
from torch import Tensor

from w4rl_kernels.norm_act.operators import NORMS, SWITCH, Problem, key

__all__ = ["SWITCH", "Problem", "group_norm", "key", "layer_norm"]


def group_norm(
    x: Tensor,
    groups: int,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    *,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    act: bool = False,
) -> Tensor:
    """Pictures (B, C, H, W) normed over H, W and the C / groups channels of a group, then SiLU if `act`.

    norm(x) * (1 + scale) + shift with scale and shift (B, C), or norm(x) * weight + bias with weight and bias (C,), or
    norm(x). The kernel wants x channels_last, keeps its dtype, and computes in float32.
    """
    shape = tuple(x.shape)
    if x.ndim != 4 or groups < 1 or shape[1] % groups:
        raise ValueError(f"x {shape}, groups {groups}: x is (B, C, H, W). Use a number of groups that divides C")
    if (
        (scale is None) != (shift is None)
        or (weight is None) != (bias is None)
        or not (scale is None or weight is None)
    ):
        raise ValueError(
            f"{_named(scale=scale, shift=shift, weight=weight, bias=bias)}: parameters come in pairs. "
            "Give scale and shift, or weight and bias, or none"
        )
    gain, offset = (weight, bias) if scale is None else (scale, shift)
    wanted = shape[1:2] if scale is None else shape[:2]
    if gain is not None and offset is not None and not tuple(gain.shape) == tuple(offset.shape) == wanted:
        raise ValueError(
            f"{_named(scale=scale, shift=shift, weight=weight, bias=bias)} for x {shape}: "
            "scale and shift are (B, C), weight and bias (C,). Reshape them"
        )
    problem = Problem(
        norm="group",
        pictures=shape[0],
        positions=shape[2] * shape[3],
        channels=shape[1],
        groups=groups,
        dtype=x.dtype,
        scaled_by=None if gain is None else "channel" if scale is None else "picture",
        parameters=_wider(gain, offset),
        act=act,
        packed=x.is_contiguous(memory_format=torch.channels_last),
    )
    return NORMS[SWITCH.of(x.device.type, *problem)].group(x, gain, offset, groups, eps, act)


def layer_norm(x: Tensor, scale: Tensor, shift: Tensor, *, eps: float = 1e-5) -> Tensor:
    """Tokens (B, N, W) normed over W: norm(x) * (1 + scale) + shift, with scale and shift (B, 1, W) of any strides.

    The kernel wants x contiguous, keeps its dtype, and computes in float32.
    """
    shape = tuple(x.shape)
    if x.ndim != 3 or not tuple(scale.shape) == tuple(shift.shape) == (shape[0], 1, shape[2]):
        raise ValueError(
            f"{_named(x=x, scale=scale, shift=shift)}: x is (B, N, W), scale and shift are (B, 1, W). Reshape them"
        )
    problem = Problem(
        norm="layer",
        pictures=shape[0],
        positions=shape[1],
        channels=shape[2],
        groups=1,
        dtype=x.dtype,
        scaled_by="picture",
        parameters=_wider(scale, shift),
        act=False,
        packed=x.is_contiguous(),
    )
    return NORMS[SWITCH.of(x.device.type, *problem)].layer(x, scale, shift, eps)


def _wider(gain: Tensor | None, shift: Tensor | None) -> torch.dtype | None:
    if gain is None or shift is None:
        return None
    return torch.promote_types(gain.dtype, shift.dtype)


def _named(**tensors: Tensor | None) -> str:
    return ", ".join(f"{name} {tuple(each.shape)}" for name, each in tensors.items() if each is not None)
