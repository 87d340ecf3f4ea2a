"""A rollout of 64 imagined worlds for 20 steps: frames a second, and the share of time the engine itself takes.

Everything but the world step and the policy counts as the engine's: noise, rings, resets, judging, storage. Beside it a
loop written the plain way (one batch, `roll`, fresh tensors, a reset by index when a world ends), on the same world,
policy and actions' noise, whose frames have to agree within a grey level or two in the first step; the same rollout
with policy, world step and classifier compiled as one unit, and what that changes in the first step; and, in a process
of its own, what memory 256 worlds of 64 x 64 pixels were said to take and took. Random weights of the tiny preset
unless a run and its store are named: python -m bench.imagine RUN STORE.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from w4rl_fast.data.episode import Episode, EpisodeInfo, Schema
from w4rl_fast.data.store import Store, writing
from w4rl_fast.imagine import Imagination, ImaginationConfig, Rollouts, StartConfig, load_starts, memory_plan
from w4rl_fast.imagine.baseline import Loop
from w4rl_fast.measure import peak_memory_bytes, resident_bytes, roofline, time_blocks, write_result
from w4rl_fast.policy.checkpoint import load_policy
from w4rl_fast.policy.gaussian import GaussianPolicy, PolicyConfig
from w4rl_fast.presets import WORLDS
from w4rl_fast.reward import RewardConfig, RewardModel, Rule, load_reward
from w4rl_fast.world.checkpoint import load_world
from w4rl_fast.world.model import WorldModel
from w4rl_kernels.noise import normal_noise

WORLDS_AT_ONCE, STEPS, THREADS, TASK = 64, 20, 1, "bench/moving"
LARGE = {"num_worlds": 256, "size": 64}
SLICES = (8, 16, 32, 64)

Parts = tuple[WorldModel, RewardModel, Rule, GaussianPolicy, Store, str]


def made_up(size: int, folder: Path) -> Parts:
    """Parts with random weights, and a store of moving noise."""
    schema = Schema(image_size=size, action_low=(-1.0,) * 4, action_high=(1.0,) * 4, proprio_dim=7)
    torch.manual_seed(0)
    with writing(folder, schema, {TASK: {}}) as writer:
        for seed in range(24):
            rng = np.random.default_rng(seed)
            frames = np.repeat(rng.integers(0, 256, (1, size, size, 3), np.uint8), 3, axis=0)
            actions = np.zeros((3, 4), np.float32)
            info = EpisodeInfo(task=TASK, source="random", seed=seed, succeeded=False)
            writer.add(
                Episode(frames, actions, rng.normal(size=(3, 7)).astype(np.float32), np.zeros(3, np.bool_), info)
            )
    world = WorldModel(WORLDS["tiny"](schema).world).eval()
    policy = GaussianPolicy(PolicyConfig(image_size=size, action_dim=4, proprio_dim=7)).eval()
    return (
        world,
        RewardModel(RewardConfig(image_size=size)).eval(),
        Rule(threshold=0.9, hits=2),
        policy,
        Store(folder),
        TASK,
    )


def trained(run: Path, store: Path) -> Parts:
    from w4rl_fast.run import task_of_run

    reward, rule = load_reward(run)
    return load_world(run), reward, rule, load_policy(run), Store(store), task_of_run(run).name


class Clock:
    """A function whose time is added up."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *arguments: Tensor) -> Any:
        started = time.perf_counter()
        out = self.function(*arguments)
        self.seconds += time.perf_counter() - started
        return out


class TimedPolicy(GaussianPolicy):
    """The policy, with its time added up."""

    seconds = 0.0

    def forward(self, frames: Tensor, proprio: Tensor) -> tuple[Tensor, Tensor]:
        started = time.perf_counter()
        out = super().forward(frames, proprio)
        self.seconds += time.perf_counter() - started
        return out


def imagination_of(parts: Parts, **config: Any) -> Imagination:
    world, reward, rule, _, store, task = parts
    starts = load_starts(store, world.config, StartConfig(task=task))
    return Imagination(world, reward, rule, starts, ImaginationConfig(horizon=STEPS, **config))


def measure(parts: Parts, precision: str, slice_size: int) -> dict[str, Any]:
    """Where the time of a rollout goes."""
    imagination = imagination_of(parts, num_worlds=WORLDS_AT_ONCE, precision=precision, slice_size=slice_size)
    step = Clock(imagination.run)
    imagination.run = step
    policy = TimedPolicy(parts[3].config).eval()
    policy.load_state_dict(parts[3].state_dict())
    rollouts = Rollouts(imagination)
    rollouts.rollout(policy, None, 2, 0)
    step.seconds = policy.seconds = 0.0
    started = time.perf_counter()
    rollouts.rollout(policy, None, STEPS, 1)
    total = time.perf_counter() - started
    return {
        "precision": precision,
        "slice_size": slice_size,
        "frames_per_s": WORLDS_AT_ONCE * STEPS / total,
        "ms_a_step": 1e3 * total / STEPS,
        "share": {
            "world step": step.seconds / total,
            "policy": policy.seconds / total,
            "engine": 1 - (step.seconds + policy.seconds) / total,
        },
    }


