"""The OpenGL renderer: MuJoCo's own, without shadows, reflections and multisampling."""

import atexit
import importlib
import os
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from w4rl_fast.errors import UserError
from w4rl_fast.tasks.camera import Camera
from w4rl_fast.tasks.protocol import Frame
from w4rl_fast.tasks.renderers import Marker


class GLRenderer:
    """One per process: a second context in a process has returned garbage with some OpenGL stacks."""

    taken: ClassVar[int | None] = None

    def __init__(self, model: Any, camera: Camera, size: int) -> None:
        if GLRenderer.taken == os.getpid():
            raise UserError(
                "a second OpenGL renderer in one process",
                rule="a process holds one rendering context, for one model and one size, as long as it lives",
                remedy="Use the ray renderer, or a process of its own for each task and size",
            )
        import mujoco

        model.vis.quality.offsamples = 0
        model.vis.global_.fovy = camera.fovy
        chosen = os.environ.get("MUJOCO_GL", "")
        try:
            if not chosen:  # mujoco has settled for GLFW when it was imported, which needs a screen
                mujoco.gl_context.GLContext = importlib.import_module("mujoco.egl").GLContext
            self._renderer = mujoco.Renderer(model, size, size)
        except Exception as error:
            raise UserError(
                f"OpenGL with MUJOCO_GL={chosen or 'unset (EGL)'}",
                rule=f"no rendering context could be made: {error}",
                remedy="Install EGL or OSMesa and set MUJOCO_GL to egl or osmesa, or use the ray renderer",
            ) from error
        GLRenderer.taken = os.getpid()
        atexit.register(self.close)  # later the interpreter has already taken OpenGL apart
        self._mujoco = mujoco
        self._camera = mujoco.MjvCamera()
        self._camera.lookat[:] = camera.lookat
        self._camera.distance, self._camera.azimuth = camera.distance, camera.azimuth
        self._camera.elevation = camera.elevation
        self._option = mujoco.MjvOption()
        self._option.sitegroup[:] = 0
        scene = self._renderer.scene
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            scene.flags[flag] = 0

    def render(self, data: Any, markers: Sequence[Marker] = ()) -> Frame:
        """The picture (size, size, 3) of the present state."""
        self._renderer.update_scene(data, self._camera, self._option)
        scene = self._renderer.scene
        for marker in markers:
            self._mujoco.mjv_initGeom(
                scene.geoms[scene.ngeom], self._mujoco.mjtGeom.mjGEOM_SPHERE, np.full(3, marker.radius),
                marker.centre, np.eye(3).ravel(), np.array([*marker.colour, 1.0], dtype=np.float32),
            )  # fmt: skip
            scene.ngeom += 1
        frame: Frame = self._renderer.render()
        return frame

    def close(self) -> None:
        self._renderer.close()
