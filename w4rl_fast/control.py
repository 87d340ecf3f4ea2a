"""A run drives an arm: its task, its policy and its engine are put together with a camera, a servo and a store."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from w4rl_engines.choice import fastest
from w4rl_engines.fingerprint import fingerprint
from w4rl_engines.load import load as load_artifact
from w4rl_fast.config import to_json_dict
from w4rl_fast.data.episode import ON_AN_ARM, EpisodeInfo, Schema
from w4rl_fast.data.store import Writer, writing
from w4rl_fast.errors import UserError
from w4rl_fast.imagine.artifacts import artifacts, rebuild_of
from w4rl_fast.imagine.export import Mean
from w4rl_fast.policy.checkpoint import load_policy, policy_digest
from w4rl_fast.refine.proof import contenders
from w4rl_fast.robot import shared
from w4rl_fast.robot.arm import Arm, Command
from w4rl_fast.robot.camera import Camera, DrawnCamera, Frame, VideoCamera
from w4rl_fast.robot.decider import Decider
from w4rl_fast.robot.handling import DOWN, Handling
from w4rl_fast.robot.loop import Drive, Watcher, drive
from w4rl_fast.robot.process_arm import ProcessArm
from w4rl_fast.robot.protocol import TICK, Kind
from w4rl_fast.robot.recording import Recorder, recover, require_new
from w4rl_fast.robot.setup import Setup, make_setup
from w4rl_fast.robot.view import View
from w4rl_fast.run import task_of_run
from w4rl_fast.tasks import TaskConfig
from w4rl_fast.tasks.catalogue import FRANKA
from w4rl_fast.tasks.franka.panda import OPEN
from w4rl_fast.tasks.franka.space import HIGH, LOW, START, rate_of, reach_of

SIM, VIRTUAL, FCI = "sim", "virtual", "fci://"
ROBOT_STORE = "robot"
APPROACH = 0.1
"""How fast the hand goes to where episodes begin, m/s."""
SOURCE = "policy"


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlConfig:
    """arm: sim (a scene on the wall clock), virtual (the same, in simulated time) or fci://HOST.

    policy: cloned, refined, ... or last: the newest there is. camera: drawn, scene:NAME (drawn from shared memory), a
    device's number or an address. record: the store, None for none. compensate: act on the time of the observation.
    """

    arm: str = SIM
    rate: float | None = None
    policy: str = "last"
    model: str = "panda"
    camera: str | None = None
    limits: Path | None = None
    record: Path | None = None
    episodes: int = 1
    seed: int = 0
    turns: int | None = None
    dry_run: bool = False
    recover: bool = False
    hand: bool = True
    allow_non_realtime: bool = False
    compensate: bool = True
    core: int | None = None

    def __post_init__(self) -> None:
        if self.arm not in (SIM, VIRTUAL) and not (self.arm.startswith(FCI) and self.arm.removeprefix(FCI)):
            raise ValueError(f"arm={self.arm!r}: it is sim, virtual or fci://HOST")
        if self.episodes < 1:
            raise ValueError(f"episodes={self.episodes}: at least 1")


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


class Stage(NamedTuple):
    """Where an episode happens: the arm, the camera, and whether the moment shows success, where that is known."""

    arm: Arm
    camera: Camera
    judge: Callable[[], bool] | None


def control(run: Path, config: ControlConfig, *, quiet: bool = False) -> Iterator[Told]:
    """Let the policy of a run drive an arm, episode by episode; nothing moves before all has been checked."""
    task = robot_task(run, config)
    setup = make_setup(config.model, config.limits)
    name, decider = decider_of(run, config.policy)
    handling = handling_of(task)
    digest = policy_digest(contenders(run)[name].policy)
    with recording(config, task) as writer:
        for number in range(config.episodes):
            seed = config.seed + number
            begun = time.monotonic()
            info = EpisodeInfo(task=task.name, source=SOURCE, seed=seed, succeeded=False, origin=f"{digest}{ON_AN_ARM}")
            if writer is not None:
                require_new(writer, info)

            def check(camera: Camera) -> None:
                check_pace(decider, camera, handling)

            with stage(task, setup, config, seed, check) as place:
                told = episode(place, decider, handling, task, config, writer, info, setup, quiet)
                told.seconds = time.monotonic() - begun
                if isinstance(place.arm, ProcessArm):
                    keep_times(told, place.arm)
            yield told
            if told.drive.ended not in ("horizon", "done"):
                return


def robot_task(run: Path, config: ControlConfig) -> TaskConfig:
    """The task of a run whose policy knows this arm and this rate."""
    task = task_of_run(run)
    if not task.name.startswith(FRANKA):
        raise UserError(
            f"run {run} is about {task.name}",
            rule="its policy moves another robot than a Franka",
            remedy="Give a run about one of the franka tasks, see `w4rl tasks`",
        )
    rate = rate_of(task)
    if config.rate is not None and abs(config.rate - rate) > 1e-6:
        raise UserError(
            f"--rate {config.rate:g}",
            rule=f"the policy of {run} decides {rate:g} times a second: its actions take {1e3 / rate:g} ms each",
            remedy=f"Leave --rate away, or collect with action_repeat={round(1 / (config.rate * 0.002))} and train",
        )
    return task


def handling_of(task: TaskConfig) -> Handling:
    low, high = (tuple(float(x) for x in corner) for corner in (LOW, HIGH))
    reach = reach_of(rate_of(task))
    return Handling(rate=rate_of(task), step=(reach, reach, reach), low=low, high=high, opening=OPEN)  # type: ignore[arg-type]


def decider_of(run: Path, wanted: str) -> tuple[str, Decider]:
    """The policy that was asked for, by its fastest engine that was proven for it, else by eager torch."""
    there = contenders(run)
    name = list(there)[-1] if wanted == "last" else wanted
    if name not in there:
        raise UserError(f"policy {wanted!r} of {run}", rule="there is none", remedy=f"There are: {', '.join(there)}")
    policy = load_policy(there[name].policy).eval()
    mean = Mean(policy).eval()
    torch.set_num_threads(1)
    expected = fingerprint(mean)
    found = fastest(artifacts(run, "policy"), 1, expected=expected, threads=1).artifact
    if found is None:
        return name, Decider(mean, policy.config.history)
    engine = load_artifact(found.folder, batch=1, threads=1, expected=expected, rebuild=rebuild_of(found.folder))
    return name, Decider(engine, policy.config.history, found.folder.name)


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


@contextlib.contextmanager
def stage(
    task: TaskConfig, setup: Setup, config: ControlConfig, seed: int, check: Callable[[Camera], None]
) -> Iterator[Stage]:
    """The arm and the camera of one episode; a camera that fails its check keeps a robot from moving."""
    if config.arm.startswith(FCI):
        yield from _robot_stage(task, setup, config, check)
    else:
        yield from _scene_stage(task, setup, config, seed, check)


def _robot_stage(
    task: TaskConfig, setup: Setup, config: ControlConfig, check: Callable[[Camera], None]
) -> Iterator[Stage]:
    if config.camera is None:
        raise UserError(
            "the camera of a robot", rule="a policy needs to see", remedy="Give --camera 0, rtsp://... or scene:NAME"
        )
    scene = config.camera.removeprefix("scene:") if config.camera.startswith("scene:") else None
    looks = Looks(task, scene) if scene else None
    camera: Camera = DrawnCamera(looks.draw) if looks else VideoCamera(config.camera, task.image_size)
    try:
        check(camera)
        arm = ProcessArm(
            setup,
            host=config.arm.removeprefix(FCI),
            allow_non_realtime=config.allow_non_realtime,
            core=config.core,
            dry=config.dry_run,
            recover=config.recover,
            hand=config.hand,
        )
        with arm:
            if not config.dry_run:
                approach(arm)
            yield Stage(arm, camera, looks.succeeds if looks else None)
    finally:
        camera.close()


def _scene_stage(
    task: TaskConfig, setup: Setup, config: ControlConfig, seed: int, check: Callable[[Camera], None]
) -> Iterator[Stage]:
    from w4rl_fast.robot.plant import Scene
    from w4rl_fast.robot.simulated import SimArm

    xml, start = begin_of(task, seed)
    if config.arm == VIRTUAL:
        scene = Scene(xml, np.array(start), setup.stiffness)
        looks = Looks(task, None, scene.model, scene.data)
        arm = SimArm(scene, setup, dry=config.dry_run)
        with arm:
            seen = DrawnCamera(looks.draw, lambda: arm.read().stamp)
            check(seen)
            yield Stage(arm, seen, looks.succeeds)
        return
    share = f"w4rl-scene-{time.monotonic_ns():x}"
    process = ProcessArm(
        setup, scene=xml, start=start, share=share, allow_non_realtime=config.allow_non_realtime, core=config.core,
        dry=config.dry_run,
    )  # fmt: skip
    with process:
        looks = Looks(task, share)
        drawn = DrawnCamera(looks.draw)
        check(drawn)
        yield Stage(process, drawn, looks.succeeds)


def begin_of(task: TaskConfig, seed: int) -> tuple[str, tuple[float, ...]]:
    """The scene in which the episode of a seed happens, and the state in which it begins."""
    import mujoco

    from w4rl_fast.tasks.franka.place import place, scene_xml

    xml = scene_xml(task.name)
    model = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(model)
    place(task.name, model, data, seed)
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.zeros(mujoco.mj_stateSize(model, kind))
    mujoco.mj_getState(model, data, state, kind)
    return xml, tuple(float(x) for x in state)


class Looks:
    """What a scene looks like and whether it shows success: a scene of this process, or one in shared memory."""

    def __init__(self, task: TaskConfig, share: str | None, model: Any = None, data: Any = None) -> None:
        import mujoco

        from w4rl_fast.tasks.franka.place import scene_of, scene_xml
        from w4rl_fast.tasks.renderers import make_renderer

        self._mujoco = mujoco
        self._model = mujoco.MjModel.from_xml_string(scene_xml(task.name)) if model is None else model
        self._data = mujoco.MjData(self._model) if data is None else data
        self._reader = shared.SceneReader(share) if share else None
        self._score = scene_of(task.name).score
        self._renderer = make_renderer(task.renderer, self._model, task.camera, task.image_size)

    def draw(self) -> Frame:
        self._look()
        return self._renderer.render(self._data)

    def succeeds(self) -> bool:
        self._look()
        return bool(self._score(self._data) >= 1.0)

    def _look(self) -> None:
        if self._reader is not None:
            shared.draw(self._data, self._reader.read()[1])
            self._mujoco.mj_forward(self._model, self._data)


def approach(arm: Arm) -> None:
    """Go to where episodes begin, slowly, and open the hand; the message is repeated, as the watchdog expects."""
    state = arm.read()
    here, there = state.pose, np.array([*START, *DOWN])
    seconds = max(1.0, float(np.linalg.norm(there[:3] - here[:3])) / APPROACH)
    share = np.linspace(0.0, 1.0, 32)
    ease = share * share * (3 - 2 * share)
    values = here + ease[:, None] * (there - here)
    if here[3:] @ there[3:] < 0:
        values[:, 3:] = here[3:] + ease[:, None] * (-there[3:] - here[3:])
    values[:, 3:] /= np.linalg.norm(values[:, 3:], axis=1, keepdims=True)
    times = state.tick + share * seconds / TICK
    while state.tick < times[-1] + 100:
        sent = arm.send(Command(Kind.POSES, times, values, OPEN))
        if sent.refused:
            raise UserError(
                f"the way from {here[:3].round(3).tolist()} to {list(START)} m",
                rule=f"the servo refuses it ({sent.refused.name})",
                remedy="Move the arm by hand closer to where episodes begin",
            )
        state = arm.wait(state.tick + 50)
    arm.rest()


def check_pace(decider: Decider, camera: Camera, handling: Handling) -> None:
    """Refuse a camera or a policy that cannot keep its own rate."""
    shot = camera.read()
    if camera.rate < handling.rate:
        raise UserError(
            f"the camera gives {camera.rate:.1f} frames a second",
            rule=f"the policy decides {handling.rate:g} times a second, each time on a new frame",
            remedy="Choose a faster mode of the camera",
        )
    takes = decider.latency(shot.frame, np.zeros(7, np.float32))
    if takes > 0.8 / handling.rate:
        raise UserError(
            f"the policy takes {takes * 1e3:.0f} ms by {decider.name}",
            rule=f"it has {1e3 / handling.rate:.0f} ms between two observations",
            remedy="Export an engine: `w4rl export RUN --part policy --engine all --batch 1 --threads 1`",
        )


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
