"""The main job on one task, from nothing, as a robot owner would do it; each stage goes on where it stopped."""

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from w4rl_fast import presets
from w4rl_fast.data import Store, WindowConfig, Windows
from w4rl_fast.data.check import check_store
from w4rl_fast.data.collect import CollectConfig, collect
from w4rl_fast.errors import UserError
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.policy import GaussianPolicy, PolicyConfig, policy_actor, policy_digest
from w4rl_fast.policy.clone import CloneConfig, clone
from w4rl_fast.refine.config import PPOConfig
from w4rl_fast.refine.imagined import RefineConfig, refine_run
from w4rl_fast.report.sheet import write_sheet
from w4rl_fast.reward.train import train_reward
from w4rl_fast.run import keep_task
from w4rl_fast.tasks import TaskConfig, default_config
from w4rl_fast.truth.failure import FailureFidelity, failures_of
from w4rl_fast.truth.intervals import Share, wilson
from w4rl_fast.truth.paired import Paired, paired
from w4rl_fast.truth.success import Verdict, judge
from w4rl_fast.world.checkpoint import load_world
from w4rl_fast.world.train import train_world
from w4rl_kernels.threads import physical_cores


@dataclass(frozen=True, kw_only=True, slots=True)
class QuickstartConfig:
    """`minutes` scale what is trained; the defaults are for two cores. No expert but the `demos` is ever asked.

    `rollouts` of the cloned policy: so many episodes at each (noise, bias), whose failures the world has to know.
    """

    task: str = "metaworld/button-press-topdown-v3"
    image_size: int = 48
    demos: int = 2
    rollouts: tuple[tuple[int, float, float], ...] = ((400, 0.5, 0.15), (150, 0.5, 0.4), (150, 0.1, 0.0))
    random: int = 150
    minutes: float = 15.0
    episodes: int = 200
    seed: int = 0
    workers: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))

    def __post_init__(self) -> None:
        if self.minutes < 1 or self.demos < 1 or self.episodes < 1:
            raise ValueError(f"minutes={self.minutes}, demos={self.demos}, episodes={self.episodes}: at least 1 each")


