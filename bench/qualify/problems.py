"""What worlds of the presets ask of the kernels, found without a number being computed; and the kernels' switches."""

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

import torch

from bench.denoise import SIZES
from w4rl_fast.data.episode import Schema
from w4rl_fast.imagine.step import Narrow
from w4rl_fast.presets import WORLDS
from w4rl_fast.world.model import Context, Landing, WorldModel
from w4rl_kernels import attention, edm_step, noise, norm_act
from w4rl_kernels.select import Switch

PRESETS = ("small", "paper", "tiny-dit", "tiny", "nano")
"""Those that the targets name come first."""
SWITCHES: dict[str, Switch[Any]] = {
    "attention": attention.SWITCH, "norm_act": norm_act.SWITCH, "edm_step": edm_step.SWITCH, "noise": noise.SWITCH,
}  # fmt: skip
MODULES: dict[str, Any] = {"attention": attention, "norm_act": norm_act, "edm_step": edm_step, "noise": noise}
Asked = dict[tuple[str, str], Any]
"""By op and class of shapes: a problem of that class."""


@torch.no_grad()
def asked_by(preset: str, dtype: torch.dtype) -> Asked:
    """Of a frame in as many denoising steps as the preset's, its backbone in `dtype`; and the noise of an action."""
    with torch.device("meta"), listening() as found:
        world = world_of(preset, dtype)
        of = world.config
        pixels, history = (3, of.image_size, of.image_size), of.history
        context = Context(
            torch.empty(1, history, *pixels), torch.empty(1, history, of.proprio_dim),
            torch.empty(1, history, of.action_dim), torch.empty(1, *pixels),
        )  # fmt: skip
        where = torch.zeros(1, dtype=torch.int64)
        ring = torch.empty(1, history, *pixels, dtype=torch.uint8)
        world(context, noise.Draw(where, where, where), landing=Landing(ring[:, 0], ring, 0))
        noise.normal_noise(where, where, where, (of.action_dim,))
    return found


def world_of(preset: str, dtype: torch.dtype) -> WorldModel:
    schema = Schema(
        image_size=SIZES.get(preset, 48), action_low=(-1.0,) * 4, action_high=(1.0,) * 4, proprio_dim=4
    )  # fmt: skip
    world = WorldModel(WORLDS[preset](schema).world).eval()
    if dtype is not torch.float32:
        setattr(world, "unet" if world.config.transformer is None else "dit", Narrow(world.backbone, dtype))
    return world


@contextlib.contextmanager
def listening() -> Iterator[Asked]:
    """What is asked of the switches within."""
    found: Asked = {}

    def heard(op: str, *facts: Any) -> Any:
        problem = MODULES[op].Problem(*facts)
        return found.setdefault((op, MODULES[op].key(problem)), problem)

    try:
        for op, switch in SWITCHES.items():
            switch.use(switch.asked)  # forgets what it answered before
            switch.problems = lambda *facts, op=op: heard(op, *facts)
        yield found
    finally:
        for op, switch in SWITCHES.items():
            switch.problems = MODULES[op].Problem


@contextlib.contextmanager
def asking(device: str, ours: Collection[str] | None) -> Iterator[None]:
    """Within: our kernels of these ops, and of all others the fastest that is not ours; None leaves all as it is."""
    before = {op: switch.asked for op, switch in SWITCHES.items()}
    try:
        for op, switch in SWITCHES.items() if ours is not None else ():
            switch.use("gpu" if ours is not None and op in ours else plain(op, device))
        yield
    finally:
        for op, switch in SWITCHES.items():
            switch.use(before[op])


def plain(op: str, device: str) -> str:
    """The name of the fastest implementation that is none of our kernels for a GPU."""
    there = SWITCHES[op].implementations[device]
    return next(each.name for each in there if each.name != "gpu" and each.unavailable() is None)
