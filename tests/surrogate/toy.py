"""Worlds that follow a formula, surrogates that know one, and a store in which the landmark is the square."""

from dataclasses import dataclass

import numpy as np
import torch

from tests.weights import awake
from w4rl_fast.data.episode import Episode, EpisodeInfo, Schema
from w4rl_fast.data.store import Store, writing
from w4rl_fast.fit import FitConfig
from w4rl_fast.imagine.simulated import TaskSizes
from w4rl_fast.imagine.starts import Starts
from w4rl_fast.imagine.worlds import ImaginationConfig, Worlds
from w4rl_fast.refine.value import ValueNetwork
from w4rl_fast.reward.config import Rule
from w4rl_fast.surrogate.config import SurrogateConfig
from w4rl_fast.surrogate.model import Predicted, Surrogate
from w4rl_fast.surrogate.train import TrainSurrogateConfig

SIZE = 16
TINY = {
    "image_size": SIZE, "action_dim": 2, "proprio_dim": 2, "widths": (4, 8), "points": 0, "hidden": 16, "cell": 8,
    "body": 16,
}  # fmt: skip
TASK = "toy/square"
SCHEMA = Schema(image_size=SIZE, action_low=(-1.0,) * 2, action_high=(1.0,) * 2, proprio_dim=2, landmark_dim=2)


