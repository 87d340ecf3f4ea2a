"""A world, a classifier, a policy and places to begin, of random weights and numbers: enough for speed and parity."""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.denoise import inputs, make
from w4rl_fast.imagine.starts import Starts
from w4rl_fast.policy.gaussian import GaussianPolicy, PolicyConfig
from w4rl_fast.reward import RewardConfig, RewardModel, Rule
from w4rl_fast.world.config import WorldConfig
from w4rl_fast.world.model import WorldModel

NUMBER_OF_STARTS = 256
RULE = Rule(threshold=0.999, hits=2)
"""So that nothing succeeds in the first step, whose frames are compared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What a loop takes, on one device."""

    name: str
    world: WorldModel
    reward: RewardModel
    policy: GaussianPolicy
    starts: Starts

    @property
    def megabytes(self) -> float:
        """What they take of the device."""
        models = (self.world, self.reward, self.policy)
        tensors = [each for model in models for each in model.state_dict().values()]
        return sum(each.nbytes for each in (*tensors, self.starts.pixels)) / 2**20


@functools.cache
def parts_of(name: str, device: str) -> Parts:
    """Those of a preset, with the classifier that goes with its size: made once, for every section."""
    world = make(name, torch.float32)
    of = world.config
    network = "small" if name.startswith("tiny") else "resnet18"
    reward = RewardModel(RewardConfig(image_size=of.image_size, network=network)).eval().requires_grad_(False)
    policy = GaussianPolicy(
        PolicyConfig(image_size=of.image_size, action_dim=of.action_dim, proprio_dim=of.proprio_dim)
    )
    return Parts(
        name=name,
        world=world.to(device),
        reward=reward.to(device),
        policy=policy.eval().requires_grad_(False).to(device),
        starts=starts_of(of).to(device),
    )


def starts_of(world: WorldConfig) -> Starts:
    """First moments of episodes that stand still."""
    generator, count = torch.Generator().manual_seed(0), NUMBER_OF_STARTS
    size, history = world.image_size, world.history
    proprio = torch.randn(count, 1, world.proprio_dim, generator=generator).expand(-1, history, -1)
    return Starts(
        pixels=torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8),
        rows=torch.arange(count)[:, None].repeat(1, history),
        anchors=torch.arange(count),
        proprio=proprio.contiguous(),
        actions=torch.zeros(count, history, world.action_dim),
    )


@torch.no_grad()
def moments(world: WorldModel, count: int) -> dict[str, Tensor]:
    """Inputs of a world step by name, (count, ...) each, on the device of the world."""
    device = world.actions.device
    _, _, frames, proprio, actions, anchor, _ = (each.to(device) for each in inputs(world, count))
    noise = torch.randn(anchor.shape, generator=torch.Generator().manual_seed(0)).to(device)
    scene = torch.cat([world.head.look(part) for part in anchor.split(256)])
    return {"frames": frames, "proprio": proprio, "actions": actions, "anchor": anchor, "scene": scene, "noise": noise}
