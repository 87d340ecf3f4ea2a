"""A small store, a tiny world and classifier of random weights that all matter, and worlds whose rule is known."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.weights import awake
from w4rl_fast.config import save_config
from w4rl_fast.data.episode import Episode, EpisodeInfo, Schema
from w4rl_fast.data.store import Store, writing
from w4rl_fast.imagine import Imagination, ImaginationConfig, StartConfig, load_starts
from w4rl_fast.policy import GaussianPolicy
from w4rl_fast.policy.checkpoint import save_policy
from w4rl_fast.policy.gaussian import PolicyConfig
from w4rl_fast.reward import RewardConfig, RewardModel, Rule, save_reward
from w4rl_fast.tasks import TaskConfig
from w4rl_fast.world.checkpoint import save_world
from w4rl_fast.world.config import BackboneConfig, SamplingConfig, WorldConfig
from w4rl_fast.world.model import WorldModel
from w4rl_fast.world.train import TrainWorldConfig

TASK = "test/square"
SCHEMA = Schema(image_size=16, action_low=(-1.0,) * 2, action_high=(1.0,) * 2, proprio_dim=2)
BACKBONE = BackboneConfig(patch=2, widths=(8, 16), depths=(1, 1), attention=(False, False), condition_dim=32)
WORLD = WorldConfig(
    image_size=16, action_dim=2, proprio_dim=2, history=3, backbone=BACKBONE, sampling=SamplingConfig(steps=2)
)


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Store:
    """Forty episodes of nine observations; a square wanders from a place of its own, and in every fourth it arrives."""
    path = tmp_path_factory.mktemp("imagine") / "store"
    with writing(path, SCHEMA, {TASK: {}}) as writer:
        for seed in range(40):
            rng = np.random.default_rng(seed)
            actions = rng.uniform(-1, 1, (9, 2)).astype(np.float32)
            actions[-1] = 0
            place = np.concatenate([rng.uniform(4, 11, (1, 2)), np.zeros((8, 2))])
            place[1:] = (place[0] + np.cumsum(actions[:-1], 0)).clip(2, 13)
            frames = rng.integers(0, 40, (9, 16, 16, 3), np.uint8)
            for frame, (x, y) in zip(frames, place.astype(int), strict=True):
                frame[y - 2 : y + 2, x - 2 : x + 2] = 255
            success = np.arange(9) >= (7 if seed % 4 == 0 else 9)
            info = EpisodeInfo(task=TASK, source="random", seed=seed, succeeded=bool(seed % 4 == 0))
            writer.add(Episode(frames, actions, (place / 16).astype(np.float32), success, info))
    return Store(path)


@pytest.fixture(scope="session")
def world() -> WorldModel:
    torch.manual_seed(0)
    return awake(WorldModel(WORLD))


@pytest.fixture(scope="session")
def reward() -> RewardModel:
    """A classifier that says yes now and then."""
    torch.manual_seed(1)
    model = awake(RewardModel(RewardConfig(image_size=16, widths=(8, 8), hidden=8)))
    model.scale.fill_(12.0)
    model.shift.fill_(2.0)
    return model


@pytest.fixture(scope="session")
def starts(store, world):
    return load_starts(store, world.config, StartConfig(task=TASK))


@pytest.fixture(scope="session")
def policy() -> GaussianPolicy:
    torch.manual_seed(2)
    return awake(GaussianPolicy(PolicyConfig(image_size=16, action_dim=2, proprio_dim=2, widths=(8, 8), hidden=16)))


@pytest.fixture(scope="session")
def imagine(world, reward, starts):
    """Imagined worlds in float32 and slices of four; whatever else is asked for by name."""

    def make(
        num_worlds=6,
        *,
        engine="eager",
        rule=None,
        kind=Imagination,
        starts=starts,
        world=world,
        reward=reward,
        **config,
    ):
        settings = {"slice_size": 4, "precision": "float32", "horizon": 5, **config}
        return kind(
            world, reward, rule or Rule(threshold=0.6, hits=1), starts,
            ImaginationConfig(num_worlds=num_worlds, **settings), engine=engine,
        )  # fmt: skip

    return make


def known_step(_frames, proprio, actions, _anchor, _scene, _noise):
    """A world anyone can compute: the hand moves by a quarter of the action, the picture shows how bright it stands,
    and a hand that has gone far to the right has succeeded.
    """
    place = proprio[:, -1] + actions[:, -1] / 4
    return picture_of(place), place, (place[:, 0] - 0.9) * 100


def picture_of(place):
    """Pictures (B, 3, 16, 16) of whole bytes, one for each place (B, 2)."""
    level = (place.sum(1) * 40 + 100).round().clamp(0, 255)
    return (level / 127.5 - 1)[:, None, None, None].expand(-1, 3, 16, 16).clone()


@pytest.fixture(scope="session")
def known():
    """The known step, its pictures as bytes, and whether a place has succeeded."""

    @dataclasses.dataclass(frozen=True)
    class Known:
        step = staticmethod(known_step)

        @staticmethod
        def bytes_of(place):
            return ((picture_of(place) + 1) * 127.5).round().to(torch.uint8)

        @staticmethod
        def succeeded(place):
            return ((place[:, 0] - 0.9) * 100).sigmoid() >= 0.6

    return Known()


@pytest.fixture
def actions():
    """Actions (steps, B, 2) that go to the right more often than not."""

    def make(steps, count, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(steps, count, 2, generator=generator) * 1.6 - 0.6

    return make


def make_run(folder, world, reward, policy):
    """A run of these parts, without a store of its own."""
    save_config(folder / "task.json", TaskConfig(name=TASK, image_size=16, horizon=5))
    save_world(folder / "world", world)
    save_config(folder / "world" / "train.json", TrainWorldConfig(world=world.config, horizon=7))
    save_reward(folder / "reward", reward, Rule(threshold=0.6, hits=1))
    save_policy(folder / "policy", policy)
    return folder


@pytest.fixture
def run(tmp_path, world, reward, policy):
    return make_run(tmp_path, world, reward, policy)
