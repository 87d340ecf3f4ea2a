"""Examine the surrogate of a run: errors and gradients, against its world and the real simulator."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from w4rl_fast.config import from_json_dict, load_config, to_json_dict
from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.errors import UserError
from w4rl_fast.files import publish, read_json
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.surrogate.agreement import (
    AgreementConfig,
    Errors,
    GradientRow,
    errors,
    gradient_rows,
    imagined,
    latents_of,
    own_rollout,
    slopes_of,
    touched,
    world_truth,
)
from w4rl_fast.surrogate.gradients import Cases, Truth, differences
from w4rl_fast.surrogate.model import Surrogate
from w4rl_fast.surrogate.reward import Paid, paid_by
from w4rl_fast.surrogate.stretches import Simulator, Stretches, played, recorded
from w4rl_fast.surrogate.train import TRAIN, TrainSurrogateConfig
from w4rl_fast.world.model import WorldModel

AGREEMENT = "agreement.json"
DECOUPLED, ALL = "decoupled", "all"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What was found on one kind of stretches, of one state of the surrogate."""

    stretches: str
    surrogate: str
    errors: tuple[Errors, ...]
    gradients: tuple[GradientRow, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """All parts, of which weights, those of the world included, and whether the simulator was asked too."""

    weights: str
    simulator: bool
    config: AgreementConfig
    parts: tuple[Part, ...]

    def cosine(self, horizon: int) -> float:
        """The least mean cosine of decoupled gradients, over all parts and truths, at the longest horizon up to one."""
        rows = [
            row for part in self.parts for row in part.gradients
            if row.taken == DECOUPLED and row.cases == ALL and row.horizon <= horizon and row.count
        ]  # fmt: skip
        longest = max((row.horizon for row in rows), default=0)
        return min((row.cosine for row in rows if row.horizon == longest), default=0.0)


def examine(
    run: LoadedRun, config: AgreementConfig, *, refined: Path | None = None, store: Path | None = None,
    simulator: bool = True,
) -> Examined:  # fmt: skip
    """Examine on held-out recorded stretches, and, if a refined policy and its surrogate are in `refined`, on what that
    policy does, before and after refresh.
    """
    folder = run.path / "surrogate"
    surrogate = load_surrogate(run.path)
    trained = load_config(folder / TRAIN, TrainSurrogateConfig)
    paid = paid_by(run.path, run.task, surrogate.config)
    window = WindowConfig(history=surrogate.config.history, future=0, held_out=trained.held_out)
    windows = Windows(run.open_store(store), window, "held-out")
    held = recorded(windows, run.task.name, config.cases, config.steps, config.seed)
    parts = list(examine_on("recorded", held, {"as trained": surrogate}, run, config, paid, simulator=simulator))
    if refined is not None:
        policy = GaussianPolicy.from_pretrained(refined / "last")
        own = played(run.task, policy, config.cases, config.steps, config.seed, config.noise)
        states = {"as trained": surrogate, "refreshed": Surrogate.from_pretrained(refined / "surrogate")}
        parts += examine_on("the policy's", own, states, run, config, paid, simulator=simulator)
    found = Examined(weights=weights_of(run.path), simulator=simulator, config=config, parts=tuple(parts))
    publish(folder / AGREEMENT, json.dumps(to_json_dict(found), indent=1).encode())
    return found


def examine_on(
    name: str, stretches: Stretches, surrogates: dict[str, Surrogate], run: LoadedRun, config: AgreementConfig,
    paid: Paid, *, simulator: bool,
) -> Iterator[Part]:  # fmt: skip
    """One part for each state of the surrogate; finite differences are taken once."""
    history = max(run.world.config.history, next(iter(surrogates.values())).config.history)
    batch, actions = stretches.batch(history), stretches.actions
    any_of = next(iter(surrogates.values()))  # all have the same eyes and reward, which a refresh leaves as they are
    truths: dict[str, Truth] = {"the world": world_truth(run.world, any_of, batch, seed=config.seed)}
    if simulator:
        truths["the simulator"] = Simulator(run.task, stretches, paid)
    slopes = {truth: differences(rewards, actions, config.width) for truth, rewards in truths.items()}
    moves = touched(any_of, batch, config.steps, config.touch)
    where = {ALL: torch.ones_like(moves), "touched": moves}
    seen = {
        "the simulator": latents_of(any_of, batch, config.steps),
        "the world": latents_of(any_of, imagined(run.world, batch, actions, seed=config.seed), config.steps),
    }
    for state, surrogate in surrogates.items():
        dreamt = own_rollout(surrogate, seen["the simulator"][:, 0], actions)
        found = [
            errors("the world", surrogate, seen["the world"][:, 1:], batch, run.task, paid),
            errors("the surrogate", surrogate, dreamt, batch, run.task, paid),
        ]
        rows = []
        for truth, true in slopes.items():
            rows += gradient_rows(truth, true, slopes_of(surrogate, Cases(seen[truth], actions)), where, config)
        yield Part(stretches=name, surrogate=state, errors=tuple(found), gradients=tuple(rows))


def load_surrogate(run: Path) -> Surrogate:
    """The surrogate of a run."""
    folder = run / "surrogate"
    if not (folder / Surrogate.weights_file).exists():
        raise UserError(
            f"run {run}",
            rule=f"there is no surrogate in it ({folder})",
            remedy=f"Run `w4rl train surrogate STORE --run {run}` first",
        )
    return Surrogate.from_pretrained(folder)


def weights_of(run: Path) -> str:
    """A short name of the weights of a run's surrogate and world."""
    files = (run / "surrogate" / Surrogate.weights_file, run / "world" / WorldModel.weights_file)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def standing(run: LoadedRun, config: AgreementConfig, store: Path | None = None) -> Examined:
    """What was found before of this very surrogate with these settings, or what is found now."""
    path = run.path / "surrogate" / AGREEMENT
    if path.exists():
        there = from_json_dict(Examined, read_json(path))
        if there.weights == weights_of(run.path) and there.config == config and there.simulator:
            return there
    return examine(run, config, store=store)
