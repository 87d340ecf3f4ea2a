"""A trained run in one's hands: its world, classifier and policy, and imagined worlds made of them."""

import json
import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from w4rl_fast.config import from_json_dict, load_config
from w4rl_fast.data.store import Store
from w4rl_fast.errors import UserError
from w4rl_fast.imagine.artifacts import choose
from w4rl_fast.imagine.engine import Engine, Imagination
from w4rl_fast.imagine.starts import StartConfig, load_starts
from w4rl_fast.imagine.worlds import ImaginationConfig
from w4rl_fast.policy.checkpoint import load_policy
from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.reward import RewardModel, Rule, has_reward, load_reward, never
from w4rl_fast.run import store_of_run, task_of_run, task_of_store
from w4rl_fast.tasks import TaskConfig
from w4rl_fast.world.checkpoint import load_world
from w4rl_fast.world.model import WorldModel
from w4rl_fast.world.train import TrainWorldConfig

if TYPE_CHECKING:
    from w4rl_fast.imagine.env import ImaginationEnv


class LoadedRun:
    """The parts of a run, each read when it is first asked for; one that was not trained is an error that says so."""

    def __init__(self, path: Path) -> None:
        self.path, self.task = path, task_of_run(path)

    @cached_property
    def world(self) -> WorldModel:
        return load_world(self.path)

    @cached_property
    def judge(self) -> tuple[RewardModel, Rule]:
        """The classifier, and when it says success; where none was trained, one that never does."""
        return load_reward(self.path) if has_reward(self.path) else never(self.world.config.image_size)

    @cached_property
    def policy(self) -> GaussianPolicy:
        return load_policy(self.path)

    def imagine(self, *, to_numpy: bool = True, **settings: Any) -> "ImaginationEnv":
        """Imagined worlds as a vector environment of gymnasium; the settings are those of `imagination`."""
        from w4rl_fast.imagine.env import ImaginationEnv

        return ImaginationEnv(self.imagination(**settings), to_numpy=to_numpy)

    def imagination(
        self,
        *,
        store: Path | str | None = None,
        side: Literal["train", "held-out"] = "train",
        rows: Literal["first", "any"] = "first",
        horizon: int | None = None,
        device: str = "cpu",
        engine: str | Engine = "auto",
        **config: Any,
    ) -> Imagination:
        """Imagined worlds that begin as episodes of a store do, by default the run's own and as long as the task.

        `side` is which episodes: those that were trained on, or those held out. `config` is as in ImaginationConfig.
        `auto` is the fastest engine that was exported for slices of this size, proven, and faster than eager torch.
        """
        reward, rule = self.judge
        opened = self.open_store(store)
        trained, held_out = self.training()
        starts = load_starts(
            opened,
            self.world.config,
            StartConfig(task=self.task.name, split=side, rows=rows, held_out=held_out),
        )
        steps = horizon or self.task.horizon
        if trained is not None and steps > trained:
            warnings.warn(beyond(steps, trained, drift_of(self.path)), stacklevel=3)
        settings = from_json_dict(ImaginationConfig, {"horizon": steps, **config})
        if engine == "auto" and device == "cpu" and settings.precision == "auto":
            chosen = choose(self.path, self.world, reward, settings.slice_size, sampling_steps=settings.sampling_steps)
            engine = chosen.engine or "eager"
        return Imagination(
            self.world.to(device),
            reward.to(device),
            rule,
            starts.to(torch.device(device)),
            settings,
            engine=engine,
        )

    def open_store(self, store: Path | str | None) -> Store:
        """The store that starts come from; one that records the task with other settings is refused."""
        path = store_of_run(self.path, store)
        opened = Store(path)
        if opened.index.tasks.get(self.task.name) and task_of_store(opened, self.task.name) != self.task:
            raise UserError(
                f"start states of {path}",
                rule=f"the run is about {self.task.name} with other settings ({differences(opened, self.task)})",
                remedy="Give the store that the run was trained on, or one like it",
            )
        return opened

    def training(self) -> tuple[int | None, float]:
        """How many steps the world was trained to be rolled out, if it is known, and the share of episodes held out."""
        path = self.path / "world" / "train.json"
        if not path.exists():
            return None, StartConfig(task=self.task.name).held_out
        trained = load_config(path, TrainWorldConfig)
        return trained.horizon, trained.held_out


def differences(store: Store, task: TaskConfig) -> str:
    recorded = task_of_store(store, task.name)
    names = [name for name in task.__dataclass_fields__ if getattr(recorded, name) != getattr(task, name)]
    return ", ".join(f"{name} {getattr(recorded, name)} for {getattr(task, name)}" for name in names)


def drift_of(run: Path) -> list[float | None] | None:
    """How far the imagined hand is from the real one after each step, in metres, where that was measured."""
    path = run / "world-fidelity.json"
    try:
        errors: list[float | None] | None = json.loads(path.read_bytes()).get("proprio_error_m")
    except (OSError, ValueError):  # it only makes a warning more precise
        return None
    return errors


def beyond(steps: int, trained: int, drift: list[float | None] | None) -> str:
    """A warning that a world is rolled out for longer than it was trained for."""
    said = f"horizon {steps} is beyond the {trained} steps that this world was trained for"
    known = [(step, error) for step, error in enumerate((drift or [])[:steps], 1) if error is not None]
    if not known:
        return f"{said}; `w4rl evaluate world` tells how far it drifts"
    step, error = known[-1]
    return f"{said}; its hand is off by {1e3 * error:.0f} mm after {step} steps"
