"""Windows of video out of uint8 frames, normalised: the inner loop of every training stage.

B windows, T frames each, N frames in all, H x W pixels, C channels.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from w4rl_kernels.select import Implementation, select
from w4rl_kernels.threads import default_threads
from w4rl_kernels.window_gather import cpu, reference

__all__ = ["CHOICE", "DTYPES", "IMPLEMENTATIONS", "gather_windows"]

Fill = Callable[[Tensor, Tensor, Tensor, int], int]

DTYPES = (torch.float32, torch.bfloat16)
IMPLEMENTATIONS: tuple[Implementation[Fill], ...] = (
    Implementation(name="cpu", load=lambda: cpu.fill, unavailable=cpu.unavailable),
    Implementation(name="reference", load=lambda: reference.fill),
)
CHOICE = select("gather_windows", IMPLEMENTATIONS)


def gather_windows(
    frames: Tensor,
    rows: Tensor,
    *,
    dtype: torch.dtype = torch.float32,
    out: Tensor | None = None,
    threads: int | None = None,
) -> Tensor:
    """Frames (N, H, W, C) uint8 at rows (B, T) int64, as frames / 127.5 - 1 of shape (B, T, C, H, W), channels last.

    The result is float32 or bfloat16 (computed in float32, rounded to nearest even); the bytes of each frame keep
    the order (H, W, C). `frames` may be mapped from a file. `out`, a former result, is filled again instead of
    allocating, and decides the dtype. At most `threads` threads work: by default physical cores minus one.
    """
    _check_input(frames, rows, threads)
    if out is None:
        _require(dtype in DTYPES, f"dtype {dtype}", "the result is float32 or bfloat16", "Convert the result")
        filled = torch.empty((*rows.shape, *frames.shape[1:]), dtype=dtype, device=frames.device)
    else:
        filled = out.permute(0, 1, 3, 4, 2)
        fits = filled.shape == (*rows.shape, *frames.shape[1:]) and filled.is_contiguous() and out.dtype in DTYPES
        _require(
            fits, f"out {tuple(out.shape)} of {out.dtype}", "it is a former result of this op", "Leave it out once"
        )
    torch.ops.w4rl.gather_windows(frames, rows.contiguous(), filled, threads)
    return filled.permute(0, 1, 4, 2, 3) if out is None else out


def _check_input(frames: Tensor, rows: Tensor, threads: int | None) -> None:
    good = frames.dtype is torch.uint8 and frames.ndim == 4 and frames.is_contiguous()
    rule = "frames are uint8 (N, H, W, C), contiguous"
    _require(good, f"frames {tuple(frames.shape)} of {frames.dtype}", rule, "Convert them once, when they are stored")
    good = rows.dtype is torch.int64 and rows.ndim == 2 and rows.device == frames.device
    rule = "rows are int64 (B, T), on the device of frames"
    _require(good, f"rows {tuple(rows.shape)} of {rows.dtype} on {rows.device}", rule, "Convert them with rows.to(...)")
    _require(threads is None or threads > 0, f"threads {threads}", "at least one works", "Leave it out for the default")


def _require(condition: bool, value: str, rule: str, remedy: str) -> None:
    if not condition:
        raise ValueError(f"{value}: {rule}. {remedy}")


def _fill_with(fill: Fill) -> Callable[[Tensor, Tensor, Tensor, int | None], None]:
    def gather(frames: Tensor, rows: Tensor, out: Tensor, threads: int | None) -> None:
        outside = fill(frames, rows, out, threads or default_threads())
        if outside >= 0:
            row, count = int(rows.flatten()[outside]), len(frames)
            raise IndexError(
                f"row {row}: rows lie in [0, {count}), the frames there are. Check how the rows were drawn"
            )

    return gather


# One operator for torch.compile and torch.export; calling it costs some 12 microseconds, a batch milliseconds.
_operator = torch.library.custom_op(
    "w4rl::gather_windows",
    _fill_with(CHOICE.function),
    mutates_args={"out"},
    device_types="cpu",
    schema="(Tensor frames, Tensor rows, Tensor(a!) out, int? threads) -> ()",
)
_operator.register_kernel("cuda")(_fill_with(reference.fill))
_operator.register_fake(lambda *_: None)
