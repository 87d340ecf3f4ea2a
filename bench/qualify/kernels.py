"""The other ops of w4rl_kernels on the device: equal to their definition, and how near they come to the copy."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.qualify.problems import asking
from bench.qualify.session import Session
from bench.two_hot import dense, fused
from w4rl_kernels.noise import normal_noise, random_bits
from w4rl_kernels.two_hot import GPU, reference
from w4rl_kernels.two_hot.operators import embed_rows
from w4rl_kernels.window_gather import gather_windows

RAGGED = [(63, 7, 21, 100), (1, 4, 21, 33), (4097, 7, 21, 256)]
"""Rows, dimensions, bins and features that fill no block of a kernel."""
ALLOWED = {
    torch.float32: {"output": 1e-5, "grad_x": 1e-2, "grad_table": 1e-5},
    torch.bfloat16: {"output": 1e-2, "grad_x": 1e-2, "grad_table": 1e-2},
}
"""A value that lies on the edge of two bins may have the slope of either: then its gradient is another."""


def run(session: Session) -> dict[str, Any]:
    """Each op by itself: one that fails leaves the others."""
    if not session.dry and GPU.name != "gpu":
        session.failed["kernels: two_hot in Triton"] = GPU.why
    ops = {
        "two_hot, float32": lambda: two_hot(session, torch.float32),
        "two_hot, bfloat16": lambda: two_hot(session, torch.bfloat16),
        "noise": lambda: by_ours(session, noise),
        "window_gather": lambda: gather(session),
    }
    found = {name: session.attempt(f"kernels: {name}", call) for name, call in ops.items()}
    for name, row in found.items():
        if row:
            print(f"{name:18} error {row['error']:.1e}  x{row['ratio']:.2f}  {row['share_of_copy']:.0%} of the copy")
    return found


def by_ours(session: Session, measure: Callable[[Session], dict[str, Any]]) -> dict[str, Any]:
    """By our kernel, which a dry run does without."""
    with asking(session.device, () if session.dry else ("noise",)):
        return measure(session)


def two_hot(session: Session, dtype: torch.dtype) -> dict[str, Any]:
    """embed beside the dense form, `encode(x) @ table`, forward and with backward."""
    torch.manual_seed(0)
    rows = 64 if session.dry else 4096 * 16
    x, table, grad = (each.to(session.device) for each in problem(rows, 7, 21, 256, dtype))
    x.requires_grad_()
    table.requires_grad_()
    forms = {"dense": lambda x, t: dense(x.to(dtype), t), "fused": fused}
    fixed, timings = (x.detach(), table.detach()), {}
    for name, form in forms.items():
        timings[f"{name}, forward"] = session.timed(lambda f=form: f(*fixed))
        timings[f"{name}, both"] = session.timed(lambda f=form: torch.autograd.grad(f(x, table), (x, table), grad))
    errors = {f"{shape}": errors_of(session, shape, dtype) for shape in [(rows, 7, 21, 256), *RAGGED]}
    for name, allowed in ALLOWED[dtype].items():
        assert all(each[name] < allowed for each in errors.values()), f"{name} is off by more than {allowed}: {errors}"
    moved = x.numel() * x.element_size() + grad.numel() * grad.element_size()
    return {
        "implementation": GPU.name,
        "relative_error": errors,
        "error": max(error for each in errors.values() for error in each.values()),
        "timings": timings,
        "share_of_copy": share(session, moved, timings["fused, forward"]["median_ms"]),
        "ratio": timings["dense, forward"]["median_ms"] / timings["fused, forward"]["median_ms"],
        "ratio_both": timings["dense, both"]["median_ms"] / timings["fused, both"]["median_ms"],
    }


def problem(rows: int, dimensions: int, bins: int, features: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Values, some of them outside, a table, and what comes back to the result."""
    x = torch.rand(rows, dimensions) * 2.2 - 1.1
    return x, torch.randn(dimensions, bins, features).to(dtype), torch.randn(rows, features).to(dtype)


