"""The engines of a run: where they lie, and which one its imagination takes."""

import contextlib
import dataclasses
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import torch

from w4rl_engines.artifact import read
from w4rl_engines.choice import fastest
from w4rl_engines.errors import EngineError
from w4rl_engines.fingerprint import fingerprint
from w4rl_engines.load import load
from w4rl_engines.registry import BACKENDS
from w4rl_fast.config import from_json_dict
from w4rl_fast.files import disk_errors, publish, read_json
from w4rl_fast.imagine.acting import ActingStep, Unit
from w4rl_fast.imagine.engine import Engine
from w4rl_fast.imagine.step import WorldStep
from w4rl_fast.measure import cpu_model
from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.reward.model import RewardModel
from w4rl_fast.world.model import WorldModel

FOLDER, CHOSEN, EAGER = "engines", "chosen.json", "eager"
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "bf16-fast": "bfloat16-fast", "int8": "int8"}
"""What a user types, and what it means."""
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


class Name(NamedTuple):
    """What the name of an artifact's folder says."""

    part: str
    steps: int | None
    backend: str
    precision: str

    @classmethod
    def of(cls, folder: Path) -> "Name":
        part, _, rest = folder.name.partition("-")
        steps, found, after = rest.partition("-step-")
        drawn = int(steps) if found and steps.isdigit() else None
        rest = rest if drawn is None else after
        backend = max((name for name in BACKENDS if rest.startswith(f"{name}-")), key=len, default=rest)
        return cls(part, drawn, backend, rest.removeprefix(f"{backend}-"))


def rebuild_of(folder: Path, run: Path | None = None, policy: str | None = None) -> str:
    """The command that builds an artifact again, with {batches} in place of its batch sizes.

    `run` and `policy` say whose it is where it lies with a policy, and not with its run.
    """
    name = Name.of(folder)
    targets: tuple[str, ...] = ()
    with contextlib.suppress(EngineError):
        targets = read(folder).identity.targets
    short = next((short for short, long in PRECISIONS.items() if long == name.precision), name.precision)
    steps = "" if name.steps is None else f" --steps {name.steps}"
    whose = f" --policy {policy}" if policy else ""
    what = f"--part {name.part}{whose}{steps} --engine {name.backend} --precision {short}"
    there = f" --target {','.join(targets)}" if targets else ""
    return f"w4rl export {shlex.quote(str(run or folder.parent.parent))} {what}{there} --batch {{batches}}"


def artifacts(run: Path, part: str | None = None) -> list[Path]:
    """The folders of the artifacts of a run, or of one part of it."""
    return sorted(path.parent for path in run.glob(f"{FOLDER}/{part or '*'}-*/manifest.json"))


def load_engine(
    folder: Path, world: WorldModel, reward: RewardModel, batch: int, *, sampling_steps: int | None = None
) -> Engine:
    """The engine of an artifact; refused unless it is of exactly these weights and steps, and of this size."""
    expected = fingerprint(WorldStep(world, reward, sampling_steps=sampling_steps))
    threads = torch.get_num_threads()
    return cast(Engine, load(folder, batch=batch, threads=threads, expected=expected, rebuild=rebuild_of(folder)))


def load_acting(
    folder: Path, policy: GaussianPolicy, world: WorldModel, reward: RewardModel, batch: int, *,
    sampling_steps: int | None = None,
) -> Unit:  # fmt: skip
    """The engine of a world step with a policy in it; refused unless it is of exactly these weights and steps."""
    expected = fingerprint(ActingStep(policy, WorldStep(world, reward, sampling_steps=sampling_steps)))
    threads = torch.get_num_threads()
    return load(folder, batch=batch, threads=threads, expected=expected, rebuild=rebuild_of(folder))


@dataclass(frozen=True, kw_only=True, slots=True)
class Remembered:
    """What whole rollouts showed to be fastest: the name of an artifact, or "eager"; and where that holds: for these
    weights, and among these artifacts, as long as none is built, added or taken away.
    """

    name: str
    frames_per_s: float
    weights: str
    settings: str
    slice_size: int
    threads: int
    processor: str
    among: tuple[str, ...]

    @classmethod
    def of(
        cls, run: Path, name: str, frames_per_s: float, world: WorldModel, reward: RewardModel, batch: int, *,
        sampling_steps: int | None = None,
    ) -> "Remembered":  # fmt: skip
        print_ = fingerprint(WorldStep(world, reward, sampling_steps=sampling_steps))
        return cls(
            name=name, frames_per_s=frames_per_s, weights=print_.weights, settings=print_.settings, slice_size=batch,
            threads=torch.get_num_threads(), processor=cpu_model(), among=tuple(candidates(run, batch)),
        )  # fmt: skip

    def holds_for(self, other: "Remembered") -> bool:
        return dataclasses.replace(other, name=self.name, frames_per_s=self.frames_per_s) == self


