"""May a policy be refined in this world? What its replays say, against limits."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from w4rl_fast.config import from_json_dict, load_config, to_json_dict
from w4rl_fast.data.episode import EpisodeInfo
from w4rl_fast.data.store import Store
from w4rl_fast.errors import UserError
from w4rl_fast.files import publish
from w4rl_fast.reward import RewardModel, load_reward
from w4rl_fast.reward.checkpoint import RULE
from w4rl_fast.reward.train import TrainRewardConfig
from w4rl_fast.truth.failure import Confusion, FailureFidelity, Mistake, measure_failure, replay
from w4rl_fast.truth.held_out import chosen_episodes, held_out, of_task
from w4rl_fast.world.checkpoint import load_world
from w4rl_fast.world.model import WorldModel
from w4rl_fast.world.train import TrainWorldConfig

AUDIT = "audit.json"
PARTS = {"world": WorldModel.weights_file, "reward": RewardModel.weights_file}


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditConfig:
    """What a world has to keep to before a policy is refined in it, over replays of real rollouts.

    At least `least_replays`, `least_failures` of them real failures. `least_agreement` of the outcomes agree;
    `most_optimism` is by how much more of them may succeed in the dream than did, `most_false_successes` how many of
    the failures may.
    """

    least_replays: int = 20
    least_failures: int = 3
    least_agreement: float = 0.8
    most_optimism: float = 0.15
    most_false_successes: float = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """What was found, what it breaks of the limits (nothing: it passes), and a digest of all that was judged."""

    fidelity: FailureFidelity
    complaints: tuple[str, ...]
    digest: str

    @property
    def passes(self) -> bool:
        return not self.complaints

    def __str__(self) -> str:
        each = self.fidelity.imagined
        return (
            f"outcomes of {each.n} replays agree in {each.agreement:.1%}: {each.false_successes} of"
            f" {each.true_failures + each.false_successes} failures succeed in the dream,"
            f" {each.false_failures} of {each.true_successes + each.false_failures} successes fail"
        )


def audit(
    run: Path, store: Store, limits: AuditConfig, which: Callable[[EpisodeInfo], bool] | None = None
) -> tuple[Audit, list[Mistake]]:
    """Replay held-out episodes in the world of a run, and keep what was found in RUN/audit.json; or replay those that
    `which` chooses, on whatever side they are, and keep nothing.
    """
    if missing := missing_parts(run):
        raise UserError(
            f"run {run}", rule=f"there is no trained {missing[0]} in it", remedy=f"Run `w4rl train {missing[0]}` first"
        )
    trained = load_config(run / "world" / "train.json", TrainWorldConfig)
    settings = load_config(run / "reward" / "train.json", TrainRewardConfig)
    if which is None:
        held = held_out(store, trained, horizon=settings.horizon, episodes=len(store), start=0)
    else:
        held = chosen_episodes(store, trained, which, horizon=settings.horizon)
    held = of_task(held, settings.task)
    model, rule = load_reward(run)
    replays = replay(load_world(run), model, rule, held)
    fidelity = measure_failure(replays, rule)
    found = Audit(
        fidelity=fidelity, complaints=complaints(fidelity.imagined, limits), digest=digest_of(run, store, limits)
    )
    if which is None:
        publish(run / AUDIT, json.dumps(to_json_dict(found), indent=2).encode())
    return found, replays.mistakes


def standing_audit(run: Path, store: Store, limits: AuditConfig) -> Audit:
    """The audit that was made of exactly this world, classifier, store and limits, or else a new one."""
    path = run / AUDIT
    if path.exists():
        with contextlib.suppress(ValueError):  # a damaged one is made again
            there = json.loads(path.read_bytes())
            if there.get("digest") == digest_of(run, store, limits):
                return from_json_dict(Audit, there)
    return audit(run, store, limits)[0]


def complaints(each: Confusion, limits: AuditConfig) -> tuple[str, ...]:
    """Which limits are broken, in words."""
    optimism = (each.false_successes - each.false_failures) / each.n
    checks = (
        (
            each.n < limits.least_replays,
            f"{each.n} replays are too few to judge it (least_replays {limits.least_replays})",
        ),
        (
            (failures := each.true_failures + each.false_successes) < limits.least_failures,
            f"{failures} real failures among them are too few (least_failures {limits.least_failures})",
        ),
        (
            each.agreement < limits.least_agreement,
            f"only {each.agreement:.0%} of the outcomes agree (least_agreement {limits.least_agreement:.0%})",
        ),
        (
            optimism > limits.most_optimism,
            f"{optimism:.0%} more succeed in the dream than did (most_optimism {limits.most_optimism:.0%})",
        ),
        (
            (false := each.false_success_rate) > limits.most_false_successes,
            f"{false:.0%} of the failures succeed in the dream (at most {limits.most_false_successes:.0%})",
        ),
    )
    return tuple(said for broken, said in checks if broken)


def digest_of(run: Path, store: Store, limits: AuditConfig) -> str:
    total = hashlib.sha256(f"{store.digest} {limits}".encode())
    for part, weights in PARTS.items():
        for name in (weights, "config.json", "train.json"):
            total.update((run / part / name).read_bytes())
    total.update((run / "reward" / RULE).read_bytes())
    return total.hexdigest()[:16]


def missing_parts(run: Path) -> list[str]:
    """What an audit needs and the run does not have."""
    return [part for part, weights in PARTS.items() if not (run / part / weights).exists()]
