"""What a renderer is, and the choice of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.tasks.camera import Camera
from w4rl_fast.tasks.protocol import Frame


@dataclass(frozen=True, slots=True)
class Marker:
    """A sphere that is drawn but not simulated, such as a goal: centre (m), radius (m), colour 0 to 1."""

    centre: NDArray[np.float64]
    radius: float
    colour: tuple[float, float, float]


class Renderer(Protocol):
    """Draws one model from one camera at one size."""

    def render(self, data: Any, markers: Sequence[Marker] = ()) -> Frame: ...

    def close(self) -> None: ...


def make_renderer(kind: str, model: Any, camera: Camera, size: int) -> Renderer:
    """A renderer by its name: `ray` runs anywhere, `gl` needs OpenGL and is the only one in its process."""
    if kind == "gl":
        from w4rl_fast.tasks.gl import GLRenderer

        return GLRenderer(model, camera, size)
    from w4rl_fast.tasks.ray import RayRenderer

    return RayRenderer(model, camera, size)
