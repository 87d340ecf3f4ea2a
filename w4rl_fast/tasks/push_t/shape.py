"""The T: its outline, its landmarks, and how much of it lies on the goal. A pose is (x, y, radians)."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from numpy.typing import NDArray

from w4rl_fast.tasks.push_t.config import SQUARE

if TYPE_CHECKING:
    import torch

Pose = tuple[float, float, float]
Array = NDArray[np.float64]

DISC_RADIUS = 15.0
BAR = ((-60.0, 30.0), (60.0, 30.0), (60.0, 0.0), (-60.0, 0.0))
STEM = ((-15.0, 30.0), (-15.0, 120.0), (15.0, 120.0), (15.0, 30.0))
BOXES = ((-60.0, 0.0, 60.0, 30.0), (-15.0, 30.0, 15.0, 120.0))
AREA = 6300.0
ENOUGH = 0.95
"""The share of the block that has to lie on the goal."""
CENTRE = (0.0, 45.0)
"""Where its weight acts, and the mean of its landmarks."""
MARKS = ((-60.0, 15.0), (60.0, 15.0), (0.0, 120.0), (0.0, 30.0))
"""The ends of the bar, the end of the stem, and where the two meet."""
OUTLINE = (
    (-60.0, 0.0), (60.0, 0.0), (60.0, 30.0), (15.0, 30.0), (15.0, 120.0), (-15.0, 120.0), (-15.0, 30.0), (-60.0, 30.0),
)  # fmt: skip
"""Its corners on the way round: what is inside lies on the same hand of every side, along (-dy, dx)."""
HALF = SQUARE / 2


def landmarks_of(pose: Sequence[float] | Array) -> NDArray[np.float32]:
    """The four marks (..., 8), x and y in turn and -1 to 1 over the square, of poses (..., 3)."""
    poses = np.asarray(pose, dtype=np.float64)
    cos, sin = np.cos(poses[..., 2:]), np.sin(poses[..., 2:])
    marks = np.array(MARKS)
    x = poses[..., :1] + cos * marks[:, 0] - sin * marks[:, 1]
    y = poses[..., 1:2] + sin * marks[:, 0] + cos * marks[:, 1]
    points = np.stack([x, y], axis=-1) / HALF - 1.0
    return points.reshape(*poses.shape[:-1], 8).astype(np.float32)


def pose_of(landmarks: NDArray[np.floating]) -> Array:
    """The poses (..., 3) whose marks fit landmarks (..., 8) best in least squares, angles from -pi to pi."""
    points = (np.asarray(landmarks, dtype=np.float64).reshape(*landmarks.shape[:-1], 4, 2) + 1.0) * HALF
    middle = points.mean(axis=-2)
    marks = np.array(MARKS) - CENTRE
    away = points - middle[..., None, :]
    along = (marks * away).sum((-1, -2))
    across = (marks[:, 0] * away[..., 1] - marks[:, 1] * away[..., 0]).sum(-1)
    angle = np.arctan2(across, along)
    x = middle[..., 0] + np.sin(angle) * CENTRE[1]
    y = middle[..., 1] - np.cos(angle) * CENTRE[1]
    return np.stack([x, y, angle], axis=-1)


def closeness(landmarks: "torch.Tensor", disc: "torch.Tensor", goal: "torch.Tensor") -> "torch.Tensor":
    """A dense reward (...): 1 with the block at its goal, less for every mark's way there and for the disc's to it.

    landmarks (..., 8), disc (..., 2) in units of the square, goal (8,) or (..., 8) landmarks.
    """
    marks = landmarks.reshape(*landmarks.shape[:-1], 4, 2)
    error = (marks - goal.reshape(*goal.shape[:-1], 4, 2)).norm(dim=-1).mean(-1)
    reach = (disc / HALF - 1.0 - marks.mean(-2)).norm(dim=-1)
    reward: torch.Tensor = 1.0 - 2.5 * error - 0.2 * reach
    return reward


def coverage(pose: Pose, goal: Pose) -> float:
    """The share of the block at `pose` that lies on the goal."""
    return float(shared_area(*to_frame(goal, *pose[:2]), pose[2] - goal[2])) / AREA


def to_frame(frame: Pose, x: float, y: float) -> tuple[float, float]:
    """The point x, y of the square as a body at the pose `frame` sees it."""
    cos, sin = math.cos(frame[2]), math.sin(frame[2])
    dx, dy = x - frame[0], y - frame[1]
    return cos * dx + sin * dy, cos * dy - sin * dx


def from_frame(frame: Pose, x: float, y: float) -> tuple[float, float]:
    """Where in the square the point x, y of a body at the pose `frame` lies."""
    cos, sin = math.cos(frame[2]), math.sin(frame[2])
    return frame[0] + cos * x - sin * y, frame[1] + sin * x + cos * y


@njit(cache=True)
def distance(x, y):  # type: ignore[no-untyped-def]
    """From a point in the block's own frame to its outline, negative inside."""
    bar_x, bar_y = abs(x) - 60.0, abs(y - 15.0) - 15.0
    stem_x, stem_y = abs(x) - 15.0, abs(y - 60.0) - 60.0
    bar = math.hypot(max(bar_x, 0.0), max(bar_y, 0.0)) + min(max(bar_x, bar_y), 0.0)
    stem = math.hypot(max(stem_x, 0.0), max(stem_y, 0.0)) + min(max(stem_x, stem_y), 0.0)
    return min(bar, stem)


@njit(cache=True)
def shared_area(x, y, angle):  # type: ignore[no-untyped-def]
    """The area that a T at this pose shares with a T at the origin."""
    cos, sin = math.cos(angle), math.sin(angle)
    polygon = np.empty((12, 2))
    cut = np.empty((12, 2))
    total = 0.0
    for piece in BOXES:
        for box in BOXES:
            for corner in range(4):
                px = piece[2] if corner in (1, 2) else piece[0]
                py = piece[3] if corner >= 2 else piece[1]
                polygon[corner, 0] = x + cos * px - sin * py
                polygon[corner, 1] = y + sin * px + cos * py
            count = 4
            for axis in range(2):
                count = keep_below(polygon, count, axis, -1.0, -box[axis], cut)
                count = keep_below(cut, count, axis, 1.0, box[2 + axis], polygon)
            for i in range(count):
                j = (i + 1) % count
                total += 0.5 * (polygon[i, 0] * polygon[j, 1] - polygon[j, 0] * polygon[i, 1])
    return total


@njit(cache=True)
def keep_below(polygon, count, axis, sign, bound, out):  # type: ignore[no-untyped-def]
    """Write the part of a convex polygon (count, 2) where sign * coordinate <= bound; return its corners."""
    kept = 0
    for i in range(count):
        j = (i + 1) % count
        here, there = sign * polygon[i, axis] - bound, sign * polygon[j, axis] - bound
        if here <= 0.0:
            out[kept] = polygon[i]
            kept += 1
        if (here < 0.0 < there) or (there < 0.0 < here):
            out[kept] = polygon[i] + here / (here - there) * (polygon[j] - polygon[i])
            kept += 1
    return kept
