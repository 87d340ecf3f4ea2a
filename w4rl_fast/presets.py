"""Presets: functions that return a full config."""

import dataclasses
from collections.abc import Callable

from w4rl_fast.data.episode import Schema
from w4rl_fast.data.store import Store
from w4rl_fast.reward.config import RewardConfig
from w4rl_fast.reward.train import TrainRewardConfig
from w4rl_fast.tasks import TaskConfig
from w4rl_fast.world.config import BackboneConfig, NoiseConfig, SamplingConfig, TransformerConfig, WorldConfig
from w4rl_fast.world.train import TrainWorldConfig

SIDE = 16
"""Positions a side of the smaller networks, if the frames can be cut so."""
ANCESTRAL = SamplingConfig(steps=3, sigma_min=0.002, sigma_max=5.0)


def tiny(schema: Schema) -> TrainWorldConfig:
    """Minutes on two cores: a patchified U-Net that repaints what moves, anchored to the first frame.

    Half the difference to that frame has a deviation of .12 on button-press-topdown, which is what `sigma_data` says.
    """
    fitting = [p for p in (2, 3, 4) if schema.image_size % (2 * p) == 0]
    patch = min(fitting, key=lambda p: abs(schema.image_size - SIDE * p), default=1)
    backbone = BackboneConfig(patch=patch, widths=(32, 96), depths=(2, 2), attention=(False, False), condition_dim=128)
    noise = NoiseConfig(sigma_data=0.12, skip=False, offset=0.0, mean_log=-0.3, std_log=1.2)
    sampling = SamplingConfig(steps=3, sigma_min=0.3, sigma_max=5.0)
    return TrainWorldConfig(world=world_of(schema, backbone, noise, sampling, anchor=True))


def tiny_dit(schema: Schema) -> TrainWorldConfig:
    """The transformer in the place of the tiny U-Net."""
    unet = tiny(schema)
    patch = next((p for p in (6, 8, 5, 4) if schema.image_size % p == 0), 1)
    network = TransformerConfig(patch=patch, width=192 if patch == 8 else 128)
    return dataclasses.replace(unet, world=dataclasses.replace(unet.world, transformer=network))


def nano(schema: Schema) -> TrainWorldConfig:
    """A fifth of the tiny U-Net's work: for students that are imagined in for long."""
    whole = tiny(schema)
    backbone = dataclasses.replace(whole.world.backbone, widths=(16, 48), depths=(1, 1), condition_dim=64)
    return dataclasses.replace(whole, world=dataclasses.replace(whole.world, backbone=backbone))


def small(schema: Schema) -> TrainWorldConfig:
    """DIAMOND's Atari size, 4.4M: for one GPU, or patience."""
    backbone = BackboneConfig(patch=1, widths=(64,) * 4, depths=(2,) * 4, attention=(False,) * 4)
    return TrainWorldConfig(world=world_of(schema, backbone, NoiseConfig(), ANCESTRAL, anchor=True))


def paper(schema: Schema) -> TrainWorldConfig:
    """The size that World4RL reports, 330M: no anchor, four frames of history."""
    backbone = BackboneConfig(
        patch=1,
        widths=(128, 256, 512, 1024),
        depths=(2, 2, 2, 2),
        attention=(False, False, True, True),
        condition_dim=2048,
    )
    return TrainWorldConfig(world=world_of(schema, backbone, NoiseConfig(), ANCESTRAL, anchor=False))


def world_of(
    schema: Schema, backbone: BackboneConfig, noise: NoiseConfig, sampling: SamplingConfig, *, anchor: bool
) -> WorldConfig:
    return WorldConfig(
        image_size=schema.image_size,
        action_dim=schema.action_dim,
        proprio_dim=schema.proprio_dim,
        anchor=anchor,
        backbone=backbone,
        noise=noise,
        sampling=sampling,
    )


WORLDS: dict[str, Callable[[Schema], TrainWorldConfig]] = {
    "tiny": tiny,
    "tiny-dit": tiny_dit,
    "nano": nano,
    "small": small,
    "paper": paper,
}


def reward(preset: str, store: Store, task: str) -> TrainRewardConfig:
    """A few convolutions for `tiny`; for the larger ones the ResNet-18 that World4RL reports. Replays are whole."""
    network = RewardConfig(image_size=store.schema.image_size, network="small" if preset == "tiny" else "resnet18")
    longest = max(length for length, info in zip(store.lengths, store.infos, strict=True) if info.task == task)
    return TrainRewardConfig(reward=network, horizon=longest - 1, task=task)


def quickstart_world(schema: Schema, task: TaskConfig, share: float, seed: int) -> TrainWorldConfig:
    """The tiny world in a few minutes (`share` of them), drawn in one step, which looks no worse than three."""
    whole = tiny(schema)
    return dataclasses.replace(
        whole,
        world=dataclasses.replace(whole.world, sampling=dataclasses.replace(whole.world.sampling, steps=1)),
        head=dataclasses.replace(whole.head, steps=max(20, round(2000 * share)), seed=seed),
        denoiser=dataclasses.replace(whole.denoiser, steps=max(20, round(2200 * share)), seed=seed),
        horizon=min(25, task.horizon),
    )


def quickstart_reward(store: Store, task: str, share: float, seed: int) -> TrainRewardConfig:
    """The tiny classifier in a minute or two (`share` of them)."""
    whole = reward("tiny", store, task)
    return dataclasses.replace(whole, fit=dataclasses.replace(whole.fit, steps=max(20, round(1200 * share)), seed=seed))
