"""The norms as operators of torch, and the choice between Triton's kernels and torch's own operators.

Inside the operators a picture is rows: x (B, P, C) contiguous, P positions. `gain` and `shift` are (B, C), where y is
norm(x) * (1 + gain) + shift, or (C,), where y is norm(x) * gain + shift, or both None, where y is norm(x).
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from w4rl_kernels import measured
from w4rl_kernels.norm_act import reference
from w4rl_kernels.probe import triton_interpreted, triton_on_gpu
from w4rl_kernels.select import Implementation, Switch

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
WIDEST = 4096
"""Channels that are normed together, at most: a program holds some rows of them in registers."""


class Problem(NamedTuple):
    """A call: B pictures of P positions (tokens) and C channels (the width of a token), normed in groups of channels.

    `scaled_by`: one scale and shift a "picture", one weight and bias a "channel", or None; `parameters` is their dtype,
    the wider of the two. `packed`: the layout of x is the one the kernel reads.
    """

    norm: Literal["group", "layer"]
    pictures: int
    positions: int
    channels: int
    groups: int
    dtype: torch.dtype
    scaled_by: Literal["picture", "channel"] | None
    parameters: torch.dtype | None
    act: bool
    packed: bool


class Norms(NamedTuple):
    """group: (x (B, C, H, W), gain, shift, groups, eps, act) -> y; layer: (x (B, N, W), scale, shift, eps) -> y."""

    group: Callable[[Tensor, Tensor | None, Tensor | None, int, float, bool], Tensor]
    layer: Callable[[Tensor, Tensor, Tensor, float], Tensor]


def key(problem: Problem) -> str:
    """The class of shapes under which a measurement is stored: all but the number of pictures."""
    dtype = str(problem.dtype).removeprefix("torch.")
    if problem.norm == "layer":
        return f"layer norm of {problem.positions} tokens, {problem.channels} wide, {dtype}"
    scaled = f", scaled by {problem.scaled_by}" if problem.scaled_by else ""
    return (
        f"group norm of {problem.positions} positions, {problem.channels} channels, groups {problem.groups}"
        f"{scaled}{', SiLU' if problem.act else ''}, {dtype}"
    )


def refuses(problem: Problem) -> str | None:
    """Why the kernel cannot take a problem, or None."""
    channels, dtype = problem.channels // problem.groups, problem.dtype
    size = problem.positions * problem.channels
    widest = problem.parameters or dtype
    if dtype not in DTYPES:
        return f"x is {dtype}: the kernel takes float32, bfloat16 and float16. Convert x to one of them"
    if widest not in DTYPES or (problem.scaled_by == "picture" and torch.promote_types(dtype, widest) != dtype):
        return (
            f"scale or shift is {widest} and x is {dtype}: the result would not keep the dtype of x. Convert them to it"
        )
    if not problem.packed:
        wanted = "contiguous(memory_format=torch.channels_last)" if problem.norm == "group" else "contiguous()"
        return f"the layout of x: the kernel reads and writes channel by channel. Use x.{wanted}"
    if channels > WIDEST:
        return f"{channels} channels normed together: the kernel takes up to {WIDEST}. Use more groups"
    if problem.pictures * size == 0 or size >= 1 << 31:
        return f"{problem.pictures} pictures of {size} numbers: the kernel takes 1 to 2**31 - 1 numbers a picture"
    return None


# ---- what runs: torch's own operators, the definition, or the operators below


def _torch_group(x: Tensor, gain: Tensor | None, shift: Tensor | None, groups: int, eps: float, act: bool) -> Tensor:
    if gain is None or shift is None or gain.ndim == 1:
        y = F.group_norm(x, groups, gain, shift, eps)
    else:
        y = F.group_norm(x, groups, eps=eps) * (1 + gain[:, :, None, None]) + shift[:, :, None, None]
    return F.silu(y) if act else y


def _torch_layer(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=eps), 1 + scale)


def _reference_group(
    x: Tensor, gain: Tensor | None, shift: Tensor | None, groups: int, eps: float, act: bool
) -> Tensor:
    return _pictures(reference.group(_rows(x), gain, shift, groups, eps, act)[0], x)


def _reference_layer(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return reference.layer(x, scale[:, 0], shift[:, 0], eps)[0]


def _fused_group(x: Tensor, gain: Tensor | None, shift: Tensor | None, groups: int, eps: float, act: bool) -> Tensor:
    return _pictures(norm_rows(_rows(x), gain, shift, groups, eps, act)[0], x)


def _fused_layer(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return norm_tokens(x, scale[:, 0], shift[:, 0], eps)[0]


def _rows(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H * W, C): a view if x is channels_last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _pictures(rows: Tensor, like: Tensor) -> Tensor:
    """(B, H * W, C) to a channels_last view (B, C, H, W)."""
    return rows.reshape(like.shape[0], *like.shape[2:], like.shape[1]).permute(0, 3, 1, 2)


NORMS = {
    "gpu": Norms(_fused_group, _fused_layer),
    "torch": Norms(_torch_group, _torch_layer),
    "reference": Norms(_reference_group, _reference_layer),
}


TORCH = Implementation(name="torch", load=lambda: NORMS["torch"])
REFERENCE = Implementation(name="reference", load=lambda: NORMS["reference"])
ON_GPU = Implementation(
    name="gpu",
    load=lambda: NORMS["gpu"],
    unavailable=triton_on_gpu,
    refuses=refuses,
    unproven=lambda problem: measured.unproven("norm_act", key(problem)),
)
INTERPRETED = Implementation(name="gpu", load=lambda: NORMS["gpu"], unavailable=triton_interpreted, refuses=refuses)
IMPLEMENTATIONS = {"cuda": (ON_GPU, TORCH, REFERENCE), "cpu": (TORCH, REFERENCE, INTERPRETED)}
SWITCH = Switch("norm_act", IMPLEMENTATIONS, Problem)


# ---- the operators


def _kernels(x: Tensor) -> Any:
    """The module that computes: Triton's on a GPU or where it was asked for, on a CPU the definition."""
    if x.device.type == "cpu" and SWITCH.asked != "gpu":
        return reference
    from w4rl_kernels.norm_act import gpu

    return gpu


