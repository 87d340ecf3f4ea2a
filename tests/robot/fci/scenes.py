"""Scenes to serve: an MJCF file, a task of this project, or whatever a function builds."""

from importlib import import_module
from pathlib import Path
from typing import Any

from tests.robot.fci.checker import TICK_S


def load(source: str, seed: int) -> tuple[Any, Any]:
    """MuJoCo's model and data of `file.xml`, `franka/TASK` or `package.module:function`; the seed lays things out."""
    import mujoco

    if source.startswith("franka/"):
        from w4rl_fast.tasks.franka.place import place, scene_xml

        model = mujoco.MjModel.from_xml_string(scene_xml(source))
        model.opt.timestep = TICK_S  # a robot's own servos run at 1 kHz
        data = mujoco.MjData(model)
        place(source, model, data, seed)
        return model, data
    if ":" in source:
        module, function = source.split(":")
        return getattr(import_module(module), function)(seed)
    if not Path(source).is_file():
        raise FileNotFoundError(f"no scene {source}; give an MJCF file, franka/TASK or package.module:function")
    model = mujoco.MjModel.from_xml_path(source)
    return model, mujoco.MjData(model)
