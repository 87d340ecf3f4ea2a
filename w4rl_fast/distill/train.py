"""Distil a student from the world of a run, on the windows that the world was trained on."""

import dataclasses
from pathlib import Path

from torch import Tensor

from w4rl_fast.config import load_config, save_config
from w4rl_fast.data.store import Episodes
from w4rl_fast.distill.config import DistillConfig
from w4rl_fast.distill.folder import STUDENTS, begin
from w4rl_fast.distill.methods import METHODS
from w4rl_fast.distill.student import make_student, resampled
from w4rl_fast.errors import UserError
from w4rl_fast.fit import Fit, Loss, Preview, generator_at
from w4rl_fast.progress import plan
from w4rl_fast.world.checkpoint import load_world, save_world
from w4rl_fast.world.model import WorldModel
from w4rl_fast.world.train import (
    ACTIVATIONS_PER_POSITION,
    BYTES_PER_WEIGHT,
    TrainWorldConfig,
    require_fit,
    windows_of,
)


def distill_run(
    run: Path, store: Episodes, config: DistillConfig, name: str, preview: Preview | None = None
) -> WorldModel:
    """Make RUN/students/NAME, a run of its own, going on where an earlier call was interrupted; RUN/world stays as it
    is.
    """
    teacher = load_world(run)
    trained = load_config(run / "world" / "train.json", TrainWorldConfig)
    require_fit(store, trained)
    require_steps(teacher, config)
    require_name(name)
    student = make_student(teacher, config.student, seed=config.fit.seed)
    folder = run / STUDENTS / name
    begin(run, folder, store.path, config)
    (folder / "world").mkdir(exist_ok=True)
    save_config(folder / "world" / "train.json", dataclasses.replace(trained, world=config.student))
    tell_plan(teacher, student, config, folder)
    student.requires_grad_(True)
    student.head.requires_grad_(False)
    fit = Fit(student, config.fit, folder / "world" / "distill", stage="distil")
    fit.run(distill_loss(student, teacher, store, config, trained), preview)
    save_world(folder / "world", student.eval())
    return student


def distill_loss(
    student: WorldModel, teacher: WorldModel, store: Episodes, config: DistillConfig, trained: TrainWorldConfig
) -> Loss:
    """The loss of the method, on windows of the side, the sources and the shares that the teacher learnt from."""
    drawn = resampled(teacher, config.teacher_steps or teacher.config.sampling.steps)
    windows = windows_of(store, dataclasses.replace(trained, denoiser=config.fit), future=config.future, pixels=True)
    method, disturbance = METHODS[config.method], trained.disturbance

    def loss_at(step: int) -> Tensor:
        batch, generator = windows.batch(step, config.fit.batch), generator_at(config.fit.seed, step)
        return method(student, drawn, batch, config, disturbance, generator)

    return loss_at


def require_steps(teacher: WorldModel, config: DistillConfig) -> None:
    """Refuse a student that is to take more steps than its teacher does."""
    most, steps = config.teacher_steps or teacher.config.sampling.steps, config.student.sampling.steps
    if not 1 <= steps <= most:
        raise UserError(
            f"a student of {steps} steps",
            rule=f"its teacher is drawn in {most}",
            remedy=f"Use --steps {most} or fewer, or draw the teacher in more with --set teacher_steps={steps}",
        )


def require_name(name: str) -> None:
    """Refuse a name that is no folder of its own, or that a comparison gives to others."""
    if name != Path(name).name or name == "teacher" or name.startswith("naive "):
        raise UserError(
            f"name {name!r}",
            rule="a student has a folder of its own, and is not called teacher or naive",
            remedy="Choose another --name",
        )


def tell_plan(teacher: WorldModel, student: WorldModel, config: DistillConfig, folder: Path) -> None:
    """Say what the training will need before it starts."""
    taught, weights = (sum(parameter.numel() for parameter in model.parameters()) for model in (teacher, student))
    network, size = config.student.network, config.student.image_size
    draws = config.student.sampling.steps * config.own.length if config.method == "own-rollout" else 1
    activations = 4 * draws * config.fit.batch * (size // network.patch) ** 2 * network.width * ACTIVATIONS_PER_POSITION
    plan(
        f"distil a world of {taught / 1e6:.2f}M weights into one of {weights / 1e6:.2f}M that is drawn in"
        f" {config.student.sampling.steps} step(s)",
        memory_bytes=weights * BYTES_PER_WEIGHT + 8 * taught + activations + (300 << 20),
        disk_bytes=weights * BYTES_PER_WEIGHT,
        folder=folder,
    )
