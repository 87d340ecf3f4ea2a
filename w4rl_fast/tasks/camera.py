"""A camera that looks at a point, as MuJoCo's free camera does."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """Looks at `lookat` (m) from `distance` (m); azimuth, elevation, vertical field of view in degrees."""

    lookat: tuple[float, float, float] = (0.0, 0.69, 0.22)
    distance: float = 0.92
    azimuth: float = 240.0
    elevation: float = -30.0
    fovy: float = 45.0

    def __post_init__(self) -> None:
        if self.distance <= 0 or not 0 < self.fovy < 180 or not -90 < self.elevation < 90:
            raise ValueError(
                f"camera {self}: distance is above 0, fovy between 0 and 180, elevation between -90 and 90 degrees"
            )

    @property
    def axes(self) -> NDArray[np.float64]:
        """Right, up and forward unit vectors as rows (3, 3) in the world."""
        azimuth, elevation = np.deg2rad([self.azimuth, self.elevation])
        forward = np.array(
            [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
        )
        right = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
        return np.stack([right, np.cross(right, forward), forward])

    @property
    def position(self) -> NDArray[np.float64]:
        """Where the camera stands (3,), metres."""
        return np.asarray(self.lookat - self.distance * self.axes[2])

    def rays(self, size: int) -> NDArray[np.float64]:
        """Unit rays (size, size, 3) through the pixel centres, first row at the top of the picture."""
        right, up, forward = self.axes
        extent = np.tan(np.deg2rad(self.fovy) / 2)
        offset = ((np.arange(size) + 0.5) / size * 2 - 1) * extent
        rays = forward + offset[None, :, None] * right - offset[:, None, None] * up
        return np.asarray(rays / np.linalg.norm(rays, axis=-1, keepdims=True))

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Image coordinates (..., 2) of world points (..., 3): x to the right, y down, 0 to 1 inside the picture."""
        local = (points - self.position) @ self.axes.T
        extent = np.tan(np.deg2rad(self.fovy) / 2) * local[..., 2]
        return np.stack([0.5 + 0.5 * local[..., 0] / extent, 0.5 - 0.5 * local[..., 1] / extent], axis=-1)
