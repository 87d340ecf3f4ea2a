"""The definition of gather_windows, in plain torch."""

import torch
from torch import Tensor


def fill(frames: Tensor, rows: Tensor, out: Tensor, threads: int) -> int:
    """Fill out (B, T, H, W, C) from frames (N, H, W, C) at rows (B, T), on any device; `threads` is torch's to decide.

    Returns -1, or the position in rows of the first row outside [0, N), and then reads nothing.
    """
    del threads
    outside = ((rows < 0) | (rows >= len(frames))).flatten()
    if outside.any():
        return int(outside.to(torch.uint8).argmax())
    out.copy_(frames[rows].to(torch.float32) / 127.5 - 1)
    return -1
