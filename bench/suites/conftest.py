"""Suites of pytest-benchmark: a `tiny` world of random weights, and results that are compared on one machine only."""

import pytest
import torch

from bench.denoise import make
from w4rl_fast.imagine.starts import Starts
from w4rl_fast.imagine.step import WorldStep
from w4rl_fast.measure import environment_card
from w4rl_fast.policy.gaussian import GaussianPolicy, PolicyConfig
from w4rl_fast.reward.config import RewardConfig
from w4rl_fast.reward.model import RewardModel
from w4rl_fast.speed.stored import SAME

CARD = (*SAME, "torch_threads", "packages")


def pytest_sessionstart() -> None:
    torch.set_num_threads(1)


def pytest_benchmark_update_machine_info(machine_info: dict[str, object]) -> None:
    """What a reader needs to judge a figure, and nothing that names the machine or its user."""
    card = environment_card()
    machine_info.clear()
    machine_info.update({name: card.get(name) for name in CARD})


def pytest_benchmark_compare_machine_info(machine_info: dict[str, object], compared_benchmark: dict) -> None:
    """Speeds of two machines tell nothing."""
    before = compared_benchmark["machine_info"]
    others = [name for name in CARD[:-1] if before.get(name) != machine_info.get(name)]
    if others:
        said = ", ".join(f"{name} {before.get(name)} for {machine_info.get(name)}" for name in others)
        raise pytest.UsageError(f"the stored result is of another machine: {said}. Measure it here first")


@pytest.fixture(scope="session")
def world():
    torch.manual_seed(0)
    return make("tiny", torch.float32)


@pytest.fixture(scope="session")
def reward(world):
    torch.manual_seed(1)
    return RewardModel(RewardConfig(image_size=world.config.image_size, network="small")).eval()


@pytest.fixture(scope="session")
def policy(world):
    of = world.config
    torch.manual_seed(2)
    return GaussianPolicy(
        PolicyConfig(image_size=of.image_size, action_dim=of.action_dim, proprio_dim=of.proprio_dim)
    ).eval()


@pytest.fixture(scope="session")
def starts(world):
    """Sixteen moments of random pictures, that is enough for speed."""
    of, count = world.config, 16
    torch.manual_seed(3)
    return Starts(
        pixels=torch.randint(256, (count, 3, of.image_size, of.image_size), dtype=torch.uint8),
        rows=torch.arange(count)[:, None].expand(-1, of.history).contiguous(),
        anchors=torch.arange(count),
        proprio=torch.randn(count, of.history, of.proprio_dim) / 10,
        actions=torch.zeros(count, of.history, of.action_dim),
    )


@pytest.fixture(scope="session")
def step(world, reward):
    return WorldStep(world, reward, sampling_steps=1)


@pytest.fixture(scope="session")
def rows(world, starts):
    """Sixteen rows of what a world step takes, by name."""
    frames = starts.pixels[starts.rows].float() / 127.5 - 1
    anchor = starts.pixels[starts.anchors].float() / 127.5 - 1
    with torch.no_grad():
        scene = world.head.look(anchor)
    return {
        "frames": frames, "proprio": starts.proprio, "actions": torch.rand_like(starts.actions) * 2 - 1,
        "anchor": anchor, "scene": scene, "noise": torch.randn_like(anchor),
    }  # fmt: skip