def candidates(run: Path, batch: int) -> Iterator[str]:
    """The artifacts of the world step at a batch size, as they are."""
    for folder in artifacts(run, "world"):
        with contextlib.suppress(EngineError):
            yield f"{folder.name} {read(folder).blob(batch)[1].sha256[:12]}"


def remember(run: Path, choice: Remembered) -> None:
    """Let the imagination of a run take this engine from now on, where and while that holds."""
    with disk_errors(run / FOLDER):
        (run / FOLDER).mkdir(exist_ok=True)
    publish(run / FOLDER / CHOSEN, json.dumps(dataclasses.asdict(choice), indent=1).encode())


def remembered(run: Path) -> Remembered | None:
    path = run / FOLDER / CHOSEN
    return from_json_dict(Remembered, read_json(path)) if path.exists() else None


@torch.no_grad()
def choose(
    run: Path, world: WorldModel, reward: RewardModel, batch: int, *, sampling_steps: int | None = None
) -> Chosen:
    """The fastest artifact of the world step that was proven for exactly these weights, where it beats eager torch.

    What whole rollouts showed here (`remember`) goes before what the artifacts say of a call.
    """
    folders = artifacts(run, "world")
    if not folders:
        return Chosen(engine=None, name=EAGER, passed_over={})
    now = Remembered.of(run, "", 0.0, world, reward, batch, sampling_steps=sampling_steps)
    before = remembered(run)
    if before and before.holds_for(now):
        found = taken_before(run, before, world, reward, batch, sampling_steps=sampling_steps)
        if found is not None:
            return found
    return by_latency(folders, world, reward, batch, sampling_steps=sampling_steps)


def by_latency(
    folders: list[Path], world: WorldModel, reward: RewardModel, batch: int, *, sampling_steps: int | None
) -> Chosen:
    """The fastest by its call, where it beats eager torch; one that turns out not to load makes room for the next."""
    expected = fingerprint(WorldStep(world, reward, sampling_steps=sampling_steps))
    choice = fastest(folders, batch, expected=expected, threads=torch.get_num_threads())
    over = {folder.name: why for folder, why in choice.passed_over.items()}
    if choice.artifact is None:
        return Chosen(engine=None, name=EAGER, passed_over=over)
    folder, (_, blob) = choice.artifact.folder, choice.artifact.blob(batch)
    ratio = blob.examined.get(RATIO)
    if ratio is None or ratio <= 1:
        slow = (
            "it was not timed beside eager torch"
            if ratio is None
            else f"eager torch takes {ratio:.2f} of its time here"
        )
        return Chosen(engine=None, name=EAGER, passed_over={**over, folder.name: slow})
    try:
        engine = load_engine(folder, world, reward, batch, sampling_steps=sampling_steps)
    except EngineError as error:
        others = [each for each in folders if each != folder]
        next_best = by_latency(others, world, reward, batch, sampling_steps=sampling_steps)
        return dataclasses.replace(next_best, passed_over={**next_best.passed_over, folder.name: error.rule})
    return Chosen(engine=engine, name=folder.name, passed_over={**over, EAGER: f"it takes {ratio:.2f} times as long"})


def taken_before(
    run: Path, before: Remembered, world: WorldModel, reward: RewardModel, batch: int, *, sampling_steps: int | None
) -> Chosen | None:
    """The engine that was remembered; None if it is not there any more, or not proven."""
    over = {
        folder.name: f"in whole rollouts {before.name} was the fastest that is proven"
        for folder in artifacts(run, "world")
    }
    if before.name == EAGER:
        return Chosen(engine=None, name=EAGER, passed_over=over)
    folder = run / FOLDER / Path(before.name).name
    try:
        _, blob = read(folder).blob(batch)
        if not blob.parity.passed:
            return None
        engine = load_engine(folder, world, reward, batch, sampling_steps=sampling_steps)
    except EngineError:
        return None
    over.pop(folder.name)
    return Chosen(engine=engine, name=folder.name, passed_over={**over, EAGER: "in whole rollouts it is slower"})