class Quickstart:
    """One run of everything; `stages` are to be called in their order, and each says its key figure."""

    def __init__(self, out: Path, config: QuickstartConfig) -> None:
        self.out, self.config = out, config
        self.data = out / "data"
        self.task: TaskConfig = default_config(config.task, image_size=config.image_size)
        self.verdicts: dict[str, Verdict] = {}
        self.imagined: Share | None = None
        self.fidelity: FailureFidelity | None = None

    @property
    def stages(self) -> dict[str, Callable[[], str]]:
        return {
            "demonstrate": self.demonstrate,
            "clone": self.clone,
            "roll out": self.roll_out,
            "check": self.check,
            "world": self.world,
            "classifier": self.classifier,
            "audit": self.audit,
            "refine": self.refine,
            "prove": self.prove,
        }

    def run(self) -> list[dict[str, object]]:
        """Every stage in its order: its name, seconds and key figure."""
        torch.set_num_threads(physical_cores())
        keep_task(self.out, self.task)
        rows: list[dict[str, object]] = []
        for name, stage in self.stages.items():
            started = time.monotonic()
            figure = stage()
            rows.append({"name": name, "seconds": round(time.monotonic() - started, 1), "figure": figure})
        return rows

    def demonstrate(self) -> str:
        self._collect(CollectConfig(expert=self.config.demos, seed=self.config.seed, workers=1))
        return f"{self.config.demos} demonstrations"

    def clone(self) -> str:
        schema, seed = Store(self.data).schema, self.config.seed
        network = PolicyConfig(
            image_size=schema.image_size, action_dim=schema.action_dim, proprio_dim=schema.proprio_dim
        )
        windows = Windows(
            Store(self.data),
            WindowConfig(
                history=1, future=1, held_out=0.0, sources={"expert": 1.0}, most={"expert": self.config.demos}
            ),
            seed=seed,
        )
        torch.manual_seed(seed)
        settings = CloneConfig()
        settings = dataclasses.replace(settings, fit=dataclasses.replace(settings.fit, seed=seed))
        clone(GaussianPolicy(network), windows, settings, self.out / "policy")
        return f"a policy that has seen {self.config.demos} demonstrations"

    def roll_out(self) -> str:
        for number, (count, noise, bias) in enumerate(self.config.rollouts):
            settings = CollectConfig(
                rollouts=count, noise=noise, bias=bias, seed=3 * self.config.seed + number, workers=self.config.workers
            )
            self._collect(settings)
        self._collect(CollectConfig(random=self.config.random, seed=self.config.seed, workers=self.config.workers))
        infos = [info for info in Store(self.data).infos if info.source == "policy"]
        won = sum(info.succeeded for info in infos)
        return f"{won} of {len(infos)} disturbed rollouts succeed; {self.config.random} random motions"

    def check(self) -> str:
        report = check_store(self.data)
        if report.damage:
            raise UserError(
                f"{self.data / report.damage[0].file}",
                rule=report.damage[0].what,
                remedy=f"Delete {self.data} and run the quickstart again",
            )
        store = Store(self.data)
        some = [store.read(int(number * len(store) / 8)) for number in range(8)]
        write_sheet(some, self.out / "data-sheet.png", self.out / "data-sheet-moving.png")
        return f"{report.rows} frames, every checksum fits"

    def world(self) -> str:
        store = Store(self.data)
        config = presets.quickstart_world(store.schema, self.task, self.config.minutes / 15, self.config.seed)
        train_world(store, config, self.out / "world")
        return f"{config.denoiser.steps} steps of {config.denoiser.batch} windows"

    def classifier(self) -> str:
        store = Store(self.data)
        config = presets.quickstart_reward(store, self.task.name, self.config.minutes / 15, self.config.seed)
        choice = train_reward(store, load_world(self.out), config, self.out / "reward")
        return f"finds {choice.recall[0]:.0%}, errs on {choice.false_positive_rate[0]:.1%} of real episodes kept apart"

    def audit(self) -> str:
        judged = failures_of(self.out, Store(self.data))
        assert judged is not None
        self.fidelity, _ = judged
        each = self.fidelity.imagined
        return f"{each.agreement:.1%} of {each.n} replays agree; {each.false_successes} false successes"

    def refine(self) -> str:
        share = self.config.minutes / 15
        ppo = PPOConfig(steps=self.task.horizon, iterations=max(4, round(24 * share)), seed=self.config.seed)
        config = RefineConfig(ppo=ppo)
        result = refine_run(LoadedRun(self.out), config, store=self.data)
        assert result.score is not None
        self.imagined = wilson(round(result.score * config.judged), config.judged)
        return f"imagined success {result.score:.1%} (held-out starts)"

    def prove(self) -> str:
        for name, folder in (("before", self.out / "policy"), ("after", self.out / "refined" / "best")):
            self.verdicts[name] = judge(
                self.task,
                functools.partial(policy_actor, folder),
                episodes=self.config.episodes,
                workers=self.config.workers,
                keep=8,
            )
        return f"real success {self.gain.difference:+.1%}, p = {self.gain.p:.1g}"

    @property
    def gain(self) -> Paired:
        return paired(self.verdicts["before"].by_seed, self.verdicts["after"].by_seed)

    def summary(self, rows: list[dict[str, object]]) -> Mapping[str, Any]:
        """What a script would read."""
        shares = {name: dataclasses.asdict(verdict.share) for name, verdict in self.verdicts.items()}
        return {
            "task": self.task.name,
            "seed": self.config.seed,
            "stages": rows,
            **shares,
            "imagined_after": dataclasses.asdict(self.imagined) if self.imagined else None,
            "p_paired": self.gain.p,
            "paired": dataclasses.asdict(self.gain),
            "failure_fidelity": dataclasses.asdict(self.fidelity) if self.fidelity else None,
            "real_steps": sum(Store(self.data).lengths) - len(Store(self.data)),
        }

    def _collect(self, config: CollectConfig) -> None:
        of_policy = config.rollouts > 0
        actor = functools.partial(policy_actor, self.out) if of_policy else None
        result = collect(self.data, [self.task], config, actor, policy_digest(self.out) if of_policy else "")
        if result.interrupted:
            raise KeyboardInterrupt
