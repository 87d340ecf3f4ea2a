"""The main job on one task, from nothing, as a robot owner would do it; each stage goes on where it stopped."""

import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from w4rl_fast import presets
from w4rl_fast.config import load_config, to_json_dict
from w4rl_fast.data import Store, WindowConfig, Windows
from w4rl_fast.data.check import check_store
from w4rl_fast.data.collect import CollectConfig, collect
from w4rl_fast.distill import DistillConfig, distill_run
from w4rl_fast.distill.choice import fastest_fit, student_folder
from w4rl_fast.distill.compare import CompareConfig, compare
from w4rl_fast.errors import UserError
from w4rl_fast.files import publish, read_json
from w4rl_fast.imagine.export import export_fastest
from w4rl_fast.imagine.guards import Exploited
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.policy import GaussianPolicy, PolicyConfig, policy_actor, policy_digest
from w4rl_fast.policy.clone import CloneConfig, clone
from w4rl_fast.refine.config import PPOConfig
from w4rl_fast.refine.imagined import RefineConfig, refine_run
from w4rl_fast.refine.proof import Judgement, beyond_controls, chosen, gains, keep_proof, prove, summary_of
from w4rl_fast.refine.repair import SEEDS, RepairConfig, Round, repair
from w4rl_fast.report.figures import number
from w4rl_fast.report.sheet import write_sheet
from w4rl_fast.report.students import write_students_report
from w4rl_fast.reward.train import train_reward
from w4rl_fast.run import ROUND_FILE, keep_store, keep_task, latest, rounds
from w4rl_fast.tasks import TaskConfig, default_config
from w4rl_fast.truth.audit import AUDIT, AuditConfig, audit
from w4rl_fast.world.checkpoint import load_world
from w4rl_fast.world.train import train_world
from w4rl_kernels.threads import physical_cores

