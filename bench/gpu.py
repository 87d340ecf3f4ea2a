"""What only a GPU can tell, in one call: two_hot.embed in Triton, and denoising steps and samples of each backbone.

embed is compared with the reference (outputs and gradients) and timed against the dense form, `encode(x) @ table`,
beside the time a copy of its result takes. A denoising step is timed eager in float32, tf32 and bfloat16, compiled,
and replayed from a CUDA graph; a sample is the graph of all steps of the sampler. Fidelity is the largest difference
from eager float32 in grey levels (of 255), on random weights. `--dry` runs everything tiny on the CPU and times
nothing worth reading. The result goes to $OUT/gpu.json if OUT is set, and to bench/results/gpu.json otherwise.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.denoise import BACKBONES, inputs, make, step_of
from bench.two_hot import dense, fused
from w4rl_fast.measure import environment_card, write_result
from w4rl_fast.world.model import Context, WorldModel
from w4rl_kernels.two_hot import GPU, reference

DRY = "--dry" in sys.argv[1:]
DEVICE = "cpu" if DRY else "cuda"
BATCHES = (1, 2) if DRY else (1, 8, 64, 512)
COMPILED = (1,) if DRY else (8, 512)
ROWS = 64 if DRY else 4096 * 16
SAMPLES, LIMIT_S = (2, 60) if DRY else (50, 480)
PRECISIONS = {"bf16": torch.bfloat16, "tf32": torch.float32, "fp32": torch.float32}

Call = Callable[[], Any]


def timed(call: Call) -> dict[str, float]:
    """Milliseconds of a call by device events, after warming up."""
    for _ in range(1 if DRY else 5):
        call()
    values = sorted(once(call) for _ in range(SAMPLES))
    p99 = values[-1 - len(values) // 100]
    return {"median_ms": statistics.median(values), "p99_ms": p99, "minimum_ms": values[0], "samples": SAMPLES}


def once(call: Call) -> float:
    if DRY:
        started = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - started)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def peaks() -> dict[str, float]:
    """Copy in GB/s (read + write) and GEMM in TFLOP/s of this device, on random numbers."""
    size, count = (256, 1 << 16) if DRY else (8192, 1 << 30)
    source, found = torch.randn(count // 4, device=DEVICE), {}
    target = torch.empty_like(source)
    found["copy_gb_per_s"] = 2 * count / 1e6 / timed(lambda: target.copy_(source))["median_ms"]
    for name, dtype in PRECISIONS.items():
        allow_tf32(name == "tf32")
        left, right = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
        found[f"gemm_{name}_tflops"] = 2 * size**3 / 1e9 / timed(lambda a=left, b=right: a @ b)["median_ms"]
    return found


def two_hot(dtype: torch.dtype, copy: float) -> dict[str, Any]:
    """Parity of embed with the reference, then both forms timed, forward and with backward."""
    torch.manual_seed(0)
    x = (torch.rand(ROWS, 7, device=DEVICE) * 2.2 - 1.1).requires_grad_()
    table = torch.randn(7, 21, 256, device=DEVICE).to(dtype).requires_grad_()
    grad = torch.randn(ROWS, 256, device=DEVICE).to(dtype)
    bounds = torch.full((7,), -1.0, device=DEVICE), torch.full((7,), 1.0, device=DEVICE)
    made = fused(x, table)
    wide = table.detach().double().requires_grad_()
    wanted = reference.embed(x, wide, *bounds)
    errors = [relative(made, wanted)]
    ours = torch.autograd.grad(made, (x, table), grad)
    theirs = reference.embed_backward(grad.float(), x.detach(), table.detach().float(), *bounds)
    errors += [relative(a, b) for a, b in zip(ours, theirs, strict=True)]
    forms = {"dense": lambda x, t: dense(x.to(dtype), t), "fused": fused}
    fixed, timings = (x.detach(), table.detach()), {}
    for name, form in forms.items():
        timings[f"{name}, forward"] = timed(lambda f=form: f(*fixed))
        timings[f"{name}, both"] = timed(lambda f=form: torch.autograd.grad(f(x, table), (x, table), grad))
    moved = x.numel() * x.element_size() + made.numel() * made.element_size()
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "implementation": GPU.name,
        "relative_error": dict(zip(("output", "grad_x", "grad_table"), errors, strict=True)),
        "timings": timings,
        "share_of_copy_bandwidth": moved / 1e6 / timings["fused, forward"]["median_ms"] / copy,
        "ratio_forward": timings["dense, forward"]["median_ms"] / timings["fused, forward"]["median_ms"],
        "ratio_both": timings["dense, both"]["median_ms"] / timings["fused, both"]["median_ms"],
    }


def relative(made: Tensor, wanted: Tensor) -> float:
    """Norm of the difference over the norm of what was wanted."""
    made, wanted = made.detach().double(), wanted.detach().double()
    return float((made - wanted).norm() / wanted.norm())


def sampler_of(model: WorldModel) -> Callable[..., Tensor]:
    """All steps of the sampler from a batch of standard normal noise."""
    return lambda noisy, _, *rest: model(Context(*rest[:4]), noisy)[0]


def captured(call: Call) -> Call:
    """The same call as a CUDA graph; on the CPU itself."""
    if DRY:
        return call
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay


def world(name: str, precision: str, deadline: float) -> list[dict[str, Any]]:
    """Steps and samples of one backbone in one precision."""
    exact = step_of(make(name, torch.float32).to(DEVICE))
    model, rows = make(name, PRECISIONS[precision]).to(DEVICE), []
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for batch in BATCHES:
        if time.monotonic() > deadline:
            print(f"{name} {precision} from batch {batch} on left out: the time is up")
            break
        tensors = [tensor.to(DEVICE) for tensor in inputs(model, batch)]
        allow_tf32(False)
        wanted = exact(*tensors)
        allow_tf32(precision == "tf32")
        compiled = precision == "bf16" and batch in COMPILED
        rows.append(
            {"backbone": name, "precision": precision, "batch": batch, **steps(model, tensors, wanted, compiled)}
        )
    allow_tf32(False)
    return rows


def allow_tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def steps(model: WorldModel, tensors: list[Tensor], wanted: Tensor, compiled: bool) -> dict[str, Any]:
    """Every way to run a step, each with its error; and the captured sampler, checked against the eager one."""
    if not DRY:
        torch.cuda.reset_peak_memory_stats()
    step, sample = step_of(model), sampler_of(model)
    calls: dict[str, Call] = {"eager": lambda: step(*tensors), "graph": captured(lambda: step(*tensors))}
    started = time.monotonic()
    if compiled:
        torch.compiler.reset()  # it keeps eight versions of one function, and then runs it eager
        fast = torch.compile(step, dynamic=False, fullgraph=True, backend="eager" if DRY else "inductor")
        fast(*tensors)
        calls |= {"compiled": lambda: fast(*tensors), "compiled graph": captured(lambda: fast(*tensors))}
    compile_s = time.monotonic() - started
    errors = {name: float((call() - wanted).abs().max()) * 127.5 for name, call in calls.items()}
    drawn, calls["sample, graph"] = sample(*tensors), captured(lambda: sample(*tensors))
    errors["sample, graph, to eager"] = float((calls["sample, graph"]() - drawn).abs().max()) * 127.5
    return {
        "grey_level_error": errors,
        "compile_s": compile_s if compiled else None,
        "timings": {name: timed(call) for name, call in calls.items()},
        "peak_memory_mb": None if DRY else torch.cuda.max_memory_allocated() / 2**20,
    }


def main() -> int:
    if not DRY and not torch.cuda.is_available():
        print("error: device cuda: torch sees no GPU here. Run this where there is one, or try it with --dry")
        return 2
    if DRY:
        torch.set_num_threads(1)
    deadline = time.monotonic() + LIMIT_S
    roof = peaks()
    result: dict[str, Any] = {"dry": DRY, "roofline": roof, "worlds": []}
    result["two_hot"] = [two_hot(dtype, roof["copy_gb_per_s"]) for dtype in (torch.float32, torch.bfloat16)]
    with torch.no_grad():
        for name in BACKBONES:
            for precision in PRECISIONS:
                rows = world(name, precision, deadline)
                result["worlds"] += rows
                for row in rows:
                    times = {k: round(v["median_ms"], 3) for k, v in row["timings"].items()}
                    print(name, precision, row["batch"], times, flush=True)
    publish(result)
    return 0


def publish(result: dict[str, Any]) -> None:
    if out := os.environ.get("OUT"):
        whole = {"name": "gpu", "result": result, "environment": environment_card()}
        (Path(out) / "gpu.json").write_text(json.dumps(whole, indent=2) + "\n")
        print(json.dumps(result))
    else:
        write_result("gpu-dry" if DRY else "gpu", result)


if __name__ == "__main__":
    sys.exit(main())
