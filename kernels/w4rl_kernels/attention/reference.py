"""Attention in plain torch, computed in float64: the definition.

qkv is (B, N, 3, H, D); frame 0 hides nothing, window 0 no earlier frame.
"""

import torch
from torch import Tensor


def visible(tokens: int, frame: int, window: int, device: torch.device) -> Tensor:
    """(N, N), true where the query of a row sees the key of a column."""
    if not frame:
        return torch.ones(tokens, tokens, dtype=torch.bool, device=device)
    frames = torch.arange(tokens, device=device) // frame
    age = frames[:, None] - frames[None, :]
    return (age >= 0) & (age < window) if window else age >= 0


def attention(qkv: Tensor, frame: int, window: int) -> Tensor:
    """Mixed values (B, N, H, D), in the dtype of qkv."""
    return attention_and_norm(qkv, frame, window)[0]


def attention_and_norm(qkv: Tensor, frame: int, window: int) -> tuple[Tensor, Tensor]:
    """Mixed values, and the natural log of each query's sum of exponentials (B, H, N), float32."""
    q, k, v = _heads(qkv)
    scores = _scores(q, k, frame, window)
    lse = scores.logsumexp(-1)
    mixed = (scores - lse[..., None]).exp() @ v
    return mixed.transpose(1, 2).to(qkv.dtype).contiguous(), lse.float()


def attention_backward(grad: Tensor, qkv: Tensor, frame: int, window: int) -> Tensor:
    """The gradient of the mixed values (B, N, H, D) to that of qkv, written out: the laws that the kernels follow."""
    q, k, v = _heads(qkv)
    upstream = grad.double().transpose(1, 2)
    shares = _scores(q, k, frame, window).softmax(-1)
    slopes = upstream @ v.transpose(-1, -2)
    slopes = shares * (slopes - (shares * slopes).sum(-1, keepdim=True)) * q.shape[-1] ** -0.5
    gradients = torch.stack([slopes @ k, slopes.transpose(-1, -2) @ q, shares.transpose(-1, -2) @ upstream])
    return gradients.permute(1, 3, 0, 2, 4).to(qkv.dtype).contiguous()


def _heads(qkv: Tensor) -> tuple[Tensor, ...]:
    """Queries, keys and values, each (B, H, N, D) in float64."""
    return qkv.double().permute(2, 0, 3, 1, 4).unbind(0)


def _scores(q: Tensor, k: Tensor, frame: int, window: int) -> Tensor:
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return scores.masked_fill(~visible(q.shape[-2], frame, window, q.device), float("-inf"))
