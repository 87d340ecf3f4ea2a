"""Two-hot coding in plain torch: the definition."""

import torch
from torch import Tensor


def locate(x: Tensor, low: Tensor, high: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """The lower bin (..., int64) of each value and the share (..., float32) of the bin above it.

    Values outside [low, high] count as the nearer end; where they do, no gradient flows.
    """
    position = (x.float() - low) / (high - low) * (bins - 1)
    position = position.clamp(0, bins - 1)
    lower = position.detach().nan_to_num().floor().clamp(max=bins - 2)
    return lower.long(), position - lower


def encode(x: Tensor, low: Tensor, high: Tensor, bins: int) -> Tensor:
    """Values (...) to weights (..., bins), float32."""
    lower, share = locate(x, low, high, bins)
    weights = torch.zeros(*x.shape, bins, dtype=torch.float32, device=x.device)
    weights = weights.scatter(-1, lower[..., None], (1 - share)[..., None])
    return weights.scatter(-1, lower[..., None] + 1, share[..., None])


def decode(weights: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Weights (..., bins) to values (...), float32."""
    bins = weights.shape[-1]
    steps = torch.arange(bins, dtype=torch.float32, device=weights.device)
    return low + (weights.float() * steps).sum(-1) * ((high - low) / (bins - 1))


def embed(x: Tensor, table: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Values (N, A) through a table (A, bins, D) to their sum over dimensions (N, D), in the dtype of the table."""
    lower, share = locate(x, low, high, table.shape[1])
    rows = torch.arange(table.shape[0], device=x.device)
    below, above = table[rows, lower].float(), table[rows, lower + 1].float()
    return torch.lerp(below, above, share[..., None]).sum(-2).to(table.dtype)


def embed_backward(grad: Tensor, x: Tensor, table: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and of the table, written out: inside an operator nothing can be differentiated."""
    bins, upstream = table.shape[1], grad.float()[:, None]
    lower, share = locate(x, low, high, bins)
    rows = torch.arange(table.shape[0], device=x.device).expand_as(lower)
    below, above = table[rows, lower].float(), table[rows, lower + 1].float()
    free = (x.float() - low) / (high - low) * (bins - 1)
    inside = (free >= 0) & (free <= bins - 1)
    grad_x = torch.where(inside, ((above - below) * upstream).sum(-1) * ((bins - 1) / (high - low)), 0)
    grad_table = torch.zeros(table.shape, device=x.device)
    grad_table.index_put_((rows, lower), (1 - share)[..., None] * upstream, accumulate=True)
    grad_table.index_put_((rows, lower + 1), share[..., None] * upstream, accumulate=True)
    return grad_x.to(x.dtype), grad_table.to(table.dtype)
