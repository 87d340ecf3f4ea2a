"""A lamp that a hand switches on: a store of it, worlds that know its law or break it, and a run of random weights."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.weights import awake
from w4rl_fast.config import save_config, to_json_dict
from w4rl_fast.data.episode import Episode, EpisodeInfo, Schema
from w4rl_fast.data.store import Store, writing
from w4rl_fast.distill.exam import Exam, ask_others
from w4rl_fast.policy.checkpoint import save_policy
from w4rl_fast.policy.gaussian import GaussianPolicy, PolicyConfig
from w4rl_fast.reward import RewardConfig, RewardModel, Rule, save_reward
from w4rl_fast.reward.train import TrainRewardConfig
from w4rl_fast.run import keep_store, keep_task
from w4rl_fast.tasks import TaskConfig
from w4rl_fast.truth.blend import find_contacts
from w4rl_fast.truth.held_out import held_out
from w4rl_fast.world.checkpoint import save_world
from w4rl_fast.world.config import BackboneConfig, NoiseConfig, SamplingConfig, WorldConfig
from w4rl_fast.world.model import WorldModel
from w4rl_fast.world.train import TrainWorldConfig

SIZE, LENGTH, HISTORY, REACH = 16, 9, 2, 0.01
TASK = TaskConfig(name="test/lamp", image_size=SIZE, horizon=LENGTH - 1)
SCHEMA = Schema(image_size=SIZE, action_low=(-1.0,) * 2, action_high=(1.0,) * 2, proprio_dim=3)
WORLD = WorldConfig(
    image_size=SIZE, action_dim=2, proprio_dim=3, history=HISTORY,
    backbone=BackboneConfig(patch=2, widths=(8, 16), depths=(1, 1), attention=(False, False), condition_dim=32),
    noise=NoiseConfig(sigma_data=0.2, skip=False, offset=0.0), sampling=SamplingConfig(steps=4, sigma_min=0.3),
)  # fmt: skip
TRAINED = TrainWorldConfig(world=WORLD, horizon=4, held_out=0.4)


def draw(hand: torch.Tensor, lamp: torch.Tensor, shade: float = 1.0) -> torch.Tensor:
    """Frames (B, 3, S, S) in [-1, 1] of a hand (B, 3) in metres, 1 cm a pixel, and a lamp (B,) from 0 to 1."""
    frames = torch.full((len(hand), 3, SIZE, SIZE), -0.8)
    for frame, (x, y) in zip(frames, (hand[:, :2] * 100).round().long().clamp(1, SIZE - 2).tolist(), strict=True):
        frame[:, y - 1 : y + 2, x - 1 : x + 2] = shade
    frames[:, :, :4, :4] = -0.8 + 1.6 * lamp[:, None, None, None]
    return ((frames.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def lights(hand: torch.Tensor) -> torch.Tensor:
    return (hand[:, 0] >= 0.09) & (hand[:, 1] >= 0.08)


def record(seed: int) -> Episode:
    """The hand goes to the right; on every second row of episodes high enough to meet the switch."""
    rng = np.random.default_rng(seed)
    actions = np.stack([rng.uniform(0.6, 1, LENGTH), rng.uniform(-0.2, 0.2, LENGTH)], 1).astype(np.float32)
    actions[-1] = 0
    start = np.array([[0.05, 0.086 if seed % 2 else 0.072]])
    place = np.concatenate([start, start + REACH * np.cumsum(actions[:-1], 0)])
    hand = np.concatenate([place, np.zeros((LENGTH, 1))], 1).astype(np.float32)
    success = np.maximum.accumulate(lights(torch.from_numpy(hand)).numpy())
    frames = draw(torch.from_numpy(hand), torch.from_numpy(success).float())
    pixels = ((frames + 1) * 127.5).round().to(torch.uint8).movedim(1, -1).contiguous().numpy()
    info = EpisodeInfo(task=TASK.name, source="policy", seed=seed, succeeded=bool(success.any()))
    return Episode(pixels, actions, hand, success, info)


class LampWorld:
    """A world that knows the law, or breaks it: `gain` of the actions shows, `lamp` makes another lamp of the true
    one, `flicker` is how much of the hand's brightness comes from the noise, and a `frozen` picture never changes.
    """

    def __init__(self, *, gain=1.0, lamp=lambda true: true, flicker=0.0, frozen=False):
        self.config = SimpleNamespace(history=HISTORY)
        self.gain, self.lamp, self.flicker, self.frozen = gain, lamp, flicker, frozen

    def __call__(self, context, noise):
        place = context.proprio[:, -1].clone()
        place[:, :2] += REACH * context.actions[:, -1]
        shown = context.proprio[:, 0] + self.gain * (place - context.proprio[:, 0])
        before = context.frames[:, -1, 0, 0, 0] > 0
        frames = draw(shown, self.lamp((before | lights(place)).float()))
        frames[:, :, 6:] -= self.flicker * noise[:, :1, :1, :1].abs() * (frames[:, :, 6:] > 0)
        return (context.frames[:, -1] if self.frozen else frames), place


class LampReward:
    """Sees the lamp."""

    config = SimpleNamespace(frames=1)

    def __call__(self, frames, _anchor):
        return 20 * frames[:, -1, 0, :4, :4].mean((1, 2))


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Store:
    path = tmp_path_factory.mktemp("distill") / "store"
    with writing(path, SCHEMA, {TASK.name: to_json_dict(TASK)}) as writer:
        for seed in range(40):
            writer.add(record(seed))
    return Store(path)


@pytest.fixture(scope="session")
def lamp_world():
    return LampWorld


@pytest.fixture(scope="session")
def held(store):
    return held_out(store, TRAINED, horizon=LENGTH - 1, episodes=40, start=0)


@pytest.fixture(scope="session")
def contacts(held):
    return find_contacts(held)


@pytest.fixture
def exam(store, held, contacts):
    """An exam whose other actions a given teacher has taken."""

    def make(teacher):
        starts = held_out(store, TRAINED, horizon=5, episodes=12, start=0)
        return Exam(
            held=held, contacts=contacts, others=ask_others(teacher, starts, store, workers=1, seed=0),
            reward=LampReward(), rule=Rule(threshold=0.5, hits=1), shown=(0, 1),
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def teacher() -> WorldModel:
    torch.manual_seed(0)
    return awake(WorldModel(WORLD))


@pytest.fixture
def run(tmp_path, store, teacher):
    return make_run(tmp_path / "run", store, teacher)


def make_run(folder, store, teacher):
    """A run with a world, a classifier and a policy that know nothing: the same wherever it is made."""
    torch.manual_seed(1)
    keep_task(folder, TASK)
    keep_store(folder, store.path)
    save_world(folder / "world", teacher)
    save_config(folder / "world" / "train.json", TRAINED)
    reward = RewardConfig(image_size=SIZE, widths=(8, 8), hidden=8)
    save_reward(folder / "reward", RewardModel(reward), Rule(threshold=0.5, hits=1))
    judged = TrainRewardConfig(reward=reward, horizon=LENGTH - 1, task=TASK.name, held_out=0.4)
    save_config(folder / "reward" / "train.json", judged)
    save_policy(
        folder / "policy",
        GaussianPolicy(PolicyConfig(image_size=SIZE, action_dim=2, proprio_dim=3, widths=(8,), hidden=8)),
    )
    return folder
