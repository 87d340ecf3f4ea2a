"""The default renderer: ray hits and our own shading; no OpenGL, the same pixels in every process."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from w4rl_fast.tasks import raster, shading
from w4rl_fast.tasks.camera import Camera
from w4rl_fast.tasks.protocol import Frame
from w4rl_fast.tasks.renderers import Marker

BACKGROUND = np.array([0.55, 0.62, 0.70], dtype=np.float32)
VISIBLE_GROUPS = np.array([1, 1, 1, 0, 0, 0], dtype=np.uint8)
FAR = 20.0
FAINT, HIDDEN = 0.3, 5


@dataclass(frozen=True, slots=True)
class Hits:
    """What each of n * n rays meets first: geom (-1: nothing), distance along the ray (m), and the normal of a mesh."""

    geom: NDArray[np.int32]
    depth: NDArray[np.float64]
    normals: NDArray[np.float32]

    @classmethod
    def nothing(cls, count: int) -> "Hits":
        return cls(np.full(count, -1, np.int32), np.full(count, FAR), np.zeros((count, 3), np.float32))

    def copy(self) -> "Hits":
        return Hits(self.geom.copy(), self.depth.copy(), self.normals.copy())


class RayRenderer:
    """Renders one model from one camera with `supersample` squared rays a pixel.

    Whatever cannot move is cast once and kept until its pose changes. A frame then casts the rays that can meet a
    moving primitive through `mj_multiRay` and draws the moving meshes over them; `reference_hits` casts every ray
    against everything through `mj_multiRay` and defines what is visible.
    """

    def __init__(self, model: Any, camera: Camera, size: int, supersample: int = 3) -> None:
        self.model, self.size, self.supersample = model, size, supersample
        self.n = size * supersample
        self.eye, self.axes = camera.position, camera.axes
        self.extent = float(np.tan(np.deg2rad(camera.fovy) / 2))
        self.rays = np.ascontiguousarray(camera.rays(self.n).reshape(-1, 3))
        self.cosine = self.rays @ self.axes[2]
        self.everywhere = np.arange(self.n**2)
        model.geom_group[opacity(model) < FAINT] = HIDDEN  # a ray hits a window pane or does not; let it pass
        self.tones = shading.geom_tones(model)
        fixed = model.body_weldid[model.geom_bodyid] == 0
        mesh = model.geom_type == mujoco.mjtGeom.mjGEOM_MESH
        shown = VISIBLE_GROUPS[model.geom_group] > 0
        self.fixed = np.flatnonzero(fixed & shown)  # what is hidden may move without a new picture
        self.moving = np.flatnonzero(~fixed & shown & ~mesh)
        self.meshes = np.flatnonzero(mesh & shown)
        self.faces = {int(geom): mesh_of(model, int(geom)) for geom in self.meshes}
        most = max((len(vertices) for vertices, _ in self.faces.values()), default=0)
        self.scratch = np.empty((3, most))
        self.boxes = np.array(model.geom_aabb, dtype=np.float64)
        self.still_pose: NDArray[np.float64] | None = None

    def render(self, data: Any, markers: Sequence[Marker] = ()) -> Frame:
        """The picture (size, size, 3) of the present state."""
        hits, touched = self.hits(data)
        colour = self.still_colour.copy()
        self._shade(data, np.flatnonzero(touched), hits, colour)
        if markers:
            shading.draw_markers(
                np.array([m.centre for m in markers], dtype=np.float64), np.array([m.radius for m in markers]),
                np.array([m.colour for m in markers], dtype=np.float32), self.eye, self.rays, self.axes, self.extent,
                hits.depth, self.n, colour,
            )  # fmt: skip
        frame = np.empty((self.size, self.size, 3), np.uint8)
        shading.average(colour, self.n, self.supersample, frame)
        return frame

    def hits(self, data: Any) -> tuple[Hits, NDArray[np.bool_]]:
        """The hits of every ray, and a mask (n * n) of the rays whose hit may move."""
        self._keep_still_layer(data)
        hits = self.still.copy()
        touched = np.zeros((self.n, self.n), dtype=np.bool_)
        shading.mark_boxes(
            touched, self.moving, self.boxes, data.geom_xpos, data.geom_xmat, self.eye, self.axes, self.extent
        )
        flat = touched.reshape(-1)
        self._cast(data, np.flatnonzero(flat), hits, fixed=False, hidden=self.meshes)
        self._draw(data, hits, flat, fixed=False)
        return hits, flat

    def reference_hits(self, data: Any) -> Hits:
        """The hits of every ray by MuJoCo alone, without the normals of meshes."""
        hits = Hits.nothing(self.n**2)
        self._cast(data, self.everywhere, hits, fixed=True, hidden=self.everywhere[:0])
        return hits

    def close(self) -> None:
        """Nothing is held outside this object."""

    def _keep_still_layer(self, data: Any) -> None:
        pose = np.concatenate([data.geom_xpos[self.fixed], data.geom_xmat[self.fixed]], axis=1)
        if self.still_pose is not None and np.array_equal(pose, self.still_pose):
            return
        self.still = Hits.nothing(self.n**2)
        self.still_colour = np.empty((self.n**2, 3), np.float32)
        self._cast(data, self.everywhere, self.still, fixed=True, hidden=np.union1d(self.meshes, self.moving))
        self._draw(data, self.still, np.empty(self.n**2, dtype=np.bool_), fixed=True)
        self._shade(data, self.everywhere, self.still, self.still_colour)
        self.still_pose = pose

    def _cast(self, data: Any, samples: NDArray[Any], hits: Hits, *, fixed: bool, hidden: NDArray[Any]) -> None:
        if not len(samples):
            return
        geom = np.empty(len(samples), np.int32)
        distance = np.empty(len(samples))
        groups = self.model.geom_group.copy()
        self.model.geom_group[hidden] = HIDDEN
        mujoco.mj_multiRay(
            self.model, data, self.eye, self.rays[samples].ravel(), VISIBLE_GROUPS, int(fixed), -1, geom, distance,
            len(samples), FAR,
        )  # fmt: skip
        self.model.geom_group[:] = groups
        shading.merge_hits(samples, geom, distance, hits.geom, hits.depth)

    def _draw(self, data: Any, hits: Hits, touched: NDArray[np.bool_], *, fixed: bool) -> None:
        x, y, inverse = self.scratch
        for geom in self.meshes:
            if (geom in self.fixed) != fixed:
                continue
            vertices, faces = self.faces[int(geom)]
            raster.draw_mesh(
                vertices, faces, geom, data.geom_xpos[geom], data.geom_xmat[geom], self.eye, self.axes, self.extent,
                self.n, self.cosine, x, y, inverse, touched, hits.geom, hits.depth, hits.normals,
            )  # fmt: skip

    def _shade(self, data: Any, samples: NDArray[Any], hits: Hits, colour: NDArray[np.float32]) -> None:
        model = self.model
        shading.shade(
            samples, self.eye, self.rays, hits.geom, hits.depth, hits.normals, model.geom_type, model.geom_size,
            data.geom_xpos, data.geom_xmat, self.tones, BACKGROUND, colour,
        )  # fmt: skip


def opacity(model: Any) -> NDArray[np.float32]:
    """Opacity (ngeom,) of every geom as MuJoCo's ray queries see it: its material's, or its own."""
    alpha = np.array(model.geom_rgba[:, 3], dtype=np.float32)
    coated = model.geom_matid >= 0
    alpha[coated] = model.mat_rgba[model.geom_matid[coated], 3]
    return alpha


def mesh_of(model: Any, geom: int) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Vertices (V, 3) in the frame of the geom, and faces (F, 3)."""
    mesh = model.geom_dataid[geom]
    first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
    start, number = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
    vertices = np.array(model.mesh_vert[first : first + count], dtype=np.float64)
    return vertices, np.array(model.mesh_face[start : start + number], dtype=np.int32)
