"""Presets: functions that return a full config."""

from collections.abc import Callable

from w4rl_fast.data.collect import CollectConfig
from w4rl_fast.data.episode import Schema
from w4rl_fast.world.config import BackboneConfig, NoiseConfig, WorldConfig
from w4rl_fast.world.train import TrainWorldConfig


def quickstart_data(seed: int, workers: int) -> CollectConfig:
    """What a robot owner could record in an afternoon: demonstrations, disturbed ones, and random motion."""
    return CollectConfig(expert=20, noisy=20, random=5, noise=0.5, bias=0.1, seed=seed, workers=workers)


def tiny(schema: Schema) -> TrainWorldConfig:
    """Minutes on two cores: a patchified U-Net that repaints what moves, anchored to the first frame."""
    patch = next((p for p in (3, 4, 2) if schema.image_size % (2 * p) == 0), 1)
    backbone = BackboneConfig(patch=patch, widths=(32, 96), depths=(2, 2), attention=(False, False), condition_dim=128)
    return TrainWorldConfig(world=world_of(schema, backbone, anchor=True, offset=0.0))


def small(schema: Schema) -> TrainWorldConfig:
    """DIAMOND's Atari size, 4.4M: for one GPU, or patience."""
    backbone = BackboneConfig(patch=1, widths=(64,) * 4, depths=(2,) * 4, attention=(False,) * 4)
    return TrainWorldConfig(world=world_of(schema, backbone, anchor=True, offset=0.3))


def paper(schema: Schema) -> TrainWorldConfig:
    """The size that World4RL reports, 330M: no anchor, four frames of history."""
    backbone = BackboneConfig(
        patch=1,
        widths=(128, 256, 512, 1024),
        depths=(2, 2, 2, 2),
        attention=(False, False, True, True),
        condition_dim=2048,
    )
    return TrainWorldConfig(world=world_of(schema, backbone, anchor=False, offset=0.3))


def world_of(schema: Schema, backbone: BackboneConfig, *, anchor: bool, offset: float) -> WorldConfig:
    return WorldConfig(
        image_size=schema.image_size,
        action_dim=schema.action_dim,
        proprio_dim=schema.proprio_dim,
        anchor=anchor,
        backbone=backbone,
        noise=NoiseConfig(offset=offset),
    )


WORLDS: dict[str, Callable[[Schema], TrainWorldConfig]] = {"tiny": tiny, "small": small, "paper": paper}
