"""Refine the policy of a run by first-order gradients, in the worlds that the run imagines."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from w4rl_fast.config import load_config, save_config
from w4rl_fast.data.store import Store
from w4rl_fast.errors import UserError
from w4rl_fast.files import publish
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.imagine.rollout import Sight
from w4rl_fast.imagine.worlds import Worlds
from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.refine.checkpoint import CHECKPOINT, digest
from w4rl_fast.refine.config import FoGConfig
from w4rl_fast.refine.first_order import FirstOrder
from w4rl_fast.refine.imagined import ENGINE, HELD_OUT_SEED, engine_before, require_same
from w4rl_fast.refine.loop import Result, refine
from w4rl_fast.surrogate.agreement import AgreementConfig
from w4rl_fast.surrogate.examine import load_surrogate, standing
from w4rl_fast.surrogate.model import Surrogate
from w4rl_fast.surrogate.train import TRAIN, TrainSurrogateConfig, tracks_of

FOG, SETTINGS = "fog", "fog.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class RefineFoGConfig:
    """First-order refinement in worlds that begin where recorded episodes do, or at `any` of their moments, as `rows`
    says; `judged` held-out ones choose the best policy by what it earns there. A surrogate is refused whose gradients
    agree with finite differences by less than a mean cosine of `agree` at the longest horizon that was examined, up to
    that of the refinement.
    """

    fog: FoGConfig = FoGConfig()  # noqa: RUF009
    agreement: AgreementConfig = AgreementConfig()  # noqa: RUF009
    agree: float = 0.5
    rows: Literal["first", "any"] = "first"
    judged: int = 64
    slice_size: int = 32


def refine_fog(
    run: LoadedRun, config: RefineFoGConfig, *, store: Path | None = None, force: bool = False, scratch: bool = False
) -> Result:
    """Refine RUN/policy, or a policy that knows nothing, into RUN/fog, going on where an earlier call was interrupted;
    `force` refines with a surrogate that does not agree too.
    """
    folder, surrogate = run.path / FOG, load_surrogate(run.path)
    require_same(folder / SETTINGS, config)
    require_horizon(run, config.fog)
    require_agreement(run, config, store, force=force)
    start = fresh(surrogate, config.fog) if scratch else run.policy
    engine = engine_before(folder)
    common: dict[str, Any] = {
        "store": store, "slice_size": config.slice_size, "ends": False, "engine": engine, "rows": config.rows
    }  # fmt: skip
    worlds = run.imagination(num_worlds=config.fog.worlds, horizon=config.fog.steps, **common)
    held_out = run.imagination(
        num_worlds=config.judged, horizon=config.fog.steps, side="held-out", autoreset=False, **common
    )
    trained = load_config(run.path / "surrogate" / TRAIN, TrainSurrogateConfig)
    tracks = tracks_of(surrogate, Store(run.open_store(store).path), trained) if config.fog.refreshes else None
    fog = FirstOrder(
        start, surrogate, worlds, config.fog, folder, tracks=tracks, origin=f"{digest(run.world)} {worlds.engine}"
    )
    save_config(folder / SETTINGS, config)  # not before every part has been found to fit
    if not (folder / CHECKPOINT).exists():
        publish(folder / ENGINE, json.dumps({"engine": worlds.engine}).encode())
    return refine(fog, lambda policy: imagined_return(policy, surrogate, held_out))


def fresh(surrogate: Surrogate, config: FoGConfig) -> GaussianPolicy:
    """A policy that has learnt nothing, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return surrogate.policy(std=config.std)


@torch.no_grad()
def imagined_return(policy: GaussianPolicy, surrogate: Surrogate, worlds: Worlds) -> float:
    """Mean reward of a step, as the surrogate reads it, when the policy acts by its mean from held-out starts."""
    worlds.reset(HELD_OUT_SEED)
    sight, earned = Sight(worlds, policy.config.history), 0.0
    for _ in range(worlds.config.horizon):
        mean, _ = policy(*sight.look(worlds))
        worlds.advance(mean)
        earned += float(surrogate.reward(surrogate.encode(*sight.look(worlds))).mean())
    return earned / worlds.config.horizon


def require_horizon(run: LoadedRun, config: FoGConfig) -> None:
    """Refuse to imagine for longer than the world was trained to be rolled out."""
    trained, _ = run.training()
    if trained is not None and config.steps > trained:
        raise UserError(
            f"steps={config.steps}",
            rule=f"the world of {run.path} was trained for {trained} steps",
            remedy=f"Use --set fog.steps={trained - trained % config.horizon}, or train a world with a longer horizon",
        )


def require_agreement(run: LoadedRun, config: RefineFoGConfig, store: Path | None, *, force: bool) -> None:
    """Refuse a surrogate whose derivatives point elsewhere."""
    if force or config.fog.roll == "surrogate":
        return
    asked = dataclasses.replace(config.agreement, steps=min(config.agreement.steps, config.fog.horizon))
    cosine = standing(run, asked, store).cosine(config.fog.horizon)
    if cosine < config.agree:
        raise UserError(
            f"the surrogate of {run.path}, whose gradients have a mean cosine of {cosine:.2f}",
            rule=f"with finite differences it is at least {config.agree:g} at {asked.steps} steps",
            remedy=f"Look at `w4rl evaluate surrogate {run.path}`; train it longer or on more data, or use --force",
        )
