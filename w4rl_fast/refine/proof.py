"""What every policy of a run is worth: in the real simulator, on the same held-out seeds, and in the dream."""

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from w4rl_fast.config import load_config
from w4rl_fast.errors import UserError
from w4rl_fast.files import publish
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.policy import policy_actor, policy_digest
from w4rl_fast.policy.checkpoint import load_policy
from w4rl_fast.refine.controls import CONTROLS, train_controls
from w4rl_fast.refine.fog import FOG
from w4rl_fast.refine.imagined import REFINED, SETTINGS, RefineConfig, dreamt
from w4rl_fast.run import latest, task_of_run
from w4rl_fast.tasks.reward import closeness_of
from w4rl_fast.truth.intervals import Share
from w4rl_fast.truth.paired import Paired, paired
from w4rl_fast.truth.returns import Earned, Returns
from w4rl_fast.truth.success import FIRST_SEED, Verdict, judge

PROOF = "policy-success.json"


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy, and the run in whose world it is imagined; None where there is no world yet."""

    policy: Path
    world: Path | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """Real success of a policy on held-out seeds, and imagined success from held-out starts."""

    digest: str
    real: Verdict
    imagined: Share | None

    @property
    def gap(self) -> float | None:
        """Imagined minus real success."""
        if self.imagined is None:
            return None
        share = self.real.share
        return self.imagined.successes / self.imagined.episodes - share.successes / share.episodes


def contenders(run: Path) -> dict[str, Contender]:
    """The cloned policy, the one refined without any repair, the one that the last round of repair ended with, and the
    one refined by first-order gradients, whose imagined worlds know no success.
    """
    refined, last = run / REFINED / "best", latest(run)
    there = {"cloned": Contender(run / "policy", run if refined.exists() else None)}
    if refined.exists():
        there["refined"] = Contender(refined, run)
    if last != run:
        there[last.name] = Contender(last / REFINED / "best", last)
    if (first_order := run / FOG / "best").exists():
        there["first-order"] = Contender(first_order, None)
    return there


def contender(run: Path, name: str) -> tuple[str, Contender]:
    """A policy of a run by its name; `last` is the newest, which is told by its own."""
    there = contenders(run)
    if name == "last":
        return list(there.items())[-1]
    if name not in there:
        raise UserError(f"policy {name!r} of {run}", rule="there is none", remedy=f"There are: {', '.join(there)}")
    return name, there[name]


def chosen(run: Path, *, before: bool, after: bool, controls: bool) -> dict[str, Contender]:
    """Those that were asked for; controls are trained first where they are missing."""
    there = contenders(run)
    if after and len(there) == 1:
        raise UserError(f"run {run}", rule="no policy was refined in it", remedy=f"Run `w4rl refine ppo {run}` first")
    wanted = {name: each for name, each in there.items() if (before if name == "cloned" else after)}
    if controls and len(there) == 1:
        raise UserError(
            f"run {run}", rule="no policy was refined in it", remedy="Controls learn as long as one that was"
        )
    if controls:
        last = latest(run)
        wanted |= {name: Contender(folder, last) for name, folder in train_controls(run).items()}
    return wanted


def prove(
    run: Path,
    policies: Mapping[str, Contender],
    *,
    episodes: int,
    workers: int,
    first_seed: int = FIRST_SEED,
    keep: int = 8,
    watch: int = 0,
) -> dict[str, Judgement]:
    """Judge every policy on the same seeds; keeps `keep` failures and the first `watch` episodes of each to look at."""
    task = task_of_run(run)
    digests = {name: policy_digest(each.policy) for name, each in policies.items()}
    dreams = imagined_of(policies)
    judged: dict[str, Judgement] = {}
    for name, each in policies.items():
        real = judge(
            task,
            functools.partial(policy_actor, each.policy),
            episodes=episodes,
            workers=workers,
            first_seed=first_seed,
            keep=keep,
            watch=watch,
            name=f"judge {name}",
        )
        judged[name] = Judgement(digests[name], real, dreams.get(name))
    return judged


def imagined_of(policies: Mapping[str, Contender]) -> dict[str, Share]:
    """The imagined success of each policy that has a world, with the settings of the refinement there."""
    found: dict[str, Share] = {}
    for world in {each.world for each in policies.values() if each.world is not None}:
        here = {name: load_policy(each.policy) for name, each in policies.items() if each.world == world}
        settings = load_config(world / REFINED / SETTINGS, RefineConfig)
        found |= zip(here, dreamt(LoadedRun(world), settings, list(here.values())), strict=True)
    return found


def earned(run: Path, policies: Mapping[str, Contender], *, episodes: int, first_seed: int) -> dict[str, Earned]:
    """What every policy earns for real on the same seeds, where the task has a dense reward."""
    task = task_of_run(run)
    if closeness_of(task) is None:
        return {}
    returns = Returns(task, episodes=episodes, first_seed=first_seed)
    return {name: returns(load_policy(each.policy)) for name, each in policies.items()}


def gains(judged: Mapping[str, Judgement], before: str = "cloned") -> dict[str, Paired]:
    """Every other policy against one of them, seed by seed."""
    first = judged[before].real.by_seed
    return {name: paired(first, each.real.by_seed) for name, each in judged.items() if name != before}


def beyond_controls(judged: Mapping[str, Judgement]) -> dict[str, Paired]:
    """The last policy that is no control against each control, seed by seed."""
    last = [name for name in judged if name not in CONTROLS][-1]
    controls = [name for name in CONTROLS if name in judged]
    return {name: paired(judged[name].real.by_seed, judged[last].real.by_seed) for name in controls}


def summary_of(judged: Mapping[str, Judgement], compared: Mapping[str, Paired]) -> dict[str, Any]:
    """What a script would read of each policy."""
    return {
        name: {
            "policy": each.digest,
            **asdict(each.real.share),
            "imagined": None if each.imagined is None else asdict(each.imagined),
            "gap": each.gap,
            "against_cloned": asdict(compared[name]) if name in compared else None,
        }
        for name, each in judged.items()
    }


def keep_proof(run: Path, summary: Mapping[str, Any]) -> Path:
    publish(run / PROOF, json.dumps(summary, indent=2).encode())
    return run / PROOF
