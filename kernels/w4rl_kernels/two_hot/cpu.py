"""embed on the CPU by numba: two rows of the table a value, never the bins."""

import numpy as np
import torch
from numba import njit
from torch import Tensor


@njit(cache=True, inline="always")
def within(position, last):  # type: ignore[no-untyped-def]
    """Position between 0 and last; not-a-number stays what it is."""
    if position < 0:
        return np.float32(0)
    return np.float32(last) if position > last else position


@njit(cache=True, inline="always")
def lower_bin(position, last):  # type: ignore[no-untyped-def]
    """The bin at or below a position, never the last, and the first for not-a-number."""
    return min(int(position), last - 1) if position >= 0 else 0


@njit(cache=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy", nogil=True)
def embed_rows(x, table, low, scale, out):  # type: ignore[no-untyped-def]
    """x (N, A), table (A, K, D), low and scale (A,) to out (N, D); scale is bins - 1 over the range."""
    last = table.shape[1] - 1
    for n in range(x.shape[0]):
        for a in range(x.shape[1]):
            position = within((x[n, a] - low[a]) * scale[a], last)
            lower = lower_bin(position, last)
            share = position - np.float32(lower)
            below, above = table[a, lower], table[a, lower + 1]
            if a == 0:
                for d in range(table.shape[2]):
                    out[n, d] = below[d] + share * (above[d] - below[d])
            else:
                for d in range(table.shape[2]):
                    out[n, d] += below[d] + share * (above[d] - below[d])


@njit(cache=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy", nogil=True)
def embed_rows_backward(grad, x, table, low, scale, grad_x, grad_table):  # type: ignore[no-untyped-def]
    """grad (N, D) to grad_x (N, A) and, added up, grad_table (A, K, D)."""
    last = table.shape[1] - 1
    for n in range(x.shape[0]):
        for a in range(x.shape[1]):
            free = (x[n, a] - low[a]) * scale[a]
            position = within(free, last)
            lower = lower_bin(position, last)
            share = position - np.float32(lower)
            below, above = table[a, lower], table[a, lower + 1]
            to_below, to_above = grad_table[a, lower], grad_table[a, lower + 1]
            slope = np.float32(0)
            for d in range(table.shape[2]):
                slope += grad[n, d] * (above[d] - below[d])
                part = share * grad[n, d]
                to_above[d] += part
                to_below[d] += grad[n, d] - part
            grad_x[n, a] = slope * scale[a] if 0 <= free <= last else np.float32(0)


def embed(x: Tensor, table: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """As `reference.embed`."""
    out = torch.empty(x.shape[0], table.shape[2])
    embed_rows(plain(x), plain(table), low.numpy(), scale_of(low, high, table), out.numpy())
    return out.to(table.dtype)


def embed_backward(grad: Tensor, x: Tensor, table: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and of the table."""
    grad_x, grad_table = torch.empty(x.shape), torch.zeros(table.shape)
    embed_rows_backward(
        plain(grad), plain(x), plain(table), low.numpy(), scale_of(low, high, table), grad_x.numpy(), grad_table.numpy()
    )
    return grad_x.to(x.dtype), grad_table.to(table.dtype)


def plain(tensor: Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return tensor.detach().float().contiguous().numpy()


def scale_of(low: Tensor, high: Tensor, table: Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return ((table.shape[1] - 1) / (high - low)).numpy()
