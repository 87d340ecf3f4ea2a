"""The engines of a run: where they lie, and which one its imagination takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from w4rl_engines.choice import fastest
from w4rl_engines.fingerprint import fingerprint
from w4rl_engines.load import load
from w4rl_fast.imagine.engine import Engine
from w4rl_fast.imagine.step import WorldStep
from w4rl_fast.reward.model import RewardModel
from w4rl_fast.world.model import WorldModel

FOLDER = "engines"
RATIO = "eager_time"
"""What eager torch took beside an engine when that was built, as a share of the engine's time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """The engine that a rollout takes, None for the eager module; its name, and why each other one was passed over."""

    engine: Engine | None
    name: str
    passed_over: dict[str, str]


def folder_of(run: Path, part: str, backend: str, precision: str, steps: int | None) -> Path:
    """Where an artifact lies; a student's lies with the student, which is a run of its own."""
    name = part if steps is None else f"{part}-{steps}-step"
    return run / FOLDER / f"{name}-{backend}-{precision}"


def artifacts(run: Path, part: str | None = None) -> list[Path]:
    """The folders of the artifacts of a run, or of one part of it."""
    return sorted(path.parent for path in run.glob(f"{FOLDER}/{part or '*'}-*/manifest.json"))


def load_engine(
    folder: Path, world: WorldModel, reward: RewardModel, batch: int, *, sampling_steps: int | None = None
) -> Engine:
    """The engine of an artifact; refused unless it is of exactly these weights and steps, and of this size."""
    expected = fingerprint(WorldStep(world, reward, sampling_steps=sampling_steps))
    return cast(Engine, load(folder, batch=batch, threads=torch.get_num_threads(), expected=expected))


@torch.no_grad()
def choose(
    run: Path, world: WorldModel, reward: RewardModel, batch: int, *, sampling_steps: int | None = None
) -> Chosen:
    """The fastest artifact of the world step that was proven for exactly these weights, where it beats eager torch."""
    folders = artifacts(run, "world")
    if not folders:
        return Chosen(engine=None, name="eager", passed_over={})
    expected = fingerprint(WorldStep(world, reward, sampling_steps=sampling_steps))
    choice = fastest(folders, batch, expected=expected)
    over = {folder.name: why for folder, why in choice.passed_over.items()}
    if choice.artifact is None:
        return Chosen(engine=None, name="eager", passed_over=over)
    folder, (_, blob) = choice.artifact.folder, choice.artifact.blob(batch)
    ratio = blob.examined.get(RATIO)
    if ratio is None or ratio <= 1:
        over[folder.name] = (
            "it was not timed beside eager torch"
            if ratio is None
            else f"eager torch takes {ratio:.2f} of its time here"
        )
        return Chosen(engine=None, name="eager", passed_over=over)
    engine = load_engine(folder, world, reward, batch, sampling_steps=sampling_steps)
    return Chosen(engine=engine, name=folder.name, passed_over={**over, "eager": f"it takes {ratio:.2f} times as long"})