STAGES = "stages.json"
STUDENT, STUDENT_STEPS, TEACHING = "own", 250, 2.0
"""The student of a run and its steps in the usual time; it is made where there is at least twice as much of that."""
WATCHED = 4
"""Episodes of the last policy that the report shows beside the dream."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuickstartConfig:
    """`minutes` scale what is trained; the defaults are for two cores. From 30 on the world has a student, in which the
    policy is refined if it is fit and sharper. No expert but the `demos` is ever asked.

    `rollouts` of the cloned policy: so many episodes at each (noise, bias), whose failures the world has to know.
    `repair` is how many rounds there are at most, of `repair_rollouts` real episodes each; 0 is strictly offline.
    """

    task: str = "metaworld/button-press-topdown-v3"
    image_size: int = 48
    demos: int = 2
    rollouts: tuple[tuple[int, float, float], ...] = ((400, 0.5, 0.15), (150, 0.5, 0.4), (150, 0.1, 0.0))
    random: int = 150
    repair: int = 1
    repair_rollouts: int = 100
    minutes: float = 15.0
    episodes: int = 200
    seed: int = 0
    workers: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))

    def __post_init__(self) -> None:
        if self.minutes < 1 or self.demos < 1 or self.episodes < 1 or self.repair < 0:
            raise ValueError(
                f"minutes={self.minutes}, demos={self.demos}, episodes={self.episodes}, repair={self.repair}: at least"
                " 1 each, and no rounds of repair or some"
            )
        if not 0 <= self.seed < SEEDS or self.repair_rollouts < 2 or self.random < 1:
            raise ValueError(
                f"seed={self.seed}, repair_rollouts={self.repair_rollouts}, random={self.random}: a seed from 0 to"
                f" {SEEDS - 1}, two rollouts and one random episode at least"
            )

    @property
    def identity(self) -> dict[str, Any]:
        """What may not change between two calls on one run."""
        free = ("repair", "workers", "episodes")
        return {name: value for name, value in to_json_dict(self).items() if name not in free}


@dataclass(frozen=True, kw_only=True, slots=True)
class StageRow:
    """A finished stage."""

    name: str
    seconds: float
    figure: str


class Quickstart:
    """One run of everything; `stages` are to be called in their order, and each says its key figure."""

    def __init__(self, out: Path, config: QuickstartConfig) -> None:
        self.out, self.config = out, config
        self.share = config.minutes / 15
        self.data = out / "data"
        self.task: TaskConfig = default_config(config.task, image_size=config.image_size)
        self.judged: dict[str, Judgement] = {}

    @property
    def stages(self) -> dict[str, Callable[[], str]]:
        again = {f"repair {n}": functools.partial(self.repair, n) for n in range(1, self.config.repair + 1)}
        return {
            "demonstrate": self.demonstrate,
            "clone": self.clone,
            "roll out": self.roll_out,
            "check": self.check,
            "world": self.world,
            "classifier": self.classifier,
            "audit": self.audit,
            **({"student": self.student} if self.share >= TEACHING else {}),
            "engine": self.engine,
            "refine": self.refine,
            **again,
            "prove": self.prove,
        }

    def run(self, threads: int | None = None) -> list[StageRow]:
        """Every stage in its order; those that an earlier call finished are not run again, but for the proof."""
        torch.set_num_threads(threads or physical_cores())
        keep_task(self.out, self.task)
        keep_store(self.out, self.data)
        rows = {row.name: row for row in self.finished()}
        if len(rounds(self.out)) > self.config.repair:
            raise UserError(
                f"repair {self.config.repair}",
                rule=f"{self.out} has {len(rounds(self.out))} rounds of repair behind it",
                remedy="Ask for as many or more, or choose another --out",
            )
        for name, stage in self.stages.items():
            if name in rows and name != "prove":
                continue
            started = time.monotonic()
            figure = stage()
            rows[name] = StageRow(name=name, seconds=round(time.monotonic() - started, 1), figure=figure)
            done = {"settings": self.config.identity, "stages": [dataclasses.asdict(row) for row in rows.values()]}
            publish(self.out / STAGES, json.dumps(done, indent=2).encode())
        return [rows[name] for name in self.stages]

    def finished(self) -> list[StageRow]:
        """What earlier calls did; a run that was begun with other settings is refused."""
        path = self.out / STAGES
        if not path.exists():
            return []
        there = read_json(path)
        others = [name for name, value in self.config.identity.items() if there["settings"].get(name) != value]
        if others:
            raise UserError(
                f"run {self.out}",
                rule=f"it was begun with another {', '.join(others)} ({path})",
                remedy="Give the same settings to go on with it, or another --out",
            )
        return [StageRow(**row) for row in there["stages"]]

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
        for part, (count, noise, bias) in enumerate(self.config.rollouts):
            settings = CollectConfig(
                rollouts=count, noise=noise, bias=bias, seed=3 * self.config.seed + part, workers=self.config.workers
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
        config = presets.quickstart_world(store.schema, self.task, self.share, self.config.seed)
        train_world(store, config, self.out / "world")
        return f"{config.denoiser.steps} steps of {config.denoiser.batch} windows"

    def classifier(self) -> str:
        store = Store(self.data)
        config = presets.quickstart_reward(store, self.task.name, self.share, self.config.seed)
        choice = train_reward(store, load_world(self.out), config, self.out / "reward")
        return f"finds {choice.recall[0]:.0%}, errs on {choice.false_positive_rate[0]:.1%} of real episodes kept apart"

    def audit(self) -> str:
        found, _ = audit(self.out, Store(self.data), AuditConfig())
        each = found.fidelity.imagined
        said = f"{each.agreement:.1%} of {each.n} replays agree; {each.false_successes} false successes"
        return said if found.passes else f"{said}; it fails: {'; '.join(found.complaints)}"

    def student(self) -> str:
        """A world that learns to go on from its own frames, judged by the gate."""
        store, teacher = Store(self.data), load_world(self.out)
        fit = DistillConfig(student=teacher.config).fit
        fit = dataclasses.replace(fit, steps=round(STUDENT_STEPS * self.share), seed=self.config.seed)
        distill_run(self.out, store, DistillConfig(student=teacher.config, fit=fit), STUDENT)
        found = compare(self.out, store, CompareConfig(workers=self.config.workers, naive=()))
        write_students_report(self.out, found, f"w4rl quickstart --out {self.out}")
        rows = {row.name: row for row in found.rows}
        first, last = (rows[name].truth.fidelity.psnr_moving[-1] for name in ("teacher", STUDENT))
        said = f"moving pixels {number(last, 1, ' dB')} at the last step (teacher {number(first, 1, ' dB')})"
        if why := rows[STUDENT].why:
            return f"{said}; not fit: {'; '.join(why)}"
        return f"{said}; fit, and {'imagined in' if fastest_fit(self.out) else 'no better'}"

    def engine(self) -> str:
        """What imagines in the refinement."""
        student = fastest_fit(self.out)
        return export_fastest(LoadedRun(student_folder(self.out, student) if student else self.out))

    def refine(self) -> str:
        config = dataclasses.replace(self.refinement(0), student=fastest_fit(self.out))
        try:
            result = refine_run(LoadedRun(self.out), config, force=True)
        except Exploited as error:
            return f"stopped, the best until then is kept: {error.value}"
        assert result.score is not None
        return f"imagined success {result.score:.1%} (held-out starts)"

    def refinement(self, number: int) -> RefineConfig:
        """The settings of the first refinement, or of the one after a round of repair."""
        iterations, seed = max(4, round(24 * self.share)), self.config.seed + number
        return RefineConfig(ppo=PPOConfig(steps=self.task.horizon, iterations=iterations, enough=0.98, seed=seed))

    def repair(self, number: int) -> str:
        config = RepairConfig(
            rollouts=self.config.repair_rollouts,
            workers=self.config.workers,
            seed=self.config.seed,
            refine=self.refinement(number),
        )
        done = repair(self.out, config, number)
        real = f"{done.real.successes} of {done.real.episodes} real rollouts succeed"
        if not done.repaired:
            return f"{real}: nothing to repair"
        assert done.imagined is not None
        assert done.earlier is not None
        assert done.after is not None
        before, after = done.before.fidelity.imagined, done.after.fidelity.imagined
        dreams = max(done.earlier.successes, done.imagined.successes) / done.imagined.episodes
        return (
            f"{real}; {before.agreement:.0%} of their replays agreed, of all held-out ones {after.agreement:.0%} now;"
            f" the {done.kept} policy is kept, imagined success {dreams:.0%}"
        )

    def prove(self) -> str:
        policies = chosen(self.out, before=True, after=True, controls=True)
        self.judged = prove(
            self.out, policies, episodes=self.config.episodes, workers=self.config.workers, watch=WATCHED
        )
        keep_proof(self.out, {"task": self.task.name, "policies": summary_of(self.judged, gains(self.judged))})
        gain = gains(self.judged)[self.last]
        return f"real success {gain.difference:+.1%}, p = {gain.p:.1g}"

    @property
    def last(self) -> str:
        """The name of the policy that everything ended with."""
        end = latest(self.out)
        return "refined" if end == self.out else end.name

    def summary(self, rows: list[StageRow]) -> Mapping[str, Any]:
        """What a script would read; `after` is the last policy, `offline` the one refined before any repair."""
        store, compared = Store(self.data), gains(self.judged)
        steps: dict[str, int] = {}
        for info, length in zip(store.infos, store.lengths, strict=True):
            steps[info.source] = steps.get(info.source, 0) + length - 1
        last, imagined = compared[self.last], self.judged[self.last].imagined
        assert imagined is not None
        done = [to_json_dict(load_config(folder / ROUND_FILE, Round)) for folder in rounds(self.out)]
        return {
            "task": self.task.name,
            "seed": self.config.seed,
            "stages": [dataclasses.asdict(row) for row in rows],
            "before": dataclasses.asdict(self.judged["cloned"].real.share),
            "after": dataclasses.asdict(self.judged[self.last].real.share),
            "imagined_after": dataclasses.asdict(imagined),
            "p_paired": last.p,
            "offline": summary_of(self.judged, compared)["refined"],
            "policies": summary_of(self.judged, compared),
            "against_controls": {name: dataclasses.asdict(gain) for name, gain in beyond_controls(self.judged).items()},
            "audit": read_json(latest(self.out) / AUDIT),
            "rounds": done,
            "real_steps": {**steps, "all": sum(steps.values())},
        }

    def _collect(self, config: CollectConfig) -> None:
        of_policy = config.rollouts > 0
        actor = functools.partial(policy_actor, self.out) if of_policy else None
        result = collect(self.data, [self.task], config, actor, policy_digest(self.out) if of_policy else "")
        if result.interrupted:
            raise KeyboardInterrupt