@torch.library.custom_op("w4rl::norm_act_group", mutates_args=(), device_types=("cpu", "cuda"))
def norm_rows(
    x: Tensor, gain: Tensor | None, shift: Tensor | None, groups: int, eps: float, act: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """x (B, P, C) to y (B, P, C), and the mean and 1 / deviation (B, groups) of each group."""
    return _kernels(x).group(x.contiguous(), gain, shift, groups, eps, act)


@torch.library.custom_op("w4rl::norm_act_group_backward", mutates_args=(), device_types=("cpu", "cuda"))
def norm_rows_backward(
    grad: Tensor,
    x: Tensor,
    gain: Tensor | None,
    shift: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    groups: int,
    act: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """grad (B, P, C) to the gradients of x, gain and shift; the latter two are empty (0,) where there are none."""
    return _kernels(x).group_backward(grad.contiguous(), x.contiguous(), gain, shift, mean, rstd, groups, act)


@torch.library.custom_op("w4rl::norm_act_layer", mutates_args=(), device_types=("cpu", "cuda"))
def norm_tokens(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """x (B, N, W), scale and shift (B, W) to y (B, N, W), and the mean and 1 / deviation (B, N) of each token."""
    return _kernels(x).layer(x.contiguous(), scale, shift, eps)


@torch.library.custom_op("w4rl::norm_act_layer_backward", mutates_args=(), device_types=("cpu", "cuda"))
def norm_tokens_backward(
    grad: Tensor, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """grad (B, N, W) to the gradients of x, scale and shift."""
    return _kernels(x).layer_backward(grad.contiguous(), x.contiguous(), scale, shift, mean, rstd)


@norm_rows.register_fake
def _(
    x: Tensor, gain: Tensor | None, shift: Tensor | None, groups: int, eps: float, act: bool
) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.new_empty(x.shape[0], groups, dtype=reference.wide(x))
    return x.new_empty(x.shape), mean, torch.empty_like(mean)


@norm_tokens.register_fake
def _(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.new_empty(x.shape[:2], dtype=reference.wide(x))
    return x.new_empty(x.shape), mean, torch.empty_like(mean)


@norm_rows_backward.register_fake
def _(
    grad: Tensor,
    x: Tensor,
    gain: Tensor | None,
    shift: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    groups: int,
    act: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_gain, grad_shift = (x.new_empty(0) if each is None else each.new_empty(each.shape) for each in (gain, shift))
    return x.new_empty(x.shape), grad_gain, grad_shift


@norm_tokens_backward.register_fake
def _(
    grad: Tensor, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), scale.new_empty(scale.shape), shift.new_empty(shift.shape)


def _keep_rows(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, gain, shift, ctx.groups, _, ctx.act = inputs
    ctx.save_for_backward(x, gain, shift, *output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _keep_tokens(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:3], *output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _differentiate_rows(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    gain = ctx.saved_tensors[1]
    grad_x, grad_gain, grad_shift = norm_rows_backward(grad, *ctx.saved_tensors, ctx.groups, ctx.act)
    parameters = (None, None) if gain is None else (grad_gain, grad_shift)
    return grad_x, *parameters, None, None, None


def _differentiate_tokens(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    return *norm_tokens_backward(grad, *ctx.saved_tensors), None


norm_rows.register_autograd(_differentiate_rows, setup_context=_keep_rows)
norm_tokens.register_autograd(_differentiate_tokens, setup_context=_keep_tokens)
