"""`embed` and its gradient as operators of torch, with one implementation a device, chosen once."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from w4rl_kernels.probe import missing, triton_on_gpu
from w4rl_kernels.select import Implementation, select
from w4rl_kernels.two_hot import reference


class Pair(NamedTuple):
    """Forward (x, table, low, high) -> out, and backward (grad, x, table, low, high) -> gradients of x and table."""

    forward: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def _numba() -> Pair:
    from w4rl_kernels.two_hot import cpu

    return Pair(cpu.embed, cpu.embed_backward)


def _triton() -> Pair:
    from w4rl_kernels.two_hot import gpu

    return Pair(gpu.embed, gpu.embed_backward)


REFERENCE = Implementation(name="reference", load=lambda: Pair(reference.embed, reference.embed_backward))
ON_CPU = (Implementation(name="cpu", load=_numba, unavailable=lambda: missing("numba", "w4rl-fast")), REFERENCE)
ON_GPU = (Implementation(name="gpu", load=_triton, unavailable=triton_on_gpu), REFERENCE)
CPU, GPU = select("two_hot.embed", ON_CPU), select("two_hot.embed", ON_GPU)


@torch.library.custom_op("w4rl::two_hot_embed", mutates_args=(), device_types="cpu")
def embed_rows(x: Tensor, table: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """x (N, A), table (A, bins, D), low and high (A,) to (N, D)."""
    return CPU.function.forward(x, table, low, high)


@torch.library.custom_op("w4rl::two_hot_embed_backward", mutates_args=(), device_types="cpu")
def embed_rows_backward(grad: Tensor, x: Tensor, table: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """grad (N, D) to the gradients of x (N, A) and of the table (A, bins, D)."""
    return CPU.function.backward(grad, x, table, low, high)


embed_rows.register_kernel("cuda")(lambda *tensors: GPU.function.forward(*tensors))
embed_rows_backward.register_kernel("cuda")(lambda *tensors: GPU.function.backward(*tensors))


@embed_rows.register_fake
def _(x: Tensor, table: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return table.new_empty(x.shape[0], table.shape[2])


@embed_rows_backward.register_fake
def _(grad: Tensor, x: Tensor, table: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(table)


def _keep(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_x, grad_table = embed_rows_backward(grad.contiguous(), *ctx.saved_tensors)  # type: ignore[attr-defined]
    return grad_x, grad_table, None, None


embed_rows.register_autograd(_differentiate, setup_context=_keep)
