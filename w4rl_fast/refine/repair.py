"""A round of repair: the refined policy shows for real where the world is wrong, and everything learns from that."""

import contextlib
import dataclasses
import functools
import os
from dataclasses import dataclass, field
from pathlib import Path

from w4rl_fast.config import load_config, save_config
from w4rl_fast.data.collect import CollectConfig, collect
from w4rl_fast.data.episode import EpisodeInfo
from w4rl_fast.data.store import Store
from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.errors import UserError
from w4rl_fast.fit import FitConfig
from w4rl_fast.hub import write_model
from w4rl_fast.imagine.guards import Exploited
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.policy import policy_actor, policy_digest
from w4rl_fast.policy.checkpoint import load_policy
from w4rl_fast.refine.imagined import REFINED, RefineConfig, dreamt, refine_run
from w4rl_fast.reward import load_reward
from w4rl_fast.reward.train import TrainRewardConfig, train_reward
from w4rl_fast.run import ROUND, ROUND_FILE, keep_store, keep_task, latest, store_of_run
from w4rl_fast.truth.audit import Audit, AuditConfig, audit
from w4rl_fast.truth.intervals import Share, wilson
from w4rl_fast.world.checkpoint import load_world
from w4rl_fast.world.train import TrainWorldConfig, train_world


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairConfig:
    """`rollouts` real episodes of the refined policy, half of them disturbed by `noise` and `bias`.

    World and classifier are trained on with `share` of the windows from rounds of repair, for `world_steps` and
    `reward_steps` of their steps at `rate` of their learning rate. There is nothing to repair where the old world
    passes its audit on these rollouts and the undisturbed ones succeed in `enough` of all cases.
    """

    rollouts: int = 100
    noise: float = 0.5
    bias: float = 0.15
    world_steps: float = 0.35
    reward_steps: float = 0.6
    rate: float = 0.5
    share: float = 0.3
    enough: float = 0.95
    workers: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    seed: int = 0
    audit: AuditConfig = AuditConfig()  # noqa: RUF009
    refine: RefineConfig = RefineConfig()  # noqa: RUF009

    def __post_init__(self) -> None:
        if self.rollouts < 2 or self.workers < 1:
            raise ValueError(f"rollouts={self.rollouts}, workers={self.workers}: at least two episodes, one process")
        if min(self.world_steps, self.reward_steps, self.rate) <= 0 or not 0 < self.share < 1:
            raise ValueError("world_steps, reward_steps and rate are above 0, share between 0 and 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """What a round found and did.

    `real` is of the undisturbed rollouts, `before` the old world on all of them, `after` the new one on held-out
    episodes; `earlier` and `imagined` are what the policy before and the new one dream of in the new world. Without
    repair there is nothing but the first two.
    """

    number: int
    real: Share
    real_steps: int
    before: Audit
    repaired: bool
    after: Audit | None = None
    earlier: Share | None = None
    imagined: Share | None = None


def repair(run: Path, config: RepairConfig, number: int) -> Round:
    """Do one round, beginning where the one before it ended, or go on where an earlier call was interrupted.

    It lies in RUN/repair-NUMBER, a run of its own.
    """
    folder = run / f"{ROUND}{number}"
    if (folder / ROUND_FILE).exists():
        return load_config(folder / ROUND_FILE, Round)
    previous = latest(run)
    if not (previous / REFINED / "best").exists():
        raise UserError(
            f"run {previous}", rule="there is no refined policy in it", remedy=f"Run `w4rl refine ppo {previous}` first"
        )
    store = store_of_run(previous)
    tried = roll_out_for_real(previous, store, config, number)
    if tried.before.passes and tried.real.successes >= config.enough * tried.real.episodes:
        done = tried
    else:
        done = learn_from(tried, previous, folder, store, config)
    folder.mkdir(parents=True, exist_ok=True)
    save_config(folder / ROUND_FILE, done)
    return done


def roll_out_for_real(previous: Path, store: Path, config: RepairConfig, number: int) -> Round:
    """Record what the refined policy does, and see whether its world knew."""
    loaded, policy = LoadedRun(previous), previous / REFINED / "best"
    name, half = policy_digest(policy), config.rollouts // 2
    for count, noise, bias in ((config.rollouts - half, 0.0, 0.0), (half, config.noise, config.bias)):
        settings = CollectConfig(
            repair=count, noise=noise, bias=bias, seed=8 * config.seed + number, workers=config.workers
        )
        if collect(store, [loaded.task], settings, functools.partial(policy_actor, policy), name).interrupted:
            raise KeyboardInterrupt
    opened = Store(store)

    def is_new(info: EpisodeInfo) -> bool:
        return info.source == "repair" and info.origin.startswith(name)

    infos = [info for info in opened.infos if is_new(info)]
    steady = [info.succeeded for info in infos if info.origin.endswith("noise=0 bias=0")]
    lengths = [length for length, info in zip(opened.lengths, opened.infos, strict=True) if is_new(info)]
    before, _ = audit(previous, opened, config.audit, is_new)
    real = wilson(sum(steady), len(steady))
    return Round(number=number, real=real, real_steps=sum(lengths) - len(lengths), before=before, repaired=False)


def learn_from(tried: Round, previous: Path, folder: Path, store: Path, config: RepairConfig) -> Round:
    """Train world and classifier on, refine again from the clone, and keep whichever policy dreams better now."""
    opened, before = Store(store), LoadedRun(previous)
    keep_task(folder, before.task)
    keep_store(folder, store)
    write_model(folder / "policy", before.policy)
    trained = load_config(previous / "world" / "train.json", TrainWorldConfig)
    again = dataclasses.replace(
        trained,
        head=shorter(trained.head, config.world_steps, config.rate),
        denoiser=shorter(trained.denoiser, config.world_steps, config.rate),
        sources=with_share(opened, trained, config.share),
    )
    train_world(opened, again, folder / "world", start=load_world(previous))
    judged = load_config(previous / "reward" / "train.json", TrainRewardConfig)
    judged = dataclasses.replace(judged, fit=shorter(judged.fit, config.reward_steps, config.rate))
    train_reward(opened, load_world(folder), judged, folder / "reward", start=load_reward(previous)[0])
    after, _ = audit(folder, opened, config.audit)
    loaded = LoadedRun(folder)
    with contextlib.suppress(Exploited):  # what was best until then is there
        refine_run(loaded, config.refine, force=True)
    earlier, imagined = better(loaded, previous, config)
    return dataclasses.replace(tried, repaired=True, after=after, earlier=earlier, imagined=imagined)


def better(run: LoadedRun, previous: Path, config: RepairConfig) -> tuple[Share, Share]:
    """What the policy before and the new one dream of in the repaired world; the better one becomes the best there."""
    policies = [load_policy(folder / REFINED / "best") for folder in (previous, run.path)]
    earlier, imagined = (dreamt(run, config.refine, policy) for policy in policies)
    if earlier.successes > imagined.successes:
        write_model(run.path / REFINED / "best", policies[0])
    return earlier, imagined


def with_share(store: Store, config: TrainWorldConfig, share: float) -> dict[str, float]:
    """Shares of all sources that a world learns from: as they are in the store, but for those of repair."""
    windows = Windows(store, WindowConfig(future=config.horizon, held_out=config.held_out))
    rows = windows.by_source()
    others = sum(count for source, count in rows.items() if source != "repair")
    return {source: share if source == "repair" else (1 - share) * count / others for source, count in rows.items()}


def shorter(fit: FitConfig, steps: float, rate: float) -> FitConfig:
    return dataclasses.replace(fit, steps=max(1, round(steps * fit.steps)), learning_rate=rate * fit.learning_rate)
