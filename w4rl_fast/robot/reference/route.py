"""Points with times, where a target is between them, and how a new route takes over from an old one: the definition."""

from dataclasses import dataclass
from math import sqrt

Numbers = list[float]


@dataclass(frozen=True, slots=True)
class Route:
    """Rising `times` (ticks) and as many `values`; what was left of the last route at `begin` fades over `fading`
    ticks."""

    times: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    begin: int = 0
    fading: int = 0
    left: tuple[float, ...] = ()


def leg(times: tuple[float, ...], now: float) -> tuple[int, float]:
    """Between which point and the next the time lies, and how far along, 0 to 1; before the first and after the last:
    0."""
    if now < times[0]:
        return 0, 0.0
    for i in range(len(times) - 1):
        if now < times[i + 1]:
            return i, (now - times[i]) / (times[i + 1] - times[i])
    return len(times) - 1, 0.0


def fade(route: Route, now: float) -> float:
    """How much of what was left is still there, 1 to 0, without a jump of speed at either end."""
    if now >= route.begin + route.fading:
        return 0.0
    u = (now - route.begin) / route.fading
    return 1.0 - u * u * (3.0 - 2.0 * u)


def joints_at(route: Route, now: float) -> Numbers:
    """The seven angles of a route at a time, rad."""
    i, u = leg(route.times, now)
    here = route.values[i]
    then = route.values[i + 1] if u > 0.0 else here
    weight = fade(route, now)
    return [here[k] + u * (then[k] - here[k]) + weight * (route.left[k] if weight > 0.0 else 0.0) for k in range(7)]


def pose_at(route: Route, now: float) -> Numbers:
    """Position (m) and unit quaternion (w, x, y, z) of a route at a time."""
    i, u = leg(route.times, now)
    here = route.values[i]
    then = route.values[i + 1] if u > 0.0 else here
    weight = fade(route, now)
    left = route.left if weight > 0.0 else (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    position = [here[k] + u * (then[k] - here[k]) + weight * left[k] for k in range(3)]
    turn = toward(list(here[3:]), list(then[3:]), u)
    return position + times(toward([1.0, 0.0, 0.0, 0.0], list(left[3:]), weight), turn)


def toward(here: Numbers, there: Numbers, u: float) -> Numbers:
    """The unit quaternion a part of the way from one to another, the short way round."""
    near = here[0] * there[0] + here[1] * there[1] + here[2] * there[2] + here[3] * there[3]
    sign = -u if near < 0.0 else u
    return unit([(1.0 - u) * here[k] + sign * there[k] for k in range(4)])


def unit(q: Numbers) -> Numbers:
    length = sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3])
    return [q[k] / length for k in range(4)]


def times(p: Numbers, q: Numbers) -> Numbers:
    """The product of two quaternions: first q, then p."""
    return [
        p[0] * q[0] - p[1] * q[1] - p[2] * q[2] - p[3] * q[3],
        p[0] * q[1] + p[1] * q[0] + p[2] * q[3] - p[3] * q[2],
        p[0] * q[2] - p[1] * q[3] + p[2] * q[0] + p[3] * q[1],
        p[0] * q[3] + p[1] * q[2] - p[2] * q[1] + p[3] * q[0],
    ]


def quaternion(turn: tuple[tuple[float, float, float], ...]) -> Numbers:
    """The unit quaternion of a rotation that is given by its columns."""
    x, y, z = turn
    trace = x[0] + y[1] + z[2]
    if trace > 0.0:
        q = [1.0 + trace, y[2] - z[1], z[0] - x[2], x[1] - y[0]]
    elif x[0] >= y[1] and x[0] >= z[2]:
        q = [y[2] - z[1], 1.0 + x[0] - y[1] - z[2], y[0] + x[1], z[0] + x[2]]
    elif y[1] >= z[2]:
        q = [z[0] - x[2], y[0] + x[1], 1.0 + y[1] - x[0] - z[2], z[1] + y[2]]
    else:
        q = [x[1] - y[0], z[0] + x[2], z[1] + y[2], 1.0 + z[2] - x[0] - y[1]]
    return unit(q)
