"""Stretches of real life to try a surrogate on: where they began, what was done, what was seen.

Shapes: N stretches, S steps, A action dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from w4rl_fast.data.actors import Disturbed
from w4rl_fast.data.episode import Episode
from w4rl_fast.data.record import TUNING_SEED, TUNING_SEEDS, Job, record_episode
from w4rl_fast.data.windows import Batch, Windows
from w4rl_fast.errors import UserError
from w4rl_fast.policy.actor import PolicyActor
from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.surrogate.reward import Moment, Paid
from w4rl_fast.tasks import TaskConfig, make_task
from w4rl_fast.tasks.protocol import Observation


@dataclass(frozen=True, slots=True)
class Stretches:
    """Stretch i is the `steps` actions of `episodes[i]` from row `rows[i]` on."""

    episodes: Sequence[Episode]
    rows: Sequence[int]
    steps: int

    def __len__(self) -> int:
        return len(self.episodes)

    @property
    def actions(self) -> Tensor:
        """(N, S, A)."""
        return torch.from_numpy(np.stack([e.actions[p : p + self.steps] for e, p in self._pairs]))

    @property
    def _pairs(self) -> list[tuple[Episode, int]]:
        return list(zip(self.episodes, self.rows, strict=True))

    def batch(self, history: int) -> Batch:
        """Windows of `history` observations up to the beginning of each stretch, and of all that follow."""
        spans = [np.arange(p + 1 - history, p + self.steps + 1) for p in self.rows]
        rows = [np.maximum(span, 0) for span in spans]
        frames = np.stack([e.frames[r] for e, r in zip(self.episodes, rows, strict=True)])
        first = np.stack([episode.frames[0] for episode in self.episodes])
        marks = [e.landmarks[r] for e, r in zip(self.episodes, rows, strict=True) if e.landmarks is not None]
        real = np.stack([span >= 0 for span in spans])
        acted = np.stack([e.actions[r[:-1]] for e, r in zip(self.episodes, rows, strict=True)])
        return Batch(
            frames=pictures(frames),
            anchor=pictures(first),
            actions=torch.from_numpy(acted * real[:, :-1, None]),
            proprio=torch.from_numpy(np.stack([e.proprio[r] for e, r in zip(self.episodes, rows, strict=True)])),
            success=torch.from_numpy(np.stack([e.success[r] for e, r in zip(self.episodes, rows, strict=True)])),
            real=torch.from_numpy(real),
            episode=np.arange(len(self)),
            row=np.asarray(self.rows),
            landmarks=torch.from_numpy(np.stack(marks)) if len(marks) == len(self) else None,
        )


def pictures(frames: np.ndarray) -> Tensor:
    """Frames (..., S, S, 3) uint8 as networks see them: (..., 3, S, S) in [-1, 1]."""
    return torch.from_numpy(frames).movedim(-1, -3).float().div(127.5).sub(1.0)


def recorded(windows: Windows, task: str, count: int, steps: int, seed: int) -> Stretches:
    """Stretches of held-out episodes of a task, each from another one, beginning anywhere."""
    store, rng = windows.store, np.random.default_rng(seed)
    fit = [
        int(e) for e in windows.episodes
        if store.infos[e].task == task and store.infos[e].source != "imported" and store.lengths[e] > steps
    ]  # fmt: skip
    if not fit:
        raise UserError(
            f"stretches of {steps} steps of {task}",
            rule=f"no held-out episode of {store.path} that a simulator knows is that long",
            remedy="Ask for fewer --steps, or collect more",
        )
    chosen = rng.permutation(fit)[:count]
    rows = [int(rng.integers(0, store.lengths[e] - steps)) for e in chosen]
    return Stretches([store.read(int(e)) for e in chosen], rows, steps)


def played(task: TaskConfig, policy: GaussianPolicy, count: int, steps: int, seed: int, noise: float) -> Stretches:
    """Stretches of what a disturbed policy does in the simulator, on seeds that nobody is judged on."""
    simulator, actor = make_task(task), Disturbed(PolicyActor(policy), noise, 0.0)
    rng, episodes = np.random.default_rng(seed), []
    for number in range(count):
        job = Job(task=task.name, source="policy", seed=TUNING_SEED + ((seed << 12) + number) % TUNING_SEEDS)
        episodes.append(record_episode(simulator, actor, job))
    simulator.close()
    return Stretches(episodes, [int(rng.integers(0, task.horizon + 1 - steps)) for _ in episodes], steps)


class Simulator:
    """The task's own simulator, put where stretches begin again and again."""

    def __init__(self, task: TaskConfig, stretches: Stretches, paid: Paid) -> None:
        self.stretches, self.paid, self.task = stretches, paid, make_task(task)

    def __call__(self, actions: Tensor) -> Tensor:
        """Rewards (N, S) of taking actions (N, S, A) from where the stretches begin."""
        rows = zip(self.stretches.episodes, self.stretches.rows, actions.numpy(), strict=True)
        return torch.stack([self._rewards(*row) for row in rows])

    def _rewards(self, episode: Episode, begin: int, actions: np.ndarray) -> Tensor:
        first = seen = self.task.reset(episode.info.seed)
        for action in episode.actions[:begin]:
            seen = self.task.step(action)
        lived = [seen, *(self.task.step(action) for action in actions)]
        return self.paid(moments(first, lived))


def moments(first: Observation, lived: Sequence[Observation]) -> Moment:
    """All but the first of consecutive observations."""
    frames = pictures(np.stack([seen.frame for seen in lived]))
    marks = [seen.landmarks for seen in lived[1:] if seen.landmarks is not None]
    return Moment(
        torch.stack([frames[:-1], frames[1:]], 1),
        pictures(first.frame[None]).expand(len(lived) - 1, -1, -1, -1),
        torch.from_numpy(np.stack([seen.proprio for seen in lived[1:]])),
        torch.from_numpy(np.stack(marks)) if marks else None,
    )
