"""Self-attention over the tokens of many small sequences, straight from the projection and back, with no transposes.

B sequences of N tokens, H heads of D features. Over all tokens, or causal over frames of them.
"""

import torch
from torch import Tensor

from w4rl_kernels.attention.operators import IMPLEMENTATIONS, SWITCH, Problem, key

__all__ = ["IMPLEMENTATIONS", "SWITCH", "Problem", "attention", "key"]


def attention(qkv: Tensor, *, frame: int = 0, window: int = 0) -> Tensor:
    """Queries, keys and values (B, N, 3, H, D) to the mixed values (B, N, H, D), contiguous, in the dtype of qkv.

    Shares are the softmax of the products of queries and keys over the square root of D. With `frame` above 0 the
    tokens are N / frame frames, oldest first, and each sees its own frame and those before it, only the last `window`
    of these if that is above 0, its own counted. With `frame` 0 every token sees every token. Differentiable in qkv.
    """
    if qkv.ndim != 5 or qkv.shape[2] != 3:
        raise ValueError(f"qkv {tuple(qkv.shape)}: it is (B, N, 3, H, D). Reshape what the projection gave")
    tokens, heads, features = qkv.shape[1], qkv.shape[3], qkv.shape[4]
    frame, window = _normal(tokens, frame, window)
    grad = torch.is_grad_enabled() and qkv.requires_grad
    device = qkv.device.type
    name = SWITCH.of(device, tokens, heads, features, qkv.dtype, frame, window, grad, qkv.is_contiguous())
    return SWITCH.function(device, name)(qkv, frame, window)


def _normal(tokens: int, frame: int, window: int) -> tuple[int, int]:
    """Frame and window after a check, 0 where they hide nothing."""
    if frame < 0 or window < 0 or (window and not frame):
        raise ValueError(
            f"frame {frame}, window {window}: neither is below 0, and a window counts frames. "
            "Give the tokens of a frame, and 0 for a window over all of them"
        )
    if frame and tokens % frame:
        raise ValueError(f"{tokens} tokens in frames of {frame}: frames are whole. Give a multiple of {frame} tokens")
    if not frame or tokens <= frame:
        return 0, 0
    return frame, window if window * frame < tokens else 0
