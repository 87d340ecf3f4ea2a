"""`attention` and its gradient as operators of torch, and what may serve a call on each kind of device."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from w4rl_kernels import measured
from w4rl_kernels.attention import reference
from w4rl_kernels.probe import triton_interpreted, triton_on_gpu
from w4rl_kernels.select import Implementation, Switch

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MOST_TOKENS, MOST_FEATURES, MOST_VALUES = 4096, 64, 2**31

Attention = Callable[[Tensor, int, int], Tensor]
"""qkv (B, N, 3, H, D), frame and window to (B, N, H, D); differentiable."""


class Problem(NamedTuple):
    """What the choice between implementations rests on: N, H, D and so on, whatever the number of sequences.

    `grad` says whether a gradient will be asked for; `frame` and `window` are 0 where they hide nothing.
    """

    tokens: int
    heads: int
    features: int
    dtype: torch.dtype
    frame: int = 0
    window: int = 0
    grad: bool = False
    contiguous: bool = True


class Pair(NamedTuple):
    """Forward (qkv, frame, window) -> out, lse; backward (grad, qkv, out, lse, frame, window) -> gradient of qkv."""

    forward: Callable[[Tensor, int, int], tuple[Tensor, Tensor]]
    backward: Callable[[Tensor, Tensor, Tensor, Tensor, int, int], Tensor]


def key(problem: Problem) -> str:
    """The class of shapes under which measurements are stored."""
    dtype = str(problem.dtype).removeprefix("torch.")
    said = [f"{problem.tokens} tokens", f"{problem.heads} heads of {problem.features}", dtype]
    if problem.frame:
        said.append(f"frames of {problem.frame}")
    if problem.window:
        said.append(f"window {problem.window}")
    return ", ".join([*said, "with gradient"] if problem.grad else said)


def refuses(problem: Problem) -> str | None:
    """Why the Triton kernels cannot take a problem, or None."""
    if problem.dtype not in DTYPES:
        return f"{problem.dtype}: it takes {', '.join(str(dtype).removeprefix('torch.') for dtype in DTYPES)}"
    if not 1 <= problem.tokens <= MOST_TOKENS:
        return f"{problem.tokens} tokens: it takes 1 to {MOST_TOKENS}"
    if not 1 <= problem.features <= MOST_FEATURES:
        return f"heads of {problem.features} features: it takes 1 to {MOST_FEATURES}"
    if 3 * problem.tokens * problem.heads * problem.features >= MOST_VALUES:
        return f"{problem.heads} heads: one sequence has {MOST_VALUES} values or more: it takes fewer. Use fewer heads"
    if not problem.contiguous:
        return "qkv is not contiguous: it reads (B, N, 3, H, D) as it lies. Give it qkv.contiguous()"
    return None


def by_torch(qkv: Tensor, frame: int, window: int) -> Tensor:
    """Torch's own attention; its fused form is slow in bfloat16 on a CPU, most of all its gradient."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    seen = reference.visible(qkv.shape[1], frame, window, qkv.device) if frame else None
    if qkv.device.type == "cpu" and qkv.dtype is torch.bfloat16:
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        mixed = torch.softmax(scores if seen is None else scores.masked_fill(~seen, float("-inf")), -1) @ v
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    return mixed.transpose(1, 2).contiguous()


def by_operator(qkv: Tensor, frame: int, window: int) -> Tensor:
    return attend(qkv, frame, window)[0]


def _triton() -> Pair:
    from w4rl_kernels.attention import gpu

    return Pair(gpu.attention, gpu.attention_backward)


REFERENCE = Pair(
    reference.attention_and_norm,
    lambda grad, qkv, _out, _lse, frame, window: reference.attention_backward(grad, qkv, frame, window),
)
PLAIN: tuple[Implementation[Attention], ...] = (
    Implementation(name="torch", load=lambda: by_torch),
    Implementation(name="reference", load=lambda: reference.attention),
)
IMPLEMENTATIONS: dict[str, tuple[Implementation[Attention], ...]] = {
    "cuda": (
        Implementation(
            name="gpu",
            load=lambda: by_operator,
            unavailable=triton_on_gpu,
            refuses=refuses,
            unproven=lambda problem: measured.unproven("attention", key(problem)),
        ),
        *PLAIN,
    ),
    "cpu": (
        *PLAIN,
        Implementation(name="gpu", load=lambda: by_operator, unavailable=triton_interpreted, refuses=refuses),
    ),
}
SWITCH = Switch("attention", IMPLEMENTATIONS, Problem)


def _on_cpu() -> Pair:
    """The reference, so that an exported graph runs everywhere; the kernels where they are asked for by name."""
    return _triton() if SWITCH.asked == "gpu" and triton_interpreted() is None else REFERENCE


@torch.library.custom_op("w4rl::attention", mutates_args=(), device_types="cpu")
def attend(qkv: Tensor, frame: int, window: int) -> tuple[Tensor, Tensor]:
    """qkv (B, N, 3, H, D) to out (B, N, H, D) and the log of each query's sum of exponentials (B, H, N), float32."""
    return _on_cpu().forward(qkv, frame, window)


@torch.library.custom_op("w4rl::attention_backward", mutates_args=(), device_types="cpu")
def attend_backward(grad: Tensor, qkv: Tensor, out: Tensor, lse: Tensor, frame: int, window: int) -> Tensor:
    """The gradient of out (B, N, H, D) to that of qkv (B, N, 3, H, D)."""
    return _on_cpu().backward(grad, qkv, out, lse, frame, window)


attend.register_kernel("cuda")(lambda qkv, frame, window: _triton().forward(qkv, frame, window))
attend_backward.register_kernel("cuda")(
    lambda grad, qkv, out, lse, frame, window: _triton().backward(grad, qkv, out, lse, frame, window)
)


@attend.register_fake
def _(qkv: Tensor, frame: int, window: int) -> tuple[Tensor, Tensor]:
    sequences, tokens, _, heads, features = qkv.shape
    out = qkv.new_empty(sequences, tokens, heads, features)
    return out, qkv.new_empty(sequences, heads, tokens, dtype=torch.float32)


@attend_backward.register_fake
def _(grad: Tensor, qkv: Tensor, out: Tensor, lse: Tensor, frame: int, window: int) -> Tensor:
    return qkv.new_empty(qkv.shape)


def _keep(
    ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, int, int], output: tuple[Tensor, Tensor]
) -> None:
    qkv, frame, window = inputs
    ctx.save_for_backward(qkv, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.sizes = frame, window  # type: ignore[attr-defined]


def _differentiate(
    ctx: torch.autograd.function.FunctionCtx, grad: Tensor, _: Tensor | None
) -> tuple[Tensor, None, None]:
    return attend_backward(grad.contiguous(), *ctx.saved_tensors, *ctx.sizes), None, None  # type: ignore[attr-defined]


attend.register_autograd(_differentiate, setup_context=_keep)
