"""How much memory an imagination takes, told before it is taken."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from w4rl_fast.errors import UserError
from w4rl_fast.measure import memory_bytes
from w4rl_fast.progress import format_bytes
from w4rl_fast.reward.model import RewardModel
from w4rl_fast.world.model import WorldModel

if TYPE_CHECKING:
    from w4rl_fast.imagine.starts import Starts
    from w4rl_fast.imagine.worlds import ImaginationConfig

ACTIVATIONS_PER_POSITION = 24
"""Activations alive at once in a step, in units of the first width."""
PICTURES = 6
"""Copies of everything a world sees, in float32, that a step makes beside them."""
SEEN = 7
"""Copies of what a policy sees, in float32, that it and a value network make of all worlds at once."""
LIBRARIES = 150 << 20
"""What torch, numba and their libraries take up to the end of the first step: code, compiled kernels, scratch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPlan:
    """Bytes, beside what the process holds already: frozen copies of the weights, rings and buffers of the worlds,
    a rollout's storage and what its policy makes of it, activations of a slice, and the libraries' own.
    """

    weights: int
    worlds: int
    rollout: int
    activations: int
    libraries: int = LIBRARIES

    @property
    def total(self) -> int:
        return self.weights + self.worlds + self.rollout + self.activations + self.libraries

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {format_bytes(getattr(self, name))}" for name in self.__slots__)
        return f"{format_bytes(self.total)} ({parts})"


def memory_plan(
    world: WorldModel, reward: RewardModel, config: "ImaginationConfig", *, steps: int = 0, policy_history: int = 1
) -> MemoryPlan:
    """What `Imagination` will take with this config, and a rollout of `steps` steps beside it."""
    of, slice_size = world.config, config.slice_size
    frame, history = 3 * of.image_size**2, of.history
    rows = -(-config.num_worlds // slice_size) * slice_size
    vectors = 4 * (history * (of.proprio_dim + of.action_dim) + 64)
    scratch = history + 1  # the starts that a reset reads
    a_world = frame * (history + 2 + scratch) + vectors  # rings, anchor, newest frame
    a_slice = 4 * frame * (history + 2)  # what the step takes, and noise
    network = of.network
    positions = (of.image_size // network.patch) ** 2
    a_step = 4 * (PICTURES * frame * (history + 2) + ACTIVATIONS_PER_POSITION * positions * network.width)
    a_moment = policy_history * (frame + 4 * of.proprio_dim) + 4 * (of.action_dim + 5) + 2
    a_look = policy_history * frame * (1 + 4 * SEEN) if steps else 0
    weights = sum(tensor.nbytes for model in (world, reward) for tensor in model.state_dict().values())
    return MemoryPlan(
        weights=weights,
        worlds=rows * a_world + slice_size * a_slice,
        rollout=config.num_worlds * (steps * a_moment + a_look),
        activations=slice_size * a_step,
    )


def fits(memory: int, world: WorldModel, reward: RewardModel, config: "ImaginationConfig", *, steps: int = 0) -> int:
    """How many worlds go into this many bytes: whole slices, 0 if not even one does."""

    def total(slices: int) -> int:
        worlds = dataclasses.replace(config, num_worlds=slices * config.slice_size)
        return memory_plan(world, reward, worlds, steps=steps).total

    a_slice = total(2) - total(1)
    return max(0, 1 + (memory - total(1)) // a_slice) * config.slice_size


def require_memory(world: WorldModel, reward: RewardModel, starts: "Starts", config: "ImaginationConfig") -> None:
    """Refuse more worlds than there is memory for, and say how many there is."""
    free = available_bytes(starts.pixels.device)
    needed = memory_plan(world, reward, config).total
    if needed > free:
        number = fits(free, world, reward, config)
        remedy = f"Use num_worlds={number} or fewer" if number else "Use a smaller slice_size, or free some memory"
        raise UserError(
            f"num_worlds={config.num_worlds}, which takes {format_bytes(needed)}",
            rule=f"{format_bytes(free)} of memory are free",
            remedy=remedy,
        )


def available_bytes(device: torch.device) -> int:
    """Memory that may still be taken on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else memory_bytes()
