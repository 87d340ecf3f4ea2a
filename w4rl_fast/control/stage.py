"""Where a policy drives: a scene in simulated time or on the wall clock, or a robot, each with its camera."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from w4rl_fast.control.config import FCI, VIRTUAL, ControlConfig
from w4rl_fast.errors import UserError
from w4rl_fast.robot import shared
from w4rl_fast.robot.arm import Arm, Command
from w4rl_fast.robot.camera import Camera, DrawnCamera, Frame, VideoCamera
from w4rl_fast.robot.handling import DOWN
from w4rl_fast.robot.process_arm import ProcessArm
from w4rl_fast.robot.protocol import TICK, Kind
from w4rl_fast.robot.setup import Setup
from w4rl_fast.tasks import TaskConfig
from w4rl_fast.tasks.franka.panda import OPEN
from w4rl_fast.tasks.franka.space import START

APPROACH = 0.1
"""How fast the hand goes to where episodes begin, m/s."""


class Stage(NamedTuple):
    """Where an episode happens: the arm, the camera, and whether the moment shows success, where that is known."""

    arm: Arm
    camera: Camera
    judge: Callable[[], bool] | None


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
