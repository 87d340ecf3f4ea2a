"""A round of repair: the refined policy shows for real where the world is wrong, and everything learns from that."""

import contextlib
import dataclasses
import functools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from w4rl_fast.config import load_config, save_config
from w4rl_fast.data.collect import CollectConfig, collect
from w4rl_fast.data.episode import ON_AN_ARM
from w4rl_fast.data.store import Store, writing
from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.errors import UserError
from w4rl_fast.files import publish
from w4rl_fast.fit import FitConfig
from w4rl_fast.hub import write_model
from w4rl_fast.imagine.guards import Exploited
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.policy import policy_actor, policy_digest
from w4rl_fast.policy.checkpoint import WEIGHTS, load_policy
from w4rl_fast.policy.clone import CLONE
from w4rl_fast.refine.imagined import REFINED, RefineConfig, dreamt, refine_run
from w4rl_fast.reward import load_reward
from w4rl_fast.reward.train import TrainRewardConfig, train_reward
from w4rl_fast.run import ROUND, ROUND_FILE, keep_store, keep_task, latest, store_of_run
from w4rl_fast.truth.audit import Audit, audit
from w4rl_fast.truth.intervals import Share, wilson
from w4rl_fast.world.checkpoint import load_world
from w4rl_fast.world.train import TrainWorldConfig, train_world

SETTINGS = "repair.json"
ROUNDS, SEEDS = 8, 60
"""Rounds that have seeds of their own, and seeds of a repair: together they stay within those of recorded episodes."""
LEAST = 2
OWN = "own"
"""The best policy of a round's own refinement, which may lose to the one before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairConfig:
    """`rollouts` real episodes of the refined policy, half of them disturbed by `noise` and `bias`.

    World and classifier are trained on with `share` of the windows from rounds of repair, for `world_steps` and
    `reward_steps` of the steps that they were first trained for, at `rate` of that learning rate. There is nothing to
    repair where the undisturbed rollouts succeed in `enough` of all cases. With `recorded`, a store that `w4rl control`
    wrote, nothing is rolled out: what that policy did on an arm is taken.
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
    recorded: Path | None = None
    refine: RefineConfig = RefineConfig()  # noqa: RUF009

    def __post_init__(self) -> None:
        if self.rollouts < 2 or self.workers < 1:
            raise ValueError(f"rollouts={self.rollouts}, workers={self.workers}: at least two episodes, one process")
        if min(self.world_steps, self.reward_steps, self.rate) <= 0 or not 0 < self.share < 1:
            raise ValueError("world_steps, reward_steps and rate are above 0, share between 0 and 1")
        if self.refine.student is not None:
            raise ValueError(f"refine.student={self.refine.student}: a round refines in the world that it repairs")
        if not 0 <= self.seed < SEEDS:
            raise ValueError(f"seed={self.seed}: from 0 to {SEEDS - 1}")

    def collections(self, number: int) -> tuple[CollectConfig, CollectConfig]:
        """What round `number` records: undisturbed episodes, then disturbed ones, each on seeds of their own."""
        half = self.rollouts // 2
        parts = ((self.rollouts - half, 0.0, 0.0), (half, self.noise, self.bias))
        seed = (self.seed * ROUNDS + number % ROUNDS) * len(parts)
        steady, disturbed = (
            CollectConfig(repair=count, noise=noise, bias=bias, seed=seed + part, workers=self.workers)
            for part, (count, noise, bias) in enumerate(parts)
        )
        return steady, disturbed


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """What a round found and did.

    `real` is of the undisturbed rollouts, `before` the old world on all of them, `after` the new one on held-out
    episodes of every policy; `earlier` and `imagined` are what the policy before and the new one dream of in the new
    world, and `kept` is the better one. Without repair there is nothing but the first two.
    """

    number: int
    real: Share
    real_steps: int
    before: Audit
    repaired: bool
    after: Audit | None = None
    earlier: Share | None = None
    imagined: Share | None = None
    kept: Literal["earlier", "new"] | None = None


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
    keep_settings(folder, config)
    store = store_of_run(previous)
    done = roll_out_for_real(previous, store, config, number)
    if done.real.successes < config.enough * done.real.episodes:
        done = learn_from(done, run, previous, folder, store, config)
    save_config(folder / ROUND_FILE, done)
    return done


