"""Where students lie in a run: each is a folder of RUN/students, and a run of its own."""

from dataclasses import dataclass
from pathlib import Path

from w4rl_fast.config import load_config, save_config
from w4rl_fast.distill.config import DistillConfig
from w4rl_fast.errors import UserError
from w4rl_fast.files import publish
from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.reward import RewardModel
from w4rl_fast.run import keep_store, keep_task, task_of_run
from w4rl_fast.truth.gate import ORIGIN, world_digest
from w4rl_fast.world.model import WorldModel

STUDENTS = "students"
COPIED = {"reward": RewardModel.weights_file, "policy": GaussianPolicy.weights_file}


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """How a student is made, and the digest of the world that teaches it."""

    config: DistillConfig
    teacher: str


def begin(run: Path, folder: Path, store: Path, config: DistillConfig) -> None:
    """Make the student's folder a run about the same task and data, or refuse one that was begun otherwise.

    The classifier and the policy of the run are copied into it, as they are now.
    """
    origin = Origin(config=config, teacher=world_digest(run))
    path = folder / ORIGIN
    if path.exists():
        require_same(load_config(path, Origin), origin, folder)
    keep_task(folder, task_of_run(run))
    keep_store(folder, store)
    save_config(path, origin)
    copy_parts(run, folder)


def require_same(there: Origin, wanted: Origin, folder: Path) -> None:
    """Refuse to go on with another teacher or with other settings."""
    require_teacher(folder, there, wanted.teacher)
    others = [
        name for name in DistillConfig.__dataclass_fields__
        if getattr(there.config, name) != getattr(wanted.config, name)
    ]  # fmt: skip
    if others:
        raise UserError(
            f"student {folder.name}",
            rule=f"it was begun with another {', '.join(others)} (method {there.config.method}, {folder / ORIGIN})",
            remedy="Give the same settings to go on with it, or another --name",
        )


def require_teacher(folder: Path, origin: Origin, teacher: str) -> None:
    """Refuse a student of another world than the one of the run it lies in."""
    if origin.teacher != teacher:
        raise UserError(
            f"student {folder.name}",
            rule=f"its teacher was the world {origin.teacher}, and {folder.parent.parent / 'world'} is {teacher}",
            remedy=f"Put that world back, or remove {folder} and distil again",
        )


def copy_parts(run: Path, folder: Path) -> None:
    """Give a student the classifier and the policy that its run has now."""
    for part, weights in COPIED.items():
        copy_part(run / part, folder / part, weights)


def copy_part(source: Path, target: Path, weights: str) -> None:
    """Copy a trained part with what is written about it, weights last; without what its training needed."""
    if not (source / weights).exists():
        return
    target.mkdir(parents=True, exist_ok=True)
    for path in [*sorted(source.glob("*.json")), source / weights]:
        publish(target / path.name, path.read_bytes())


def students_of(run: Path) -> list[Path]:
    """The finished students of a run, by name; one of another teacher is refused."""
    finished = sorted(path.parent.parent for path in run.glob(f"{STUDENTS}/*/world/{WorldModel.weights_file}"))
    students = [folder for folder in finished if (folder / ORIGIN).exists()]
    for folder in students:
        require_teacher(folder, load_config(folder / ORIGIN, Origin), world_digest(run))
    return students
