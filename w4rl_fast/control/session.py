"""A run drives an arm, episode by episode: driven, watched, recorded and told."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from w4rl_fast.config import to_json_dict
from w4rl_fast.control.config import ControlConfig
from w4rl_fast.control.policy import check_pace, decider_of, handling_of, robot_task
from w4rl_fast.control.stage import Stage, stage
from w4rl_fast.data.episode import ON_AN_ARM, EpisodeInfo, Schema
from w4rl_fast.data.store import Writer, writing
from w4rl_fast.policy.checkpoint import policy_digest
from w4rl_fast.robot.arm import ArmLost
from w4rl_fast.robot.camera import Camera
from w4rl_fast.robot.decider import Decider
from w4rl_fast.robot.handling import Handling
from w4rl_fast.robot.loop import Drive, Watcher, drive
from w4rl_fast.robot.process_arm import ProcessArm
from w4rl_fast.robot.recording import Recorder, recover, require_new
from w4rl_fast.robot.setup import Setup, make_setup
from w4rl_fast.robot.view import View
from w4rl_fast.tasks import TaskConfig
from w4rl_fast.tasks.franka.space import rate_of, reach_of

ROBOT_STORE = "robot"
SOURCE = "policy"


@dataclass(slots=True)
class Told:
    """One episode as it is told afterwards; ticks: quantiles of the times between ticks (us), where time is real."""

    seed: int
    drive: Drive
    succeeded: bool | None
    seconds: float
    recorded: str | None = None
    missed: int = 0
    longest: int = 0
    ticks: dict[str, float] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)
    picture: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)


def control(run: Path, config: ControlConfig, *, quiet: bool = False) -> Iterator[Told]:
    """Let the policy of a run drive an arm, episode by episode; nothing moves before all has been checked."""
    task = robot_task(run, config)
    setup = make_setup(config.model, config.limits)
    folder, decider = decider_of(run, config.policy)
    handling = handling_of(task)
    digest = policy_digest(folder)
    with recording(config, task) as writer:
        for number in range(config.episodes):
            seed = config.seed + number
            begun = time.monotonic()
            info = EpisodeInfo(task=task.name, source=SOURCE, seed=seed, succeeded=False, origin=f"{digest}{ON_AN_ARM}")
            if writer is not None:
                require_new(writer, info)

            def check(camera: Camera) -> None:
                check_pace(decider, camera, handling)

            told = None
            try:
                with stage(task, setup, config, seed, check) as place:
                    told = episode(place, decider, handling, task, config, writer, info, setup, quiet)
                    told.seconds = time.monotonic() - begun
                    if isinstance(place.arm, ProcessArm):
                        keep_times(told, place.arm)
            except ArmLost as error:  # as it was laid to rest, after an episode that is worth telling
                if told is None:
                    raise
                told.drive.ended, told.drive.error = "lost", told.drive.error or error
            yield told
            if told.drive.ended not in ("horizon", "done"):
                return


@contextlib.contextmanager
def recording(config: ControlConfig, task: TaskConfig) -> Iterator[Writer | None]:
    """The store to record into; what an interrupted session left there is put into it first."""
    if config.record is None or config.dry_run:
        yield None
        return
    reach = reach_of(rate_of(task))
    schema = Schema(
        image_size=task.image_size, action_low=(-reach,) * 3 + (-1.0,), action_high=(reach,) * 3 + (1.0,), proprio_dim=7
    )
    with writing(config.record, schema, {task.name: to_json_dict(task)}) as writer:
        recover(writer)
        yield writer


def episode(
    place: Stage, decider: Decider, handling: Handling, task: TaskConfig, config: ControlConfig, writer: Writer | None,
    info: EpisodeInfo, setup: Setup, quiet: bool,
) -> Told:  # fmt: skip
    """One episode: driven, watched and recorded."""
    judge = place.judge or (lambda: False)
    recorder = Recorder(writer, info, judge) if writer else None
    verdict = Verdict(judge) if recorder is None else recorder
    watchers: tuple[Watcher, ...] = (
        verdict,
        View(setup, f"{task.name} by {decider.name}, seed {info.seed}", quiet=quiet),
    )
    outcome = drive(
        place.arm, place.camera, decider, handling, turns=config.turns or task.horizon, watchers=watchers,
        compensate=config.compensate,
    )  # fmt: skip
    told = Told(info.seed, outcome, verdict.succeeded if place.judge else None, 0.0)
    if recorder is not None and recorder.keep(verdict.succeeded):
        told.recorded = info.key
    return told


class Verdict:
    """Whether any moment of an episode showed success."""

    def __init__(self, judge: Callable[[], bool]) -> None:
        self._judge, self.succeeded = judge, False

    def turn(self, turn: Any) -> None:
        self.succeeded |= self._judge()

    def end(self, *_: Any) -> None:
        self.succeeded |= self._judge()


def keep_times(told: Told, arm: ProcessArm) -> None:
    intervals, durations = arm.histograms()
    told.ticks, told.steps, told.picture = intervals.quantiles(), durations.quantiles(), intervals.picture()
    state = arm.last()
    told.missed, told.longest, told.events = state.missed, state.longest, list(arm.events)
