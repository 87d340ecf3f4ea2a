"""An iteration of PPO as in the settings of `PPOConfig`: seconds of its update, and its share beside the imagining.

The baseline is the update in float32; beside it the one in bfloat16, which `auto` chooses where the processor has it.
Both learn from one rollout of 96 worlds and 18 steps at 48x48, in which every action along the first dimension is
rewarded, and nothing stops them: 12 updates of the policy, 12 of the value network, and what the clone would have done.
Beside the speed: the error of the first gradients, the divergence that rounding alone brings before anything was
learnt, and after one iteration how far the two policies are from each other, and how far they came.
"""

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from bench.imagine import imagination_of, made_up
from w4rl_fast.imagine import Rollouts
from w4rl_fast.imagine.rollout import Rollout
from w4rl_fast.measure import peak_memory_bytes, roofline, time_blocks, write_result
from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.refine import PPO, PPOConfig, ValueNetwork
from w4rl_fast.refine.objective import divergence
from w4rl_fast.refine.samples import pictures

SIZE, THREADS, SAMPLES = 48, 1, 5
PRECISIONS: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
CONFIG = PPOConfig(value_warm_up=0, iterations=1000, target_kl=1e9)


class Once:
    """A rollout that was imagined before."""

    def __init__(self, rollout: Rollout) -> None:
        self.kept = rollout

    def rollout(self, policy: GaussianPolicy, value: ValueNetwork, steps: int, seed: int) -> Rollout:
        return self.kept


def imagined(folder: Path) -> tuple[GaussianPolicy, Rollout, float]:
    """A policy, a rollout of it in a world of random weights, and the median seconds of imagining one."""
    parts, seconds = made_up(SIZE, folder), []
    policy, rollouts = parts[3], Rollouts(imagination_of(parts, num_worlds=CONFIG.worlds, sampling_steps=1))
    value = ValueNetwork.beside(policy).eval()
    for seed in range(1 + SAMPLES):
        started = time.perf_counter()
        rollout = rollouts.rollout(policy, value, CONFIG.steps, seed)
        seconds.append(time.perf_counter() - started)
    rewards = (rollout.actions[..., 0] > 0).float()
    return policy, dataclasses.replace(rollout, rewards=rewards), statistics.median(seconds[1:])


def first_gradients(ppo: PPO, rollout: Rollout) -> tuple[dict[str, Tensor], float]:
    """Of policy and value network on the first moments, and the divergence there, which only rounding can bring."""
    count = CONFIG.worlds * CONFIG.steps // CONFIG.minibatches
    samples = ppo._samples(rollout, rollout.rewards - rollout.values, rollout.rewards)
    part = samples.at(torch.arange(count))
    frames = pictures(part.frames)
    loss, figures = ppo._policy_loss(part, frames)
    gradients = {}
    for name, learner, each in (("policy", ppo.actor, loss), ("value", ppo.critic, ppo._value_loss(part, frames))):
        learner.differentiate(each)
        gradients[name] = torch.cat([p.grad.flatten() for p in learner.named.values() if p.grad is not None])
    return gradients, figures["kl"]


@torch.no_grad()
def apart(one: GaussianPolicy, other: GaussianPolicy, rollout: Rollout) -> float:
    """Mean divergence between two policies where a rollout led, both computed in float32."""
    seen = pictures(rollout.frames.flatten(0, 1)), rollout.proprio.flatten(0, 1)
    return float(divergence(*one(*seen), *other(*seen)).mean())


def parity(ppos: dict[str, PPO], rollout: Rollout) -> dict[str, Any]:
    """What rounding changes: at once, and after an iteration, which is taken here."""
    wide, narrow = (first_gradients(ppo, rollout) for ppo in ppos.values())
    figures = {
        f"{name}_gradient_error": float((narrow[0][name] - wide[0][name]).norm() / wide[0][name].norm())
        for name in wide[0]
    }
    for ppo in ppos.values():
        ppo.iterate()
    one, other = (ppo.policy for ppo in ppos.values())
    clone = ppos["float32"].clone
    return {
        **figures,
        "divergence_at_first": {"float32": wide[1], "bfloat16": narrow[1]},
        "divergence_of_the_two": apart(one, other, rollout),
        "divergence_from_the_first": {name: apart(ppo.policy, clone, rollout) for name, ppo in ppos.items()},
    }


def main() -> None:
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        policy, rollout, imagining = imagined(Path(folder) / "store")
        ppos: dict[str, PPO] = {
            each: PPO(policy, Once(rollout), dataclasses.replace(CONFIG, precision=each), Path(folder) / each)
            for each in PRECISIONS
        }
        agreement = parity(ppos, rollout)
        timings = time_blocks({name: ppo.iterate for name, ppo in ppos.items()}, warmup=1, samples=SAMPLES)
    for name, timing in timings.items():
        ratio = timings["float32"].median_s / timing.median_s
        share = timing.median_s / (timing.median_s + imagining)
        print(f"{name:9} {timing.median_s:6.2f} s an update, x{ratio:.2f}, {100 * share:.0f} % of an iteration")
    result = {
        "threads": THREADS,
        "moments": CONFIG.worlds * CONFIG.steps,
        "imagining_s": imagining,
        "update": timings,
        "ratio": timings["float32"].median_s / timings["bfloat16"].median_s,
        "share": {name: each.median_s / (each.median_s + imagining) for name, each in timings.items()},
        "parity": agreement,
        "peak_mb": peak_memory_bytes() / 2**20,
        "roofline": roofline(THREADS),
    }
    write_result("refine", result)


if __name__ == "__main__":
    main()