def errors_of(session: Session, shape: tuple[int, int, int, int], dtype: torch.dtype) -> dict[str, float]:
    """How far embed and its gradients are from the definition, which computes on wide numbers."""
    x, table, grad = (each.to(session.device) for each in problem(*shape, dtype))
    bounds = torch.full((shape[1],), -1.0, device=x.device), torch.full((shape[1],), 1.0, device=x.device)
    x.requires_grad_()
    table.requires_grad_()
    made = embed_rows(x, table, *bounds)
    ours = (made, *torch.autograd.grad(made, (x, table), grad))
    wide = table.detach().double()
    wanted = reference.embed(x.detach(), wide, *bounds)
    theirs = (wanted, *reference.embed_backward(grad.double(), x.detach(), wide, *bounds))
    return {name: relative(a, b) for name, a, b in zip(("output", "grad_x", "grad_table"), ours, theirs, strict=True)}


def relative(made: Tensor, wanted: Tensor) -> float:
    """Norm of the difference over the norm of what was wanted; the difference itself where that is nothing."""
    made, wanted = made.detach().double(), wanted.detach().double()
    size = float(wanted.norm())
    return float((made - wanted).norm()) / (size or 1.0)


def noise(session: Session) -> dict[str, Any]:
    """The noise of a step of 1024 worlds: bit for bit that of the CPU; beside it torch's own, which knows no seeds."""
    worlds, shape = (2, (3, 7, 5)) if session.dry else (1024, (3, 48, 48))
    here = torch.arange(worlds) * 2**33 - 5, torch.arange(worlds) % 20, torch.arange(worlds) % 3
    there = tuple(each.to(session.device) for each in here)
    drawn = normal_noise(*there, shape, stream=1)
    assert torch.equal(drawn.cpu(), normal_noise(*here, shape, stream=1)), "normal_noise differs from the CPU's"
    words = random_bits(*there, 7, stream=2)
    assert torch.equal(words.cpu(), random_bits(*here, 7, stream=2)), "random_bits differ from the CPU's"
    timings = {
        "counter-based": session.timed(lambda: normal_noise(*there, shape, out=drawn)),
        "torch.randn": session.timed(drawn.normal_),
    }
    return {
        "error": 0.0,
        "worlds": worlds,
        "timings": timings,
        "share_of_copy": share(session, drawn.nbytes, timings["counter-based"]["median_ms"]),
        "ratio": timings["torch.randn"]["median_ms"] / timings["counter-based"]["median_ms"],
    }


def gather(session: Session) -> dict[str, Any]:
    """A batch of windows: equal to the CPU's; beside it indexing and arithmetic of torch."""
    frames = torch.randint(0, 256, (64 if session.dry else 4096, 48, 48, 3), dtype=torch.uint8)
    rows = torch.randint(0, len(frames), (2 if session.dry else 512, 5))
    kept, at = frames.to(session.device), rows.to(session.device)
    made = gather_windows(kept, at)
    error = float((made.cpu() - gather_windows(frames, rows)).abs().max())
    assert error < 1e-6, f"gather_windows is {error:.1e} from the CPU's"
    timings = {
        "gather": session.timed(lambda: gather_windows(kept, at, out=made)),
        "torch": session.timed(lambda: kept[at].float() / 127.5 - 1),
    }
    return {
        "error": error,
        "timings": timings,
        "share_of_copy": share(session, made.numel() * 5, timings["gather"]["median_ms"]),
        "ratio": timings["torch"]["median_ms"] / timings["gather"]["median_ms"],
    }


def share(session: Session, moved: int, milliseconds: float) -> float:
    """Bytes over the time as a share of the copy bandwidth; not a number where that was not measured."""
    return moved / 1e6 / milliseconds / session.peaks.get("copy_gb_per_s", float("nan"))
