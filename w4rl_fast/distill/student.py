"""A student: a world of its own size and number of sampling steps that begins as its teacher, as far as sizes fit."""

import dataclasses

import torch
from torch import Tensor

from w4rl_fast.errors import UserError
from w4rl_fast.world.config import WorldConfig
from w4rl_fast.world.model import Context, WorldModel
from w4rl_kernels.edm_step import round_to_bytes


def make_student(teacher: WorldModel, config: WorldConfig, *, seed: int = 0) -> WorldModel:
    """A world of this config with every weight of the teacher that has its name and shape; the rest are new."""
    require_same_ends(teacher.config, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = WorldModel(config)
    mine, theirs = student.state_dict(), teacher.state_dict()
    fitting = {
        name: theirs[name] for name, weight in mine.items() if name in theirs and theirs[name].shape == weight.shape
    }
    student.load_state_dict({**mine, **fitting})
    return student


def resampled(world: WorldModel, steps: int) -> WorldModel:
    """The same world, drawn in another number of steps: what a student is before it has learnt anything."""
    return make_student(world, with_steps(world.config, steps)).eval().requires_grad_(False)


def with_steps(config: WorldConfig, steps: int) -> WorldConfig:
    return dataclasses.replace(config, sampling=dataclasses.replace(config.sampling, steps=steps))


def paint(student: WorldModel, context: Context, noise: Tensor, place: Tensor) -> Tensor:
    """The target (B, 3, S, S) that the student draws from standard normal noise (B, 3, S, S), where place (B, P) is
    next, so that it can learn from it: gradients pass rounding as if it were not there.
    """
    config = student.config

    def denoise(x: Tensor, sigma: float) -> Tensor:
        target = student.denoise(x, x.new_full((len(x),), sigma), context, place).float()
        return snapped(student, target, context) if config.sampling.round_to_bytes else target

    target = student.sampler(denoise, noise * student.start_std, student.sigmas)
    return snapped(student, target, context)


def snapped(student: WorldModel, target: Tensor, context: Context) -> Tensor:
    """The target of the nearest whole bytes, with the gradient of the target itself."""
    whole = student.to_target(round_to_bytes(student.to_frame(target, context)), context)
    return target + (whole - target).detach()


def require_same_ends(teacher: WorldConfig, student: WorldConfig) -> None:
    """Refuse a student that is not shown, or does not show, what its teacher does."""
    free = ("backbone", "transformer", "sampling", "proprio_maps", "bins")
    others = [
        field.name
        for field in dataclasses.fields(WorldConfig)
        if field.name not in free and getattr(teacher, field.name) != getattr(student, field.name)
    ]
    if others:
        raise UserError(
            f"a student with another {', '.join(others)}",
            rule="a student sees and predicts what its teacher does; its backbone and its sampling are its own",
            remedy="Leave these as they are",
        )
