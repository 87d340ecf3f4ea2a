"""Steps of training the tiny denoiser, batch 32: windows, loss, backward, clip, AdamW and the average of the weights.

The baseline is the loop one writes first: float32, every window sliced from numpy by itself and collated. Beside it
ours as it is, and ours with one thing changed at a time. The data is 20 episodes of button-press-topdown-v3 at 48x48,
collected into a temporary folder. All loops take turns in one process from the same weights; beside the speed: the loss
over the last half of the steps as a ratio to the baseline's, which sees the same windows and noise.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from w4rl_fast.config import override
from w4rl_fast.data.collect import CollectConfig, collect
from w4rl_fast.data.store import Store
from w4rl_fast.data.windows import Batch, Windows
from w4rl_fast.fit import Fit, generator_at
from w4rl_fast.measure import peak_memory_bytes, roofline, write_result
from w4rl_fast.presets import tiny
from w4rl_fast.tasks import default_config
from w4rl_fast.world.losses import context_of, denoising_loss
from w4rl_fast.world.model import WorldModel
from w4rl_fast.world.train import set_statistics, windows_of

TASK, EPISODES, BATCH, STEPS, WARM_UP, THREADS = "metaworld/button-press-topdown-v3", 20, 32, 60, 5, 1
PARTS = ("data", "forward", "backward", "clip", "optimizer", "average")


@dataclass(frozen=True, kw_only=True, slots=True)
class Loop:
    """What a training loop does differently from the naive one."""

    windows: bool = True
    bf16: bool = True
    layout: torch.memory_format | None = None
    fused: bool = False
    average_at_once: bool = False
    compiled: bool = False


LAST, FIRST = torch.channels_last, torch.contiguous_format
LOOPS = {
    "naive": Loop(windows=False, bf16=False, layout=FIRST),
    "naive, bfloat16": Loop(windows=False, layout=FIRST),
    "ours": Loop(),
    "float32": Loop(bf16=False),
    "channels first": Loop(layout=FIRST),
    "channels last": Loop(layout=LAST),
    "fused AdamW": Loop(fused=True),
    "average at once": Loop(average_at_once=True),
    "compiled": Loop(compiled=True),
}


@dataclass(kw_only=True)
class Run:
    """One loop under way; `seconds` by part."""

    loop: Loop
    windows: Windows
    fit: Fit
    loss: Callable[[Batch, torch.Generator], Tensor]
    losses: list[float] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})

    def step(self) -> None:
        """As `Fit` does it, with a clock between the parts."""
        clock, fit, number = [time.perf_counter()], self.fit, self.fit.step
        batch = self.windows.batch(number, BATCH) if self.loop.windows else one_by_one(self.windows, number)
        clock.append(time.perf_counter())
        with torch.autocast("cpu", torch.bfloat16) if self.loop.bf16 else nullcontext():
            loss = self.loss(batch, generator_at(0, number))
        self.losses.append(float(loss.detach()))
        clock.append(time.perf_counter())
        fit.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clock.append(time.perf_counter())
        torch.nn.utils.clip_grad_norm_(fit.named.values(), fit.config.clip)
        clock.append(time.perf_counter())
        fit.optimizer.step()
        fit.step += 1
        clock.append(time.perf_counter())
        self.average()
        clock.append(time.perf_counter())
        for part, start, end in zip(PARTS, clock[:-1], clock[1:], strict=True):
            self.seconds[part].append(end - start)

    @torch.no_grad()
    def average(self) -> None:
        if self.loop.average_at_once:
            torch._foreach_lerp_(list(self.fit.average.values()), list(self.fit.named.values()), 1e-3)
        else:
            self.fit._average_weights()


def one_by_one(windows: Windows, number: int) -> Batch:
    """The windows of `Windows.batch`, each sliced and converted by itself, then collated."""
    rng = np.random.Generator(np.random.Philox(key=[windows.seed, number]))
    chosen = np.searchsorted(windows._chances, rng.random(BATCH) * windows._chances[-1], side="right")
    present = np.floor(rng.random(BATCH) * windows.counts[chosen]).astype(np.int64)
    samples = [one_window(windows, *at) for at in zip(windows.starts[chosen], present, strict=True)]
    frames, anchor, actions, proprio = (torch.stack(part) for part in zip(*samples, strict=True))
    unused = torch.zeros(proprio.shape[:2], dtype=torch.bool)
    return Batch(frames, anchor, actions, proprio, unused, unused, windows.episodes[chosen], present)


def one_window(windows: Windows, start: int, present: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Frames, first frame, actions and proprioception of one window."""
    frames, actions, proprio = (windows._arrays[name].array for name in ("frames", "actions", "proprio"))
    offsets = np.arange(present + 1 - windows.config.history, present + windows.config.future + 1)
    rows = start + np.maximum(offsets, 0)
    pictures = torch.from_numpy(frames[[start, *rows]]).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)
    moves = actions[rows[:-1]] * (offsets[:-1] >= 0)[:, None]
    return pictures[1:], pictures[0], torch.from_numpy(moves), torch.from_numpy(proprio[rows])


