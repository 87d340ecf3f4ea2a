"""The way of the disc around the block without touching it."""

import math

import numpy as np
from numba import njit

from w4rl_fast.tasks.push_t.config import SQUARE
from w4rl_fast.tasks.push_t.shape import DISC_RADIUS, Pose, distance, from_frame, to_frame

Point = tuple[float, float]

CLEAR = DISC_RADIUS + 5.0
EDGE = 8.0 + DISC_RADIUS
"""The disc's middle keeps so far from the ends of the square."""
WIDE = CLEAR + 4.0
CORNERS = np.array(
    [
        (side * x, y)
        for side in (-1, 1)
        for x, y in ((60 + WIDE, -WIDE), (60 + WIDE, 30 + WIDE), (15 + WIDE, 120 + WIDE), (15 + WIDE, 30 + WIDE))
    ]
)
"""Where a way round may bend, in the block's own frame."""


def route(disc: Point, aim: Point, pose: Pose) -> list[Point]:
    """The bends of the shortest way from the disc to `aim`, which comes last; straight there if there is none."""
    here, end = to_frame(pose, *disc), np.array(to_frame(pose, *aim))
    start = np.array(way_out(*here))
    stops = np.concatenate([start[None], CORNERS, end[None]])
    places = [from_frame(pose, *stop) for stop in stops]
    inside = np.array([min(place) >= EDGE and max(place) <= SQUARE - EDGE for place in places])
    inside[[0, -1]] = True
    before = shortest(stops, inside)
    way = [len(stops) - 1]
    while before[way[-1]] > 0:
        way.append(before[way[-1]])
    if math.dist(here, start) > 1.0:
        way.append(0)
    return [places[stop] for stop in reversed(way)]


def towards(here: Point, there: Point, pace: float) -> Point:
    """The point `pace` units on the way from here to there, or there."""
    share = min(1.0, pace / max(1e-9, math.dist(here, there)))
    return here[0] + share * (there[0] - here[0]), here[1] + share * (there[1] - here[1])


@njit(cache=True)
def shortest(stops, allowed):  # type: ignore[no-untyped-def]
    """For each of stops (N, 2) the one before it on the shortest clear way from the first, -1 for none."""
    n = len(stops)
    length = np.full(n, np.inf)
    length[0] = 0.0
    before = np.full(n, -1)
    for _ in range(n):
        changed = False
        for i in range(n):
            for j in range(n):
                further = length[i] + math.hypot(stops[j, 0] - stops[i, 0], stops[j, 1] - stops[i, 1])
                if allowed[j] and further < length[j] - 1e-9 and is_clear(stops[i], stops[j]):
                    length[j] = further
                    before[j] = i
                    changed = True
        if not changed:
            break
    return before


@njit(cache=True)
def way_out(x, y):  # type: ignore[no-untyped-def]
    """The nearest place or so at which the disc is clear of the block."""
    for _ in range(8):
        lacking = CLEAR + 0.5 - distance(x, y)
        if lacking <= 0.5:
            break
        up_x, up_y = distance(x + 0.01, y) - distance(x - 0.01, y), distance(x, y + 0.01) - distance(x, y - 0.01)
        steep = math.hypot(up_x, up_y) + 1e-9
        x, y = x + lacking * up_x / steep, y + lacking * up_y / steep
    return x, y


@njit(cache=True)
def is_clear(start, end):  # type: ignore[no-untyped-def]
    """Whether the straight way keeps clear of the block, but for its ends, which it must leave outwards."""
    length = math.hypot(end[0] - start[0], end[1] - start[1])
    first, last = distance(start[0], start[1]), distance(end[0], end[1])
    pieces = int(length / 4.0) + 2
    for i in range(1, pieces):
        t = i / pieces
        needed = min(CLEAR, first + 0.5 * t * length, last + 0.5 * (1.0 - t) * length)
        if distance(start[0] + t * (end[0] - start[0]), start[1] + t * (end[1] - start[1])) < needed:
            return False
    return True