def one_unit(parts: Parts) -> dict[str, Any]:
    """The rollout with policy, world step and classifier compiled as one, as a ratio to the eager one, and how far off
    its first step is.
    """
    imagination = imagination_of(parts, num_worlds=WORLDS_AT_ONCE, precision="float32", slice_size=32)
    seconds, first = {}, {}
    for name, rollouts in (("eager", Rollouts(imagination)), ("compiled", Rollouts(imagination, compiled=True))):
        started = time.perf_counter()
        rollouts.rollout(parts[3], None, 2, 0)
        warm_up = time.perf_counter() - started
        started = time.perf_counter()
        out = rollouts.rollout(parts[3], None, STEPS, 1)
        seconds[name] = time.perf_counter() - started
        first[name] = out.actions[0].clone(), out.frames[1].clone()
    (acted, seen), (acted_too, seen_too) = first.values()
    return {
        "ratio": seconds["eager"] / seconds["compiled"],
        "frames_per_s": WORLDS_AT_ONCE * STEPS / seconds["compiled"],
        "compile_s": warm_up,
        "grey_level_error": int((seen.int() - seen_too.int()).abs().max()),
        "action_error": float((acted - acted_too).abs().max()),
    }


def plain(parts: Parts) -> tuple[float, Tensor]:
    """Frames a second of the plain loop, and the frames of its first step."""
    world, reward, rule, policy, _, _ = parts
    starts = imagination_of(parts, num_worlds=WORLDS_AT_ONCE, precision="float32", slice_size=32).starts
    loop = Loop(world, reward, rule, policy, starts, WORLDS_AT_ONCE, world.config.sampling.steps)
    started = time.perf_counter()
    first = loop.rollout(STEPS, seed=1)
    return WORLDS_AT_ONCE * STEPS / (time.perf_counter() - started), first


def error_of_first_step(parts: Parts, precision: str, expected: Tensor) -> float:
    """The largest difference to the plain loop, in grey levels."""
    imagination = imagination_of(parts, num_worlds=WORLDS_AT_ONCE, precision=precision, slice_size=32)
    out = Rollouts(imagination).rollout(parts[3], None, 1, 1)
    imagination.reset(1)
    final = imagination.step(out.actions[0])[2]
    return float((final.frames.float() - (expected + 1) * 127.5).abs().max())


def memory() -> None:
    """Print what was said and what was taken by 256 worlds of 64 x 64 pixels and their rollout."""
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        parts = made_up(LARGE["size"], Path(folder) / "store")
        config = ImaginationConfig(num_worlds=LARGE["num_worlds"], horizon=STEPS)
        starts = load_starts(parts[4], parts[0].config, StartConfig(task=TASK))
        before = resident_bytes().total
        plan = memory_plan(parts[0], parts[1], config, steps=STEPS)
        rollouts = Rollouts(Imagination(*parts[:3], starts, config))
        rollouts.rollout(parts[3], None, STEPS, 0)
    said = {"before": before, "planned": before + plan.total, "peak": peak_memory_bytes()}
    print(json.dumps({**said, "planned_more": plan.total, "took_more": said["peak"] - before, "parts": str(plan)}))


def noise() -> dict[str, Any]:
    """The noise of one step beside torch's own generator, which knows neither seeds nor steps."""
    seeds, out = torch.arange(WORLDS_AT_ONCE), torch.empty(WORLDS_AT_ONCE, 3 * 48 * 48)
    generator = torch.Generator().manual_seed(0)
    timings = time_blocks(
        {
            "counter-based": lambda: normal_noise(seeds, seeds, seeds, out.shape[1:], out=out),
            "torch.randn": lambda: torch.randn(out.shape, generator=generator, out=out),
        },
        samples=50,
    )
    return {name: dataclasses.asdict(timing) for name, timing in timings.items()}


def main(arguments: list[str]) -> None:
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        parts = trained(*map(Path, arguments)) if arguments else made_up(48, Path(folder) / "store")
        baseline, first = plain(parts)
        cases = [measure(parts, precision, size) for precision in ("float32", "bfloat16") for size in SLICES]
        errors = {each: error_of_first_step(parts, each, first) for each in ("float32", "bfloat16")}
        unit = one_unit(parts)
    print(f"plain loop, float32        {baseline:8.1f} frames/s")
    for case in cases:
        case["ratio"] = case["frames_per_s"] / baseline
        print(
            f"{case['precision']:9} slices of {case['slice_size']:3} {case['frames_per_s']:8.1f} frames/s"
            f" ({case['ratio']:.2f}x)   engine {100 * case['share']['engine']:.1f} %"
            f"   error {errors[case['precision']]:.0f} grey levels"
        )
    print(
        f"compiled as one, float32   {unit['frames_per_s']:8.1f} frames/s ({unit['ratio']:.2f}x the eager rollout)"
        f"   error {unit['grey_level_error']} grey levels, {unit['action_error']:.0e} in actions"
    )
    told = subprocess.run(
        [sys.executable, "-m", "bench.imagine", "--memory"], stdout=subprocess.PIPE, text=True, check=True
    )
    taken = json.loads(told.stdout.splitlines()[-1])
    print(
        f"{LARGE['num_worlds']} worlds of {LARGE['size']} pixels  {taken['took_more'] / 2**20:8.0f} MB taken,"
        f" {taken['planned_more'] / 2**20:.0f} planned"
    )
    result = {
        "threads": THREADS,
        "trained": bool(arguments),
        "plain_frames_per_s": baseline,
        "cases": cases,
        "grey_level_error_of_a_step": errors,
        "compiled_as_one": unit,
        "noise": noise(),
        "memory": taken,
        "peak_mb": peak_memory_bytes() / 2**20,
        "roofline": roofline(THREADS),
    }
    write_result("imagine", result)


if __name__ == "__main__":
    memory() if sys.argv[1:] == ["--memory"] else main(sys.argv[1:])
