"""What the same data and as many steps give without any imagination: the policies that a refined one must beat."""

import dataclasses
from collections.abc import Collection
from pathlib import Path

import torch

from w4rl_fast.config import load_config
from w4rl_fast.data.episode import DEMONSTRATIONS
from w4rl_fast.data.store import Store
from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.metrics import LINES_NAME, read_metrics
from w4rl_fast.policy import GaussianPolicy
from w4rl_fast.policy.checkpoint import load_policy
from w4rl_fast.policy.clone import CLONE, CloneConfig, clone
from w4rl_fast.refine.imagined import REFINED
from w4rl_fast.run import latest, store_of_run

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
    window = WindowConfig(history=policy.config.history, future=1, held_out=0.0)
    there = Windows(store, window).by_source()
    if latest(run) == run:
        there.pop("repair", None)
    shown = {source: float(there[source]) for source in DEMONSTRATIONS if source in there}
    chosen = {
        CONTROLS[0]: dataclasses.replace(window, sources=shown),
        CONTROLS[1]: dataclasses.replace(window, succeeded=True, sources=successes(store, window, there)),
    }
    folders = {}
    for name, config in chosen.items():
        folders[name] = folder = run / "controls" / f"{name.replace(' ', '-')}-{store.digest}"
        windows = Windows(store, config, seed=settings.fit.seed)
        torch.manual_seed(settings.fit.seed)
        clone(GaussianPolicy(policy.config), windows, settings, folder)
    return folders


def successes(store: Store, window: WindowConfig, sources: Collection[str]) -> dict[str, float]:
    """Shares of these sources among the episodes that succeeded, as they are."""
    won = Windows(store, dataclasses.replace(window, succeeded=True)).by_source()
    return {source: float(count) for source, count in won.items() if source in sources}


def updates_of(run: Path) -> int:
    """How often the refinement of a run moved its policy."""
    return round(sum(row.get("refine/updates", 0.0) for row in read_metrics(run / REFINED / LINES_NAME)))
