"""The scene of a task by its name, and how it stands when an episode begins."""

from typing import Any

import mujoco
import numpy as np

from w4rl_fast.errors import UserError, near
from w4rl_fast.tasks.catalogue import FRANKA
from w4rl_fast.tasks.franka import apple, bread, button, coffee, drawer, panda
from w4rl_fast.tasks.franka.reach import Reach
from w4rl_fast.tasks.franka.scene import Scene
from w4rl_fast.tasks.franka.space import ABOUT, START

SCENES = {
    "pick-apple": apple.SCENE,
    "push-button": button.SCENE,
    "put-bread-in": bread.PUT_IN,
    "put-bread-out": bread.PUT_OUT,
    "pull-coffee": coffee.SCENE,
    "close-drawer": drawer.SCENE,
}


def scene_of(name: str) -> Scene:
    """The scene of `franka/...`."""
    short = name.removeprefix(FRANKA)
    if short not in SCENES or not name.startswith(FRANKA):
        names = [FRANKA + known for known in SCENES]
        raise UserError(f"scene {name!r}", rule="there is no such scene", remedy=near(name, names))
    return SCENES[short]


def scene_xml(name: str) -> str:
    """The MJCF of a task's scene."""
    return panda.scene(scene_of(name).worldbody)


def place(name: str, model: Any, data: Any, seed: int) -> None:
    """Put a scene into the state in which the episode of a seed begins: all of it, whatever was there before."""
    rng = np.random.default_rng(seed)
    mujoco.mj_resetData(model, data)
    start = np.array(START) + rng.uniform(-ABOUT, ABOUT, 3)
    data.qpos[:7] = data.ctrl[panda.POSITION] = Reach(model).solve(start, np.array(panda.HOME))
    data.qpos[7:9], data.ctrl[panda.GRIPPER] = panda.OPEN / 2, panda.OPEN
    scene_of(name).lay(data, rng)
    mujoco.mj_forward(model, data)
