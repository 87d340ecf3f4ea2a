"""One denoising step of each backbone: GFLOP/s over what a GEMM of the same dtype reaches, at batch 1, 8 and 64.

The baseline is torch's eager step as the model is made (NCHW); beside it channels-last, torch.compile with frozen
weights at batch 8 (its compile time apart), and batch 64 cut into slices that stay in the cache. In bfloat16 the
backbone's weights and activations are narrow, and what conditions it is float32. Every figure stands beside the error
of that very step against eager float32 in grey levels (of 255), on random weights, and each backbone and dtype has a
process of its own, whose peak memory is read after each batch. Convolutions can pass 100 %: the float32 GEMM of
torch runs through MKL, which does not use all that every processor has.
"""

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from w4rl_fast.data.episode import Schema
from w4rl_fast.imagine.step import Narrow
from w4rl_fast.measure import peak_memory_bytes, roofline, time_blocks, write_result
from w4rl_fast.presets import WORLDS
from w4rl_fast.world.model import Context, WorldModel

SIZES = {"tiny": 48, "small": 64}
BACKBONES = [name for name in WORLDS if name != "paper"]  # hours on a CPU
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
BATCHES, SLICED, SLICES, COMPILED = (1, 8, 64), 64, (4, 8, 16, 32), 8
BUDGET_S, THREADS = 4.0, 1

Step = Callable[..., Tensor]


def make(name: str, dtype: torch.dtype) -> WorldModel:
    """The world of a preset with random weights, none of them zero: what is zero at first would hide errors."""
    size = SIZES.get(name, 48)
    schema = Schema(image_size=size, action_low=(-1.0,) * 4, action_high=(1.0,) * 4, proprio_dim=4)
    torch.manual_seed(0)
    model = WorldModel(WORLDS[name](schema).world).eval().requires_grad_(False)
    for parameter in model.parameters():
        if not parameter.any():
            parameter.normal_(std=0.02)
    if dtype is not torch.float32:
        setattr(model, "unet" if model.config.transformer is None else "dit", Narrow(model.backbone, dtype))
    return model


def inputs(model: WorldModel, batch: int) -> list[Tensor]:
    """Noisy pictures, their noise levels out of the sampler's, a context, and where the robot will be."""
    config, generator = model.config, torch.Generator().manual_seed(batch)
    size, history = config.image_size, config.history

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator)

    levels = torch.tensor(model.sigmas[:-1])
    sigma = levels[torch.arange(batch) % len(levels)]
    frames, actions = normal(history, 3, size, size).tanh(), normal(history, config.action_dim).tanh()
    noisy = normal(3, size, size) * sigma[:, None, None, None]
    proprio = normal(history, config.proprio_dim)
    return [noisy, sigma, frames, proprio, actions, frames[:, 0].clone(), normal(config.proprio_dim)]


def step_of(model: WorldModel) -> Step:
    def step(noisy: Tensor, sigma: Tensor, *rest: Tensor) -> Tensor:
        context = Context(*rest[:4])
        return model.to_frame(model.denoise(noisy, sigma, context, rest[4]), context)

    return step


def in_slices(step: Step, size: int) -> Step:
    """The same step, `size` worlds at a time."""
    return lambda *tensors: torch.cat([step(*part) for part in zip(*(t.split(size) for t in tensors), strict=True)])


def measure(name: str, precision: str) -> dict[str, Any]:
    """All batches of one backbone in one dtype."""
    exact, plain = step_of(make(name, torch.float32)), step_of(make(name, DTYPES[precision]))
    model = make(name, DTYPES[precision]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    last, rows = step_of(model), []
    compiled = torch.compile(
        step_of(make(name, DTYPES[precision])), dynamic=False, fullgraph=True, options={"freezing": True}
    )
    for batch in BATCHES:
        tensors = inputs(model, batch)
        steps = {"eager": plain, "eager, channels last": last}
        if batch == SLICED:
            steps |= {f"slices of {size}": in_slices(last, size) for size in SLICES}
            steps[f"compiled, slices of {COMPILED}"] = in_slices(compiled, COMPILED)
        if batch == COMPILED:
            steps["compiled"] = compiled
        rows.append({"batch": batch, **time_steps(steps, exact, tensors)})
    return {"backbone": name, "dtype": precision, "batches": rows}


def time_steps(steps: dict[str, Step], exact: Step, tensors: list[Tensor]) -> dict[str, Any]:
    """FLOPs, fidelity, first call and timings of steps on the same tensors."""
    with FlopCounterMode(display=False) as counter:
        expected = exact(*tensors)
    before, errors, first_s = peak_memory_bytes(), {}, {}
    for name, step in steps.items():
        started = time.perf_counter()
        error = (step(*tensors) - expected).abs() * 127.5
        first_s[name] = time.perf_counter() - started
        errors[name] = {"mean": float(error.mean()), "largest": float(error.max())}
    once = min(first_s["eager"], first_s["eager, channels last"])
    calls = {name: lambda step=step: step(*tensors) for name, step in steps.items()}
    timings = time_blocks(calls, warmup=1, samples=max(5, min(100, int(BUDGET_S / once))))
    return {
        "gflop": counter.get_total_flops() / 1e9,
        "grey_level_error": errors,
        "first_call_s": first_s,
        "timings": timings,
        "peak_mb": {"before": before / 2**20, "after": peak_memory_bytes() / 2**20},
    }


def report(case: dict[str, Any], peak: float) -> None:
    for row in case["batches"]:
        row["share_of_gemm_peak"] = {}
        for name, timing in row["timings"].items():
            share = row["gflop"] / timing["median_s"] / peak
            row["share_of_gemm_peak"][name] = share
            print(
                f"{case['backbone']:9}{case['dtype']:6}{row['batch']:3}  {name:24}"
                f"{1e3 * timing['median_s'] / row['batch']:9.3f} ms a frame {100 * share:6.1f} % of the GEMM peak"
                f"   error {row['grey_level_error'][name]['largest']:.2f} grey levels"
            )


def main(arguments: list[str]) -> None:
    """Without arguments everything; with a backbone and a dtype that case alone, as one line of JSON."""
    torch.set_num_threads(THREADS)
    if arguments:
        with torch.no_grad():
            print(json.dumps(measure(*arguments), default=dataclasses.asdict))
        return
    peaks, cases = roofline(THREADS), []
    for name in BACKBONES:
        for precision in DTYPES:
            command = [sys.executable, "-m", "bench.denoise", name, precision]
            said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            cases.append(json.loads(said.splitlines()[-1]))
            peaks = {key: max(value, peaks[key]) for key, value in roofline(THREADS).items()}
    for case in cases:
        report(case, peaks[f"gemm_{case['dtype']}_gflops"])
    write_result("denoise", {"threads": THREADS, "roofline": peaks, "cases": cases})


if __name__ == "__main__":
    main(sys.argv[1:])
