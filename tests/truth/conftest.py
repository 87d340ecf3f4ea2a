"""A world that can be written down: a square that the actions move, its simulator, and episodes recorded in it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from w4rl_fast.config import to_json_dict
from w4rl_fast.data.episode import Episode, EpisodeInfo, Schema
from w4rl_fast.data.store import Store, writing
from w4rl_fast.tasks import TaskConfig
from w4rl_fast.tasks.protocol import Observation
from w4rl_fast.truth import replay
from w4rl_fast.world.config import BackboneConfig, WorldConfig
from w4rl_fast.world.train import TrainWorldConfig

SIZE, HISTORY, LENGTH, REACH = 24, 2, 10, 0.04
TASK = TaskConfig(name="test/point", image_size=SIZE, horizon=LENGTH - 1)
SCHEMA = Schema(image_size=SIZE, action_low=(-1.0,) * 4, action_high=(1.0,) * 4, proprio_dim=4)
WORLD = WorldConfig(
    image_size=SIZE, action_dim=4, proprio_dim=4, history=HISTORY,
    backbone=BackboneConfig(patch=2, widths=(8, 16), depths=(1, 1), attention=(False, False), condition_dim=32),
)  # fmt: skip


def draw(hand: np.ndarray) -> np.ndarray:
    """A bright square at the hand (3,), in metres from the corner; height is brightness."""
    frame = np.full((SIZE, SIZE, 3), 30, np.uint8)
    x, y = (hand[:2] * SIZE).round().astype(int).clip(2, SIZE - 3)
    frame[y - 2 : y + 3, x - 2 : x + 3] = 160 + 90 * np.clip(hand[2], 0, 1)
    return frame


class PointTask:
    """Each action moves the hand by REACH; the seed says where it starts; `shift` makes it another simulator."""

    action_low, action_high, proprio_dim = SCHEMA.action_low, SCHEMA.action_high, SCHEMA.proprio_dim

    def __init__(self, config: TaskConfig, shift: float = 0.0) -> None:
        self.config, self.shift = config, shift

    def reset(self, seed: int) -> Observation:
        self.hand = np.random.default_rng(seed).uniform(0.4, 0.6, 3).astype(np.float32) + np.float32(self.shift)
        return self.observe()

    def step(self, action: np.ndarray) -> Observation:
        self.hand = self.hand + np.float32(REACH) * action[:3]
        return self.observe()

    def observe(self) -> Observation:
        return Observation(draw(self.hand), np.append(self.hand, 0).astype(np.float32), False)

    def close(self) -> None:
        pass


class PointWorld:
    """A world that knows the law: its hand moves by `gain` of what it should and by `drift`, and its picture shows it,
    or stays as it was.
    """

    def __init__(self, gain: float = 1.0, drift: float = 0.0, *, shows: bool = True) -> None:
        self.config = SimpleNamespace(history=HISTORY)
        self.gain, self.drift, self.shows = gain, drift, shows

    def __call__(self, context, noise):
        place = context.proprio[:, -1].clone()
        place[:, :3] += self.gain * REACH * context.actions[:, -1, :3] + self.drift
        frames = torch.from_numpy(np.stack([draw(hand) for hand in place[:, :3].numpy()]))
        return frames.movedim(-1, 1) / 127.5 - 1 if self.shows else context.anchor, place


def record(seed: int, source: str) -> Episode:
    task, rng = PointTask(TASK), np.random.default_rng([7, seed])
    actions = rng.uniform(-1, 1, (LENGTH, 4)).astype(np.float32)
    actions[-1] = 0
    seen = [task.reset(seed), *(task.step(action) for action in actions[:-1])]
    info = EpisodeInfo(task=TASK.name, source=source, seed=seed, succeeded=bool(seed % 2))
    frames, proprio = (np.stack([getattr(each, name) for each in seen]) for name in ("frame", "proprio"))
    return Episode(frames, actions, proprio, np.zeros(LENGTH, np.bool_), info)


@pytest.fixture
def in_this_process(monkeypatch):
    """Run the jobs of workers here, in a given simulator."""

    def run(make, jobs, _workers):
        return map(make(), reversed(jobs))

    def use(make_task=PointTask):
        monkeypatch.setattr(replay, "make_task", make_task)
        monkeypatch.setattr(replay, "in_processes", run)

    return use


@pytest.fixture(scope="session")
def point_world():
    return PointWorld


@pytest.fixture(scope="session")
def shifted_task():
    """A simulator of another release: its starts lie elsewhere."""
    return lambda config: PointTask(config, shift=0.02)


@pytest.fixture(scope="session")
def point_config() -> TrainWorldConfig:
    return TrainWorldConfig(world=WORLD, horizon=5, held_out=0.5)


@pytest.fixture(scope="session")
def point_store(tmp_path_factory) -> Store:
    """Forty episodes of three sources, many of one and few of another."""
    path = tmp_path_factory.mktemp("truth") / "store"
    with writing(path, SCHEMA, {TASK.name: to_json_dict(TASK)}) as writer:
        for seed in range(40):
            writer.add(record(seed, "policy" if seed < 24 else "noisy" if seed < 34 else "random"))
    return Store(path)
