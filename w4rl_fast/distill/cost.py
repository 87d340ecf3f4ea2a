"""What a frame of a world costs, beside other worlds in the same process."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from w4rl_fast.data.windows import Batch
from w4rl_fast.imagine.engine import dtype_of
from w4rl_fast.imagine.step import WorldStep
from w4rl_fast.measure import time_blocks
from w4rl_fast.reward import RewardModel
from w4rl_fast.world.losses import context_of
from w4rl_fast.world.model import Context, WorldModel

WARM_UP, SAMPLES = 2, 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Of one frame: `gflop` of the world, and frames a second of its whole step, classifier included, for `batch`
    worlds at once; `share` is the time of a frame as a share of the first world's.
    """

    gflop: float
    frames_per_s: float
    median_s: float
    p99_s: float
    samples: int
    batch: int
    precision: str
    share: float


@torch.no_grad()
def measure_costs(worlds: Sequence[WorldModel], reward: RewardModel, batch: Batch) -> list[Cost]:
    """Time the steps of all worlds in turns, on the present of the same windows; as eager modules."""
    precision = dtype_of("auto", torch.device("cpu"))
    context = context_of(batch, worlds[0].config.history)
    noise = torch.randn(context.anchor.shape, generator=torch.Generator().manual_seed(0))
    calls = {
        str(number): functools.partial(
            WorldStep(world, reward, dtype=precision), *context, world.head.look(context.anchor), noise
        )
        for number, world in enumerate(worlds)
    }
    timings = list(time_blocks(calls, warmup=WARM_UP, samples=SAMPLES).values())
    return [
        Cost(
            gflop=gflop(world, context),
            frames_per_s=len(noise) / timing.median_s,
            median_s=timing.median_s,
            p99_s=timing.p99_s,
            samples=timing.samples,
            batch=len(noise),
            precision=str(precision).removeprefix("torch."),
            share=timing.median_s / timings[0].median_s,
        )
        for world, timing in zip(worlds, timings, strict=True)
    ]


@torch.no_grad()
def gflop(world: WorldModel, context: Context, steps: int | None = None) -> float:
    """Of one frame: every step of the network, by default its own, and the vector head."""
    one = Context(*(part[:1] for part in context))
    with FlopCounterMode(display=False) as counter:
        world(one, torch.zeros_like(one.anchor), levels=world.levels_in(steps))
    return float(counter.get_total_flops() / 1e9)