class Written(Worlds):
    """Worlds whose proprioception is a state (D,) that `flow` leads on; pictures say nothing.

    World i begins its episode e at place i + e of `begin` (N, D), or, `drawn`, wherever its seed says. It has succeeded
    once the first number of the state is above `won`, or after `lasts` steps. `noise` is added to each new state.
    """

    def __init__(
        self, flow, begin, *, count=None, acts=2, horizon=1000, won=np.inf, lasts=np.inf, noise=0.0, drawn=False,
        history=1,
    ) -> None:  # fmt: skip
        count = count or len(begin)
        self.flow, self.won_at, self.lasts, self.strength, self.drawn = flow, won, lasts, noise, drawn
        self.given = []
        zeros = torch.zeros(len(begin), dtype=torch.int64)
        starts = Starts(
            pixels=torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8), rows=zeros[:, None].repeat(1, history),
            anchors=zeros, proprio=begin[:, None].repeat(1, history, 1), actions=torch.zeros(len(begin), history, acts),
        )  # fmt: skip
        config = ImaginationConfig(num_worlds=count, horizon=horizon, slice_size=count)
        sizes = TaskSizes(SIZE, acts, begin.shape[1], history)
        super().__init__(sizes, Rule(threshold=0.5, hits=1), starts, torch.zeros(len(begin), 0), config)

    def _lead(self, part):
        inputs = self.past.gather(part)
        action = inputs.actions[:, -1]
        self.given.append(action.clone())
        state = self.flow(inputs.proprio[:, -1], action)
        state = state + self.strength * self.noise_of(part)[:, 0, 0, : state.shape[1]]
        over = (state[:, 0] > self.won_at) | (self.clock[part] + 1 >= self.lasts)
        self.land(part, torch.zeros(len(state), 3, SIZE, SIZE))
        return state, torch.where(over, 9.0, -9.0)

    def _starts_of(self, mask):
        if self.drawn:
            return super()._starts_of(mask)
        return (torch.arange(len(mask)) + self.episodes) % len(self.starts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bare(SurrogateConfig):
    """A latent that is what is felt and nothing else."""

    @property
    def size(self) -> int:
        return self.proprio_dim


class Knowing(Surrogate):
    """A surrogate whose latent is the state, and which foresees and pays by formulas; its cell counts the steps."""

    def __init__(self, flow, pay, *, dim=2, acts=2) -> None:
        sizes = {**TINY, "action_dim": acts, "proprio_dim": dim, "latent": dim, "history": 1, "cell": 1}
        super().__init__(Bare(**sizes))
        self.flow, self.pay = flow, pay

    def encode(self, frames, proprio):
        return proprio[:, -1].clone()

    def step(self, latent, action, cell):
        return Predicted(self.flow(latent, action), torch.zeros_like(latent), cell + 1)

    def reward(self, latent):
        return self.pay(latent)


def knowing(flow, pay, *, seed=0, **sizes):
    torch.manual_seed(seed)
    return Knowing(flow, pay, **sizes).eval()


def surrogate_of(seed=0, **settings):
    """A real one whose weights all matter."""
    torch.manual_seed(seed)
    return awake(Surrogate(SurrogateConfig(**{**TINY, "latent": 5, "landmark_dim": 2, **settings})))


def acting(surrogate, *, seed=0, hidden=8, std=0.3, scale=1.0):
    """A policy with the eyes of a surrogate that does something, and a critic that expects something."""
    torch.manual_seed(seed)
    policy = surrogate.policy(hidden=hidden, std=std).eval()
    with torch.no_grad():
        for weight in policy.decision.parameters():
            weight.add_(scale * 0.3 * torch.randn_like(weight))
    critic = ValueNetwork.beside(policy)
    with torch.no_grad():
        for weight in critic.decision.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return policy, critic.requires_grad_(False).eval()


def write_store(path, *, lengths=range(7, 12), count=60, landmarks=True, size=SIZE, name=TASK) -> Store:
    """Episodes of these lengths in turn: a square walks by a tenth of each action, and the robot by a twentieth."""
    schema = SCHEMA if landmarks and size == SIZE else Schema(
        image_size=size, action_low=(-1.0,) * 2, action_high=(1.0,) * 2, proprio_dim=2, landmark_dim=2 * landmarks
    )  # fmt: skip
    with writing(path, schema, {name: {}}) as writer:
        for seed in range(count):
            rng = np.random.default_rng(seed)
            length = list(lengths)[seed % len(lengths)]
            actions = rng.uniform(-1, 1, (length, 2)).astype(np.float32)
            actions[-1] = 0
            walked = np.concatenate([np.zeros((1, 2)), np.cumsum(actions[:-1], 0)])
            place = (rng.uniform(-0.7, 0.7, 2) + 0.1 * walked).clip(-0.9, 0.9).astype(np.float32)
            robot = (rng.uniform(-1, 1, 2) + 0.05 * walked).astype(np.float32)
            frames = np.zeros((length, size, size, 3), np.uint8)
            for frame, (x, y) in zip(frames, (place + 1) / 2 * size, strict=True):
                rows = np.arange(size) + 0.5
                near = np.exp(-((rows[:, None] - y) ** 2 + (rows - x) ** 2) / 8)
                frame[:] = (255 * near[..., None]).astype(np.uint8)
            info = EpisodeInfo(task=name, source="random", seed=seed, succeeded=False)
            episode = Episode(frames, actions, robot, np.zeros(length, bool), info, place if landmarks else None)
            writer.add(episode)
    return Store(path)


def paid(moment):
    """The dense reward of the square: how near it is to a corner."""
    return -(moment.landmarks - 0.5).square().sum(1)


def training(**settings) -> TrainSurrogateConfig:
    """A training of seconds."""
    eyes = FitConfig(steps=200, batch=32, learning_rate=5e-3, warm_up=10, ema=0.9, weight_decay=0.0)
    dynamics = FitConfig(steps=150, batch=64, learning_rate=5e-3, warm_up=10, ema=0.9, weight_decay=0.0)
    sizes = {**TINY, "widths": (8, 16), "points": 6, "hidden": 32, "latent": 6, "landmark_dim": 2, "history": 2}
    made = {"eyes": eyes, "dynamics": dynamics, "horizon": 4, "noise": 0.05, **settings}
    return TrainSurrogateConfig(**{"surrogate": SurrogateConfig(**sizes), **made})


def weights(module):
    return {name: each.clone() for name, each in module.state_dict().items()}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(each, two[name]) for name, each in one.items())
