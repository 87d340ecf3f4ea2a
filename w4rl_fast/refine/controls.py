"""What the same data and as many steps give without any imagination: the policies that a refined one must beat."""

import dataclasses
import hashlib
from collections.abc import Collection
from pathlib import Path

import torch

from w4rl_fast.config import load_config
from w4rl_fast.data.episode import DEMONSTRATIONS, SOURCES
from w4rl_fast.data.store import Store
from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.errors import UserError
from w4rl_fast.metrics import LINES_NAME, read_metrics
from w4rl_fast.policy import GaussianPolicy
from w4rl_fast.policy.checkpoint import load_policy
from w4rl_fast.policy.clone import CLONE, CloneConfig, clone
from w4rl_fast.refine.imagined import REFINED
from w4rl_fast.run import latest, store_of_run, task_of_run

CONTROLS = ("all demos", "successes")


def train_controls(run: Path) -> dict[str, Path]:
    """Clone every demonstration, and every successful episode of any source, that the run has learnt from.

    Networks and settings are those of the cloned policy; the steps are its own and those of the refinement together.
    Rollouts that a round of repair recorded and nobody learnt from, since there was nothing to repair, are left out.
    """
    store, policy = Store(store_of_run(latest(run))), load_policy(run)
    settings = load_config(run / "policy" / CLONE, CloneConfig)
    steps = settings.fit.steps + updates_of(latest(run))
    settings = dataclasses.replace(settings, fit=dataclasses.replace(settings.fit, steps=steps))
    window = WindowConfig(history=policy.config.history, future=1, held_out=0.0, tasks={task_of_run(run).name: 1.0})
    unused = ["repair"] if latest(run) == run else []
    folders = {}
    for name, kept, succeeded in (
        (CONTROLS[0], set(DEMONSTRATIONS), False),
        (CONTROLS[1], set(SOURCES).difference(unused), True),
    ):
        config = dataclasses.replace(window, succeeded=succeeded)
        config = dataclasses.replace(config, sources=shares(Windows(store, config), kept))
        token = hashlib.sha256(f"{store.digest} {config} {settings}".encode()).hexdigest()[:12]
        folders[name] = folder = run / "controls" / f"{name.replace(' ', '-')}-{token}"
        windows = Windows(store, config, seed=settings.fit.seed)
        torch.manual_seed(settings.fit.seed)
        clone(GaussianPolicy(policy.config), windows, settings, folder)
    return folders


def shares(windows: Windows, kept: Collection[str]) -> dict[str, float]:
    """Shares of these sources as they are among the windows."""
    found = {source: float(count) for source, count in windows.by_source().items() if source in kept}
    if not found:
        raise UserError(
            f"a control from {windows.store.path}",
            rule=f"it holds no episode of {', '.join(sorted(kept))}",
            remedy="Leave --controls out",
        )
    return found


def updates_of(run: Path) -> int:
    """How often the refinement of a run moved its policy."""
    return round(sum(row.get("refine/updates", 0.0) for row in read_metrics(run / REFINED / LINES_NAME)))