def keep_settings(folder: Path, config: RepairConfig) -> None:
    """Write the settings into the round, or refuse to go on with others."""
    path = folder / SETTINGS
    if path.exists() and dataclasses.replace(load_config(path, RepairConfig), workers=config.workers) != config:
        raise UserError(
            f"round {folder}", rule=f"it was begun with other settings ({path})", remedy="Give those, or delete it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    save_config(path, config)


def roll_out_for_real(previous: Path, store: Path, config: RepairConfig, number: int) -> Round:
    """Record what the refined policy does, and see whether its world knew."""
    policy = previous / REFINED / "best"
    if config.recorded is not None:
        steady = fresh = take_recorded(config.recorded, store, policy_digest(policy))
    else:
        steady, fresh = roll_out(previous, policy, store, config, number)
    opened = Store(store)
    before, _ = audit(previous, opened, config.refine.audit, lambda info: info.key in fresh)
    lengths = [length for length, key in zip(opened.lengths, opened.keys, strict=True) if key in fresh]
    won = [info.succeeded for info in opened.infos if info.key in steady]
    return Round(
        number=number,
        real=wilson(sum(won), len(won)),
        real_steps=sum(lengths) - len(lengths),
        before=before,
        repaired=False,
    )


def roll_out(previous: Path, policy: Path, store: Path, config: RepairConfig, number: int) -> tuple[set[str], set[str]]:
    """Let a policy act in the simulator; returns the keys of its undisturbed episodes, and of all."""
    task, name, actor = LoadedRun(previous).task, policy_digest(policy), functools.partial(policy_actor, policy)
    names = []
    for settings in config.collections(number):
        if collect(store, [task], settings, actor, name).interrupted:
            raise KeyboardInterrupt
        names.append({job.key for job in settings.jobs(task.name, name)})
    return names[0], names[0] | names[1]


def take_recorded(recorded: Path, store: Path, digest: str) -> set[str]:
    """Put what a policy did on an arm into the store of its run, as episodes of a repair; returns their keys."""
    source = Store(recorded)
    mine = [number for number, info in enumerate(source.infos) if info.origin == f"{digest}{ON_AN_ARM}"]
    if len(mine) < LEAST:
        raise UserError(
            f"store {recorded}",
            rule=f"{len(mine)} of its {len(source)} episodes are of the refined policy {digest}, not at least {LEAST}",
            remedy="Record some: `w4rl control RUN --policy refined --episodes 20`",
        )
    keys = set()
    with writing(store, source.schema, source.index.tasks) as writer:
        for number in mine:
            episode = source.read(number)
            info = dataclasses.replace(episode.info, source="repair")
            writer.add(dataclasses.replace(episode, info=info))
            keys.add(info.key)
    return keys


def learn_from(tried: Round, run: Path, previous: Path, folder: Path, store: Path, config: RepairConfig) -> Round:
    """Train world and classifier on, refine again from the clone, and keep whichever policy dreams better now."""
    opened, before = Store(store), LoadedRun(previous)
    keep_task(folder, before.task)
    keep_store(folder, store)
    write_model(folder / "policy", before.policy)
    publish(folder / "policy" / CLONE, (previous / "policy" / CLONE).read_bytes())
    trained = load_config(run / "world" / "train.json", TrainWorldConfig)
    again = dataclasses.replace(
        trained,
        head=shorter(trained.head, config.world_steps, config.rate),
        denoiser=shorter(trained.denoiser, config.world_steps, config.rate),
        sources=with_share(opened, trained, config.share),
    )
    train_world(opened, again, folder / "world", start=load_world(previous))
    judged = load_config(run / "reward" / "train.json", TrainRewardConfig)
    judged = dataclasses.replace(judged, fit=shorter(judged.fit, config.reward_steps, config.rate))
    train_reward(opened, load_world(folder), judged, folder / "reward", start=load_reward(previous)[0])
    after, _ = audit(folder, opened, config.refine.audit)
    loaded = LoadedRun(folder)
    with contextlib.suppress(Exploited):  # what was best until then is there
        refine_run(loaded, config.refine, force=True)
    earlier, imagined = better(loaded, previous, config)
    kept: Literal["earlier", "new"] = "earlier" if earlier.successes > imagined.successes else "new"
    return dataclasses.replace(tried, repaired=True, after=after, earlier=earlier, imagined=imagined, kept=kept)


def better(run: LoadedRun, previous: Path, config: RepairConfig) -> tuple[Share, Share]:
    """What the policy before and the new one dream of in the repaired world; the better one becomes the best there."""
    refined = run.path / REFINED
    if not (refined / OWN / WEIGHTS).exists():
        write_model(refined / OWN, load_policy(refined / "best"))
    policies = load_policy(previous / REFINED / "best"), load_policy(refined / OWN)
    earlier, imagined = dreamt(run, config.refine, policies)
    write_model(refined / "best", policies[0 if earlier.successes > imagined.successes else 1])
    return earlier, imagined


def with_share(store: Store, config: TrainWorldConfig, share: float) -> dict[str, float]:
    """Shares of all sources that a world learns from: as they are in the store, but for those of repair."""
    rows = Windows(store, WindowConfig(future=config.horizon, held_out=config.held_out)).by_source()
    others = sum(count for source, count in rows.items() if source != "repair")
    return {source: share if source == "repair" else (1 - share) * count / others for source, count in rows.items()}


def shorter(fit: FitConfig, steps: float, rate: float) -> FitConfig:
    return dataclasses.replace(fit, steps=max(1, round(steps * fit.steps)), learning_rate=rate * fit.learning_rate)
