"""Where the Panda's joints and its tool are, how they move, and the joint step towards a pose: the definition."""

from dataclasses import dataclass
from math import cos, sin, sqrt

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]
"""A rotation by its columns."""

JOINTS = 7
# Denavit and Hartenberg's numbers in Craig's order: along and about the last x, then along z (m).
ALONG_X = (0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088)
QUARTERS = (0, -1, 1, 1, -1, 1, 1)
ALONG_Z = (0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0)
FLANGE = 0.107
TOOL = 0.1034
"""From the flange to the point between the fingertips of the hand, which is turned by an eighth against the flange."""
EIGHTH = sqrt(0.5)


@dataclass(frozen=True, slots=True)
class Placement:
    """Origins and axes of the seven joints (m), then the flange, the tool and how the tool is turned."""

    origins: tuple[Vector, ...]
    axes: tuple[Vector, ...]
    flange: Vector
    tool: Vector
    turn: Matrix


def along(p: Vector, direction: Vector, distance: float) -> Vector:
    return (p[0] + distance * direction[0], p[1] + distance * direction[1], p[2] + distance * direction[2])


def mix(a: Vector, s: float, b: Vector, t: float) -> Vector:
    return (s * a[0] + t * b[0], s * a[1] + t * b[1], s * a[2] + t * b[2])


def cross(a: Vector, b: Vector) -> Vector:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def place(joints: list[float]) -> Placement:
    """The arm at seven angles (rad), seen from its base."""
    x, y, z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
    p = (0.0, 0.0, 0.0)
    origins, axes = [], []
    for i in range(JOINTS):
        p = along(p, x, ALONG_X[i])
        if QUARTERS[i] > 0:
            y, z = z, (-y[0], -y[1], -y[2])
        elif QUARTERS[i] < 0:
            y, z = (-z[0], -z[1], -z[2]), y
        p = along(p, z, ALONG_Z[i])
        c, s = cos(joints[i]), sin(joints[i])
        x, y = mix(x, c, y, s), mix(x, -s, y, c)
        origins.append(p)
        axes.append(z)
    flange = along(p, z, FLANGE)
    turn = (mix(x, EIGHTH, y, -EIGHTH), mix(x, EIGHTH, y, EIGHTH), z)
    return Placement(tuple(origins), tuple(axes), flange, along(flange, z, TOOL), turn)


def rotation(w: float, x: float, y: float, z: float) -> Matrix:
    """The columns of the rotation that a unit quaternion stands for."""
    return (
        (1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y)),
        (2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x)),
        (2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y)),
    )


def reach(arm: Placement, position: Vector, turn: Matrix, drift: list[float], damping: float) -> list[float]:
    """The joint step (rad) from where the arm is towards a pose, by damped least squares.

    What the pose leaves free goes along `drift` (7,), rad. Nothing is done twice: a step a tick is enough, since the
    next one starts from where this one led.
    """
    error = [position[0] - arm.tool[0], position[1] - arm.tool[1], position[2] - arm.tool[2]]
    about = [0.0, 0.0, 0.0]
    for column in range(3):
        sine = cross(arm.turn[column], turn[column])
        for k in range(3):
            about[k] = about[k] + 0.5 * sine[k]
    error += about
    columns = []
    for i in range(JOINTS):
        lever = (
            arm.tool[0] - arm.origins[i][0],
            arm.tool[1] - arm.origins[i][1],
            arm.tool[2] - arm.origins[i][2],
        )  # fmt: skip
        columns.append((*cross(arm.axes[i], lever), *arm.axes[i]))
    for row in range(6):
        for i in range(JOINTS):
            error[row] = error[row] - columns[i][row] * drift[i]
    square = [[0.0] * 6 for _ in range(6)]
    for row in range(6):
        for column in range(row + 1):
            total = damping * damping if row == column else 0.0
            for i in range(JOINTS):
                total = total + columns[i][row] * columns[i][column]
            square[row][column] = total
    solve(square, error)
    step = []
    for i in range(JOINTS):
        total = drift[i]
        for row in range(6):
            total = total + columns[i][row] * error[row]
        step.append(total)
    return step


def solve(square: list[list[float]], right: list[float]) -> None:
    """Solve square x = right in place, by the lower half of a positive matrix (Cholesky)."""
    size = len(right)
    for column in range(size):
        for k in range(column):
            for row in range(column, size):
                square[row][column] = square[row][column] - square[row][k] * square[column][k]
        inverse = 1.0 / sqrt(square[column][column])
        for row in range(column, size):
            square[row][column] = square[row][column] * inverse
    for row in range(size):
        for k in range(row):
            right[row] = right[row] - square[row][k] * right[k]
        right[row] = right[row] / square[row][row]
    for row in range(size - 1, -1, -1):
        for k in range(row + 1, size):
            right[row] = right[row] - square[k][row] * right[k]
        right[row] = right[row] / square[row][row]
