"""Who moves the robot while episodes are recorded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from w4rl_fast.tasks.protocol import Observation, Task, TaskConfig, Vector

LONGEST_HOLD = 3


class Actor(Protocol):
    """Chooses actions; `begin` is called once per episode, after the reset."""

    def begin(self, task: Task, rng: np.random.Generator) -> None: ...

    def act(self, observation: Observation) -> Vector: ...


ActorFactory = Callable[[TaskConfig], Actor]


class Expert:
    """The task's scripted expert."""

    def begin(self, task: Task, rng: np.random.Generator) -> None:
        self._act = task.expert()

    def act(self, observation: Observation) -> Vector:
        return self._act()


@dataclass(slots=True)
class Disturbed:
    """Another actor with Gaussian noise and a constant offset, both drawn anew for every episode.

    `noise` is the largest deviation an episode may have (each draws its own, uniformly from zero); `bias` is the
    deviation of the offset. A biased actor misses by a little: the near-misses a success classifier has to learn.
    """

    actor: Actor
    noise: float
    bias: float
    _rng: np.random.Generator | None = None
    _noise: float = 0.0
    _offset: Vector | None = None

    def begin(self, task: Task, rng: np.random.Generator) -> None:
        self.actor.begin(task, rng)
        self._rng = rng
        self._noise = rng.uniform(0.0, self.noise)
        self._offset = rng.normal(0.0, self.bias, len(task.action_low)).astype(np.float32)

    def act(self, observation: Observation) -> Vector:
        assert self._rng is not None
        assert self._offset is not None
        action = self.actor.act(observation)
        noise = self._rng.normal(0.0, self._noise, action.shape).astype(np.float32)
        return np.asarray(np.clip(action + self._offset + noise, -1.0, 1.0), dtype=np.float32)


class Player:
    """Somebody who plays with the things of the task."""

    def begin(self, task: Task, rng: np.random.Generator) -> None:
        self._act = task.player(rng)

    def act(self, observation: Observation) -> Vector:
        return self._act()


class Random:
    """Uniform actions, each held for one to three steps."""

    def begin(self, task: Task, rng: np.random.Generator) -> None:
        self._rng, self._dimensions, self._left = rng, len(task.action_low), 0

    def act(self, observation: Observation) -> Vector:
        if not self._left:
            self._left = int(self._rng.integers(1, LONGEST_HOLD + 1))
            self._action = self._rng.uniform(-1.0, 1.0, self._dimensions).astype(np.float32)
        self._left -= 1
        return self._action
