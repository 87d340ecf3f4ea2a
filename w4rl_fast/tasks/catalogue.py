"""The tasks there are, and how each is set up unless a user says otherwise."""

from typing import NamedTuple

from w4rl_fast.errors import MissingExtra, UserError, near
from w4rl_fast.tasks.camera import Camera
from w4rl_fast.tasks.protocol import Task, TaskConfig
from w4rl_fast.tasks.push_t.config import PushTConfig

FAMILY = "metaworld/"
PUSH_T = "push-t"
FRANKA = "franka/"
ACTIONS = "hand dx, dy, dz; gripper closes"
PUSH_T_ACTIONS = "where the disc goes: x, y"


class Timing(NamedTuple):
    """Simulator steps an action is held, how far the expert reaches with one, and actions in an episode.

    Of the settings tried on twelve development seeds, the first with the most successes; the horizon is a quarter above
    the slowest of them. LOG.md has the figures.
    """

    action_repeat: int
    expert_gain: float
    horizon: int


TIMING = {
    "assembly-v3": Timing(5, 0.85, 30),
    "basketball-v3": Timing(5, 0.5, 55),
    "bin-picking-v3": Timing(3, 0.6, 160),
    "box-close-v3": Timing(2, 0.8, 110),
    "button-press-topdown-v3": Timing(5, 0.85, 20),
    "button-press-topdown-wall-v3": Timing(5, 0.85, 20),
    "button-press-v3": Timing(5, 0.85, 20),
    "button-press-wall-v3": Timing(5, 0.85, 25),
    "coffee-button-v3": Timing(5, 0.85, 15),
    "coffee-pull-v3": Timing(5, 0.7, 25),
    "coffee-push-v3": Timing(5, 0.85, 20),
    "dial-turn-v3": Timing(5, 0.85, 35),
    "disassemble-v3": Timing(5, 0.85, 45),
    "door-close-v3": Timing(5, 0.85, 20),
    "door-lock-v3": Timing(5, 0.85, 25),
    "door-open-v3": Timing(5, 0.85, 25),
    "door-unlock-v3": Timing(5, 0.85, 15),
    "hand-insert-v3": Timing(5, 0.85, 20),
    "drawer-close-v3": Timing(5, 0.85, 25),
    "drawer-open-v3": Timing(5, 0.85, 30),
    "faucet-open-v3": Timing(5, 0.85, 20),
    "faucet-close-v3": Timing(5, 0.85, 35),
    "hammer-v3": Timing(5, 0.85, 25),
    "handle-press-side-v3": Timing(5, 0.85, 20),
    "handle-press-v3": Timing(5, 0.85, 20),
    "handle-pull-side-v3": Timing(1, 1.0, 145),
    "handle-pull-v3": Timing(5, 0.85, 35),
    "lever-pull-v3": Timing(3, 0.85, 45),
    "pick-place-wall-v3": Timing(5, 0.85, 30),
    "pick-out-of-hole-v3": Timing(5, 0.85, 45),
    "pick-place-v3": Timing(5, 0.85, 20),
    "plate-slide-v3": Timing(5, 0.85, 15),
    "plate-slide-side-v3": Timing(5, 0.85, 15),
    "plate-slide-back-v3": Timing(5, 0.85, 20),
    "plate-slide-back-side-v3": Timing(5, 0.85, 20),
    "peg-insert-side-v3": Timing(5, 0.85, 45),
    "peg-unplug-side-v3": Timing(5, 0.5, 55),
    "soccer-v3": Timing(5, 0.5, 55),
    "stick-push-v3": Timing(5, 0.85, 25),
    "stick-pull-v3": Timing(5, 0.7, 80),
    "push-v3": Timing(5, 0.85, 20),
    "push-wall-v3": Timing(5, 0.85, 25),
    "push-back-v3": Timing(5, 0.5, 45),
    "reach-v3": Timing(5, 0.85, 15),
    "reach-wall-v3": Timing(5, 0.85, 15),
    "shelf-place-v3": Timing(5, 0.85, 30),
    "sweep-into-v3": Timing(3, 0.85, 30),
    "sweep-v3": Timing(5, 0.85, 35),
    "window-open-v3": Timing(5, 0.85, 30),
    "window-close-v3": Timing(5, 0.85, 25),
}

