"""gather_windows in C++: one pass over the bytes, several threads, no intermediate array."""

import importlib

import torch
from torch import Tensor

MODULE = "w4rl_kernels._native"


def unavailable() -> str | None:
    """Why the native module cannot be used, and what to do; None if it can."""
    try:
        importlib.import_module(MODULE)
    except ImportError as error:
        return f"the native module was not built or does not load ({error}); install a C++20 compiler, then reinstall"
    return None


def fill(frames: Tensor, rows: Tensor, out: Tensor, threads: int) -> int:
    """Fill out (B, T, H, W, C), float32 or bfloat16, with at most `threads` threads; all tensors on the CPU.

    Returns -1, or the position in rows of the first row outside [0, N), and then reads nothing.
    """
    from w4rl_kernels import _native

    bits = out.view(torch.uint16) if out.dtype is torch.bfloat16 else out
    return _native.gather_windows(frames, rows, bits, threads)
