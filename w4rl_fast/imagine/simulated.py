"""Real simulators in the place of the dream: the same worlds to a policy, and the truth to compare with.

Shapes: B worlds, A action and P proprioception dimensions, S x S pixels.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from w4rl_fast.data.record import TUNING_SEED
from w4rl_fast.errors import UserError
from w4rl_fast.imagine.starts import START_STREAM, Starts
from w4rl_fast.imagine.worlds import ImaginationConfig, Worlds
from w4rl_fast.reward.config import Rule
from w4rl_fast.tasks import TaskConfig, make_task
from w4rl_fast.tasks.protocol import Observation as Seen
from w4rl_fast.tasks.protocol import Task
from w4rl_kernels.noise import random_bits

SURE = 20.0
"""The logit of what a simulator says itself."""


class TaskSizes(NamedTuple):
    """What a task looks like to a policy that sees `history` moments of it."""

    image_size: int
    action_dim: int
    proprio_dim: int
    history: int


class Simulated(Worlds):
    """B real simulators in this process, which step one after another: what counts here is truth and not speed.

    An episode's seed is drawn from its world's seed and its number, and is never one that policies are tuned or judged
    on. With `first_seed` it is that number plus the world's seed instead: what a judge asks for.
    """

    def __init__(
        self, task: TaskConfig, config: ImaginationConfig, *, history: int = 4, first_seed: int | None = None
    ) -> None:
        if task.renderer != "ray":
            raise UserError(
                f"{config.num_worlds} simulators drawn by {task.renderer}",
                rule="a process has one OpenGL context",
                remedy="Use the ray renderer",
            )
        count = config.num_worlds
        self.tasks: list[Task] = [make_task(task) for _ in range(count)]
        one = self.tasks[0]
        self.first_seed = first_seed
        self.real: list[Seen] = []
        sizes = TaskSizes(task.image_size, len(one.action_low), one.proprio_dim, history)
        pixels = (3, task.image_size, task.image_size)
        here = torch.arange(count)
        starts = Starts(
            pixels=torch.zeros(count, *pixels, dtype=torch.uint8),
            rows=here[:, None].repeat(1, history),
            anchors=here,
            proprio=torch.zeros(count, history, one.proprio_dim),
            actions=torch.zeros(count, history, len(one.action_low)),
        )
        alone = dataclasses.replace(config, slice_size=count)
        super().__init__(sizes, Rule(threshold=0.5, hits=1), starts, torch.zeros(count, 0), alone)

    @property
    def landmarks(self) -> Tensor:
        """Where the things of every task are (B, K)."""
        return torch.from_numpy(np.stack([seen.landmarks for seen in self.real if seen.landmarks is not None]))

    @property
    def scores(self) -> Tensor:
        """How much of every task is done at this moment (B,)."""
        return torch.tensor([task.score for task in self.tasks])

    @property
    def succeeded(self) -> Tensor:
        """Every task's own verdict on its episode so far (B,) bool."""
        return torch.tensor([task.succeeded for task in self.tasks])

    def close(self) -> None:
        for task in self.tasks:
            task.close()

    def _lead(self, part: slice) -> tuple[Tensor, Tensor]:
        actions = self.acting[part].numpy()
        self.real = [task.step(action) for task, action in zip(self.tasks, actions, strict=True)]
        frames = torch.from_numpy(np.stack([seen.frame for seen in self.real])).movedim(-1, 1)
        proprio = torch.from_numpy(np.stack([seen.proprio for seen in self.real]))
        won = torch.tensor([seen.success for seen in self.real])
        self.land(part, frames.float().div(127.5).sub(1))
        return proprio, torch.where(won, SURE, -SURE)

    def _starts_of(self, mask: Tensor) -> Tensor:
        """Begin the episodes of the mask, and say where their first moments are."""
        seeds = self._seeds().tolist()
        for world in mask.nonzero()[:, 0].tolist():
            seen = self.tasks[world].reset(seeds[world])
            self.real[world : world + 1] = [seen]  # the first reset is of all of them, one after another
            self.starts.pixels[world] = torch.from_numpy(seen.frame).movedim(-1, 0)
            self.starts.proprio[world] = torch.from_numpy(seen.proprio)
        return torch.arange(len(self.tasks))

    def _seeds(self) -> Tensor:
        """The task's seed of every world's episode (B,)."""
        if self.first_seed is not None:
            return self.seeds + self.first_seed
        words = random_bits(self.seeds, self.episodes, torch.zeros_like(self.seeds), 1, stream=START_STREAM)[:, 0]
        return words % TUNING_SEED