def make(loop: Loop, store: Store, folder: Path) -> Run:
    """A loop at its start."""
    config = tiny(store.schema)
    windows = windows_of(store, config, future=1, pixels=True)
    torch.manual_seed(0)
    model = WorldModel(config.world)
    set_statistics(model, windows)
    model.head.requires_grad_(False)
    if loop.layout is not None:
        model.to(memory_format=loop.layout)  # type: ignore[call-overload]
    fit = Fit(model, config.denoiser, folder, stage="denoiser")
    if loop.fused:
        fit.optimizer.param_groups[0].update(fused=True, foreach=False)
    if loop.compiled:
        model.backbone.compile(dynamic=False)
    history = config.world.history

    def loss(batch: Batch, generator: torch.Generator) -> Tensor:
        context, frame, place = context_of(batch, history), batch.frames[:, history], batch.proprio[:, history]
        return denoising_loss(model, context, frame, place, config.disturbance, generator)

    return Run(loop=loop, windows=windows, fit=fit, loss=loss)


def collected(folder: Path) -> Store:
    task = override(default_config(TASK), ["image_size=48"])
    collect(folder, [task], CollectConfig(expert=EPISODES))
    return Store(folder)


def race(runs: dict[str, Run]) -> dict[str, float]:
    """Let the loops take turns; returns the seconds of each first step, where compilation happens."""
    first_s = {}
    for name, run in runs.items():
        started = time.perf_counter()
        run.step()
        first_s[name] = time.perf_counter() - started
    names = list(runs)
    for number in range(WARM_UP + STEPS):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            runs[name].step()
    return first_s


def summary(run: Run, naive: Run, first_s: float) -> dict[str, Any]:
    parts = {part: statistics.median(seconds[-STEPS:]) for part, seconds in run.seconds.items()}
    whole = [sum(step) for step in zip(*(seconds[-STEPS:] for seconds in run.seconds.values()), strict=True)]
    median = statistics.median(whole)
    return {
        "median_s": median,
        "p99_s": max(whole),
        "minimum_s": min(whole),
        "samples": STEPS,
        "first_step_s": first_s,
        "windows_per_s": BATCH / median,
        "share": {part: seconds / sum(parts.values()) for part, seconds in parts.items()},
        "part_median_s": parts,
        "loss_over_baseline": sum(run.losses[-STEPS // 2 :]) / sum(naive.losses[-STEPS // 2 :]),
    }


def main() -> None:
    torch.set_num_threads(THREADS)
    folder = Path(tempfile.mkdtemp(prefix="w4rl-bench-"))
    try:
        store = collected(folder / "store")
        runs = {name: make(loop, store, folder / name) for name, loop in LOOPS.items()}
        first_s = race(runs)
    finally:
        shutil.rmtree(folder)
    loops = {name: summary(run, runs["naive"], first_s[name]) for name, run in runs.items()}
    for name, each in loops.items():
        ratio = loops["naive"]["median_s"] / each["median_s"]
        parts = ", ".join(f"{part} {1e3 * seconds:.1f}" for part, seconds in each["part_median_s"].items())
        print(f"{name:20s} {1e3 * each['median_s']:7.1f} ms a step, x{ratio:.2f}   {parts}")
    result = {
        "threads": THREADS,
        "batch": BATCH,
        "ratio_of_ours": loops["naive"]["median_s"] / loops["ours"]["median_s"],
        "loops": loops,
        "peak_mb": peak_memory_bytes() / 2**20,
        "roofline": roofline(THREADS),
    }
    write_result("training", result)


if __name__ == "__main__":
    main()
