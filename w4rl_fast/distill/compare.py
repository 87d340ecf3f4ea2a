"""Teacher, teacher in fewer steps, and students: how true each is, and what a frame of it costs."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from torch import Tensor

from w4rl_fast.config import load_config
from w4rl_fast.data.store import Store
from w4rl_fast.distill.cost import Cost, measure_costs
from w4rl_fast.distill.exam import Answer, Exam, ask_others
from w4rl_fast.distill.folder import STUDENTS, copy_parts, students_of
from w4rl_fast.distill.student import resampled
from w4rl_fast.errors import UserError
from w4rl_fast.reward import load_reward
from w4rl_fast.reward.train import TrainRewardConfig
from w4rl_fast.truth.audit import missing_parts
from w4rl_fast.truth.blend import find_contacts
from w4rl_fast.truth.gate import GateConfig, Truth, complaints, keep_gate
from w4rl_fast.truth.held_out import HeldOut, held_out, of_task
from w4rl_fast.world.checkpoint import load_world
from w4rl_fast.world.model import WorldModel
from w4rl_fast.world.train import TrainWorldConfig

Kind = Literal["teacher", "naive", "student"]
RESPONSE_STEPS = 5
"""Steps over which the response to other actions is measured."""
MOST_FILMS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareConfig:
    """At most `episodes` held-out rollouts, and `simulated` starts from which the simulator takes other actions, in
    `workers` processes; `seed` of the noise. The teacher is drawn in the numbers of steps of `naive` too.
    """

    episodes: int = 100
    simulated: int = 24
    workers: int = 2
    seed: int = 0
    naive: tuple[int, ...] = (1, 2, 3)
    gate: GateConfig = GateConfig()  # noqa: RUF009


class Contestant(NamedTuple):
    """A world under the name by which it is shown."""

    name: str
    kind: Kind
    world: WorldModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """By how many dB the last step is better than another world's on moving pixels, over the episodes that both have:
    the mean and its 95 % interval.
    """

    mean: float
    low: float
    high: float
    episodes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One world of the comparison; `why` it is not fit, if it is a student, and its `gain` over the teacher drawn
    naively in one step, which has none itself.
    """

    name: str
    kind: Kind
    steps: int
    weights: int
    truth: Truth
    cost: Cost
    gain: Gain | None
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Film:
    """One episode to look at: real (H + 1, 3, S, S) from the present on, and (H, 3, S, S) of each world, in their
    order.
    """

    title: str
    real: Tensor
    imagined: list[Tensor]


@dataclass(frozen=True, slots=True)
class Comparison:
    """All worlds, the teacher first; what their response to actions was measured against; and films."""

    rows: list[Row]
    referee: str
    films: list[Film]


def compare(run: Path, store: Store, config: CompareConfig) -> Comparison:
    """Ask teacher, naive samplers and students of a run the same, and write down what the gate says of each student."""
    worlds = contestants(run, config.naive)
    exam = set_exam(run, store, worlds[0].world, config)
    answers = [exam.take(each.world) for each in worlds]
    costs = measure_costs([each.world for each in worlds], exam.reward, next(exam.held.batches()))
    first, baseline = answers[0], naive_of(worlds, answers)
    rows = [
        Row(
            name=each.name,
            kind=each.kind,
            steps=each.world.config.sampling.steps,
            weights=sum(parameter.numel() for parameter in each.world.parameters()),
            truth=answer.truth,
            cost=cost,
            gain=None if baseline is None or answer is baseline else gain(answer.last, baseline.last),
            why=complaints(answer.truth, first.truth, config.gate) if each.kind == "student" else (),
        )
        for each, answer, cost in zip(worlds, answers, costs, strict=True)
    ]
    for row, answer in zip(rows, answers, strict=True):
        if row.kind == "student":
            folder = run / STUDENTS / row.name
            copy_parts(run, folder)
            over = gain(answer.last, first.last)
            keep_gate(
                folder, row.why, row.truth, first.truth, config.gate, time_share=row.cost.share,
                sharper=over is not None and over.low > 0,
            )  # fmt: skip
    return Comparison(rows, exam.others.referee, films_of(exam, answers))


def contestants(run: Path, naive: tuple[int, ...]) -> list[Contestant]:
    """The teacher, the teacher in other numbers of steps, and every finished student."""
    if missing := missing_parts(run):
        raise UserError(
            f"run {run}", rule=f"there is no trained {missing[0]} in it", remedy=f"Run `w4rl train {missing[0]}` first"
        )
    teacher = load_world(run)
    return [
        Contestant("teacher", "teacher", teacher),
        *(
            Contestant(f"naive {steps}", "naive", resampled(teacher, steps))
            for steps in naive
            if steps != teacher.config.sampling.steps
        ),
        *(Contestant(folder.name, "student", load_world(folder)) for folder in students_of(run)),
    ]


def set_exam(run: Path, store: Store, teacher: WorldModel, config: CompareConfig) -> Exam:
    """Whole held-out episodes from their beginning, as an audit replays them."""
    reward, rule = load_reward(run)
    trained = load_config(run / "world" / "train.json", TrainWorldConfig)
    settings = load_config(run / "reward" / "train.json", TrainRewardConfig)

    def most(count: int, horizon: int) -> HeldOut:
        every = of_task(held_out(store, trained, horizon=horizon, episodes=len(store), start=0), settings.task)
        return dataclasses.replace(every, chosen=every.chosen[:count])

    held = most(config.episodes, settings.horizon)
    starts = most(config.simulated, min(RESPONSE_STEPS, settings.horizon))
    others = ask_others(teacher, starts, store, workers=config.workers, seed=config.seed)
    return Exam(
        held=held, contacts=find_contacts(held), others=others, reward=reward, rule=rule,
        shown=first_of_each(held), seed=config.seed,
    )  # fmt: skip


def naive_of(worlds: list[Contestant], answers: list[Answer]) -> Answer | None:
    """The answer of the teacher in one step, if it was asked."""
    one_step = [each.kind != "student" and each.world.config.sampling.steps == 1 for each in worlds]
    return answers[one_step.index(True)] if any(one_step) else None


def gain(mine: Tensor, theirs: Tensor) -> Gain | None:
    """By how much the figures of episodes (E,) are better than those of another world, NaN being none."""
    apart = (mine - theirs).double()
    apart = apart[~apart.isnan()]
    if len(apart) < 2:
        return None
    mean, reach = float(apart.mean()), 1.959964 * float(apart.std()) / math.sqrt(len(apart))
    return Gain(mean=mean, low=mean - reach, high=mean + reach, episodes=len(apart))


def first_of_each(held: HeldOut) -> tuple[int, ...]:
    """The rows of the first episode of each source and outcome."""
    firsts: dict[tuple[str, bool], int] = {}
    for row, info in enumerate(held.infos):
        firsts.setdefault((info.source, info.succeeded), row)
    return tuple(sorted(firsts.values())[:MOST_FILMS])


def films_of(exam: Exam, answers: list[Answer]) -> list[Film]:
    """What is to be looked at, of every world."""
    held, rows = exam.held, np.array(exam.shown)
    seen = held.windows.gather(held.chosen[rows], np.full(len(rows), held.start))
    reals = seen.frames[:, held.windows.config.history - 1 :]
    infos = [held.infos[row] for row in exam.shown]
    titles = [f"{info.source}, {'success' if info.succeeded else 'failure'}, seed {info.seed}" for info in infos]
    imagined = zip(*(answer.films for answer in answers), strict=True)
    return [Film(title, real, list(made)) for title, real, made in zip(titles, reals, imagined, strict=True)]