# From behind the table, facing the arm: what lies on the table and what is pressed from above.
REAR = Camera()
# From the arm's right hand: what an object shows to the robot alone (a button's front, a cup, a door's handle).
SIDE = Camera(lookat=(0.02, 0.66, 0.19), distance=1.0, azimuth=155.0, elevation=-28.0)
# From further away, for things that travel across the table.
WIDE = Camera(lookat=(0.15, 0.6, 0.15), distance=1.35, azimuth=240.0, elevation=-32.0)
CAMERAS = {
    **dict.fromkeys(("button-press-v3", "button-press-wall-v3", "hammer-v3", "shelf-place-v3"), SIDE),
    **dict.fromkeys(("coffee-button-v3", "coffee-pull-v3", "coffee-push-v3"), SIDE),
    **dict.fromkeys(("door-close-v3", "door-lock-v3", "door-open-v3", "door-unlock-v3"), SIDE),
    **dict.fromkeys(("handle-press-v3", "handle-pull-v3", "window-open-v3", "window-close-v3"), SIDE),
    **dict.fromkeys(("stick-push-v3", "stick-pull-v3", "sweep-v3", "peg-insert-side-v3"), WIDE),
}


# Ten physics steps of 10 ms each, and time for an expert to push twice around the block.
PUSH_T_TIMING = Timing(10, 1.0, 200)


# Fifty physics steps of 2 ms each: 10 Hz. The horizon leaves a disturbed expert time for a second grasp.
FRANKA_TIMING = {
    "pick-apple": Timing(50, 1.0, 30),
    "push-button": Timing(50, 1.0, 20),
    "put-bread-in": Timing(50, 1.0, 50),
    "put-bread-out": Timing(50, 1.0, 40),
    "pull-coffee": Timing(50, 1.0, 30),
    "close-drawer": Timing(50, 1.0, 25),
}
# From before the arm, at its right hand, so that it does not hide what it reaches for.
FRONT = Camera(lookat=(0.50, 0.0, 0.14), distance=0.82, azimuth=150.0, elevation=-28.0)
# From its right hand, half behind it: what faces the robot and is pushed or pulled along its way.
ASIDE = Camera(lookat=(0.53, 0.0, 0.15), distance=0.78, azimuth=76.0, elevation=-24.0)
FRANKA_CAMERAS = {"pull-coffee": ASIDE, "close-drawer": ASIDE}


def task_names() -> list[str]:
    return [*(FAMILY + name for name in TIMING), PUSH_T, *(FRANKA + name for name in FRANKA_TIMING)]


def timing_of(name: str) -> Timing:
    if name == PUSH_T:
        return PUSH_T_TIMING
    for family, timings in ((FAMILY, TIMING), (FRANKA, FRANKA_TIMING)):
        if name.startswith(family) and name.removeprefix(family) in timings:
            return timings[name.removeprefix(family)]
    raise UserError(
        f"task {name!r}",
        rule="there is no such task",
        remedy=f"{near(name, task_names())} `w4rl tasks` lists all {len(task_names())}",
    )


def actions_of(name: str) -> str:
    """What the actions of a task mean."""
    return PUSH_T_ACTIONS if name == PUSH_T else ACTIONS


def default_config(name: str, *, image_size: int = 64) -> TaskConfig:
    """The settings a task is collected and judged with unless a user says otherwise."""
    timing = timing_of(name)
    if name == PUSH_T:
        return TaskConfig(
            name=name, image_size=image_size, action_repeat=timing.action_repeat, horizon=timing.horizon,
            push_t=PushTConfig(),
        )  # fmt: skip
    return TaskConfig(
        name=name, image_size=image_size, action_repeat=timing.action_repeat, horizon=timing.horizon,
        camera=camera_of(name),
    )  # fmt: skip


def camera_of(name: str) -> Camera:
    """Where a task in space is seen from."""
    if name.startswith(FRANKA):
        return FRANKA_CAMERAS.get(name.removeprefix(FRANKA), FRONT)
    return CAMERAS.get(name.removeprefix(FAMILY), REAR)


def make_task(config: TaskConfig) -> Task:
    """The task itself; its simulator is loaded here and not before."""
    timing = timing_of(config.name)
    if config.name == PUSH_T:
        from w4rl_fast.tasks.push_t.task import PushTTask

        return PushTTask(config)
    if config.name.startswith(FRANKA):
        try:
            from w4rl_fast.tasks.franka.task import FrankaTask
        except ModuleNotFoundError as error:
            raise MissingExtra("mujoco", extra="sim") from error

        return FrankaTask(config)
    from w4rl_fast.tasks.metaworld import MetaWorldTask

    return MetaWorldTask(config, expert_gain=timing.expert_gain if config.action_repeat > 1 else 1.0)
