"""Which push brings the block nearest to its goal, by the laws of a block without momentum."""

import math
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from w4rl_fast.tasks.push_t.config import SQUARE
from w4rl_fast.tasks.push_t.route import CORNERS, EDGE, shortest, way_out
from w4rl_fast.tasks.push_t.shape import CENTRE, DISC_RADIUS, HALF, OUTLINE, Pose, distance, to_frame

INERTIA = 3000.0
"""Of the block's turning, its mass being 1: a push along n at r from the centre moves it by n and turns it by
(r x n) / INERTIA."""
LENGTHS = np.array([1.0, 2.0, 3.5, 6.0, 10.0, 16.0, 25.0, 40.0, 60.0, 90.0, 130.0])
LONGEST = 160.0
SPACING = 7.5
LEVER = 50.0
"""Units of place that weigh as much as a radian."""
CHANGE = 2.0
"""What going to another side costs beyond the way, in actions."""
PUSH_PACE, WALK_PACE = 8.0, 40.0
"""Units an action, as the costs count them."""
WORTH = 2.5
"""Actions that a unit of what is left undone counts."""


def contact_points() -> NDArray[np.float64]:
    """Where the disc can push (K, 4): a point of the outline and the inward normal, in the block's own frame."""
    found = []
    for i, (x, y) in enumerate(OUTLINE):
        end_x, end_y = OUTLINE[(i + 1) % len(OUTLINE)]
        length = math.hypot(end_x - x, end_y - y)
        n_x, n_y = (y - end_y) / length, (end_x - x) / length
        for along in np.arange(SPACING / 2, length, SPACING):
            px, py = x + (end_x - x) * along / length, y + (end_y - y) * along / length
            if distance(px - DISC_RADIUS * n_x, py - DISC_RADIUS * n_y) > DISC_RADIUS - 1e-6:
                found.append((px, py, n_x, n_y))
    return np.array(found)


CONTACTS = contact_points()
SIDES = np.array(OUTLINE)


def plan(disc: tuple[float, float], pose: Pose, goal: Pose, gap: float) -> tuple[int, Pose]:
    """The contact to push at next, -1 for none, and the pose to push the block to.

    The disc comes to rest `gap` units before the contact first.
    """
    stands = CONTACTS[:, :2] - (DISC_RADIUS + gap) * CONTACTS[:, 2:]
    start = np.array(way_out(*to_frame(pose, *disc)))
    ways = ways_to(start, stands, np.array(pose), CORNERS)
    contact, length = best_push(np.array(pose), np.array(goal), ways, ways_between(gap), CONTACTS, SIDES)
    if contact < 0:
        return -1, pose
    x, y, angle = pushed(*pose, CONTACTS[contact], length)
    return int(contact), (x, y, angle)


@lru_cache
def ways_between(gap: float) -> NDArray[np.float64]:
    """Lengths (K, K) of the ways from one contact to another, far from any wall."""
    stands = CONTACTS[:, :2] - (DISC_RADIUS + gap) * CONTACTS[:, 2:]
    middle = np.array([HALF, HALF, 0.0])
    return np.stack([ways_to(stand, stands, middle, CORNERS) for stand in stands])


@njit(cache=True)
def twist(contact):  # type: ignore[no-untyped-def]
    """Motion of the centre and turning (rad) a unit of the disc's way brings about, in the block's own frame."""
    arm = (contact[0] - CENTRE[0]) * contact[3] - (contact[1] - CENTRE[1]) * contact[2]
    part = 1.0 / (1.0 + arm * arm / INERTIA)
    return part * contact[2], part * contact[3], part * arm / INERTIA


@njit(cache=True)
def pushed(x, y, angle, contact, length):  # type: ignore[no-untyped-def]
    """The pose after a push of so many units that keeps to its contact: an arc."""
    vx, vy, turn = twist(contact)
    turn *= length
    along = length * (math.sin(0.5 * turn) / (0.5 * turn) if abs(turn) > 1e-9 else 1.0)
    cos, sin = math.cos(angle + 0.5 * turn), math.sin(angle + 0.5 * turn)
    centre_x = x - math.sin(angle) * CENTRE[1] + along * (cos * vx - sin * vy)
    centre_y = y + math.cos(angle) * CENTRE[1] + along * (sin * vx + cos * vy)
    angle += turn
    return centre_x + math.sin(angle) * CENTRE[1], centre_y - math.cos(angle) * CENTRE[1], angle


@njit(cache=True)
def error(x, y, angle, goal):  # type: ignore[no-untyped-def]
    """What is wrong with a pose: of the centre in the block's own frame, and of the angle (rad)."""
    dx = goal[0] - math.sin(goal[2]) * CENTRE[1] - x + math.sin(angle) * CENTRE[1]
    dy = goal[1] + math.cos(goal[2]) * CENTRE[1] - y - math.cos(angle) * CENTRE[1]
    cos, sin = math.cos(angle), math.sin(angle)
    turn = (goal[2] - angle + math.pi) % (2.0 * math.pi) - math.pi
    return cos * dx + sin * dy, cos * dy - sin * dx, turn


@njit(cache=True)
def size(x, y, angle, goal):  # type: ignore[no-untyped-def]
    """The same as one number of units."""
    dx, dy, turn = error(x, y, angle, goal)
    return math.sqrt(dx * dx + dy * dy + (LEVER * turn) ** 2)


@njit(cache=True)
def project(x, y, angle, goal, contact):  # type: ignore[no-untyped-def]
    """How long a push at a contact (4,) brings a block nearest to goal (3,), to first order (units)."""
    dx, dy, turn = error(x, y, angle, goal)
    vx, vy, spin = twist(contact)
    along = dx * vx + dy * vy + LEVER * LEVER * turn * spin
    return along / (vx * vx + vy * vy + (LEVER * spin) ** 2)


@njit(cache=True)
def overflow(x, y, angle, sides):  # type: ignore[no-untyped-def]
    """How far a block reaches into the walls."""
    most = 0.0
    cos, sin = math.cos(angle), math.sin(angle)
    for corner in sides:
        px, py = x + cos * corner[0] - sin * corner[1], y + sin * corner[0] + cos * corner[1]
        most = max(most, 7.0 - px, 7.0 - py, px - 504.0, py - 504.0)
    return most


@njit(cache=True)
def ways_to(start, stands, pose, corners):  # type: ignore[no-untyped-def]
    """Lengths (K,) of the clear ways from start to stands (K, 2) in the block's own frame, inf for none."""
    n = len(corners) + 2
    stops = np.empty((n, 2))
    stops[0] = start
    stops[1 : n - 1] = corners
    allowed = np.ones(n, dtype=np.bool_)
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    for i in range(1, n - 1):
        allowed[i] = inside(stops[i], pose, cos, sin)
    ways = np.full(len(stands), np.inf)
    for k in range(len(stands)):
        stops[n - 1] = stands[k]
        if not inside(stands[k], pose, cos, sin):
            continue
        before = shortest(stops, allowed)
        at = n - 1
        if before[at] < 0:
            continue
        ways[k] = 0.0
        while before[at] >= 0:
            ways[k] += math.hypot(stops[at, 0] - stops[before[at], 0], stops[at, 1] - stops[before[at], 1])
            at = before[at]
    return ways


@njit(cache=True)
def inside(point, pose, cos, sin):  # type: ignore[no-untyped-def]
    """Whether a point of the block's own frame lies where the disc may go."""
    x = pose[0] + cos * point[0] - sin * point[1]
    y = pose[1] + sin * point[0] + cos * point[1]
    return min(x, y) >= EDGE and max(x, y) <= SQUARE - EDGE


@njit(cache=True)
def best_push(pose, goal, ways, between, contacts, sides):  # type: ignore[no-untyped-def]
    """Contact and length of the first of two pushes that cost least: ways, pushes, and what they leave undone."""
    best, chosen, chosen_length = np.inf, -1, 0.0
    tight = overflow(pose[0], pose[1], pose[2], sides) + 0.5
    for k in range(len(contacts)):
        if ways[k] == np.inf:
            continue
        own = project(pose[0], pose[1], pose[2], goal, contacts[k])
        for i in range(len(LENGTHS) + 1):
            length = LENGTHS[i] if i < len(LENGTHS) else min(own, LONGEST)
            if length < 0.5:
                continue
            x, y, angle = pushed(pose[0], pose[1], pose[2], contacts[k], length)
            if overflow(x, y, angle, sides) > tight:
                continue
            spent = ways[k] / WALK_PACE + length / PUSH_PACE
            cost = spent + WORTH * size(x, y, angle, goal)
            for j in range(len(contacts)):
                further = project(x, y, angle, goal, contacts[j])
                if further < 0.5 or j == k:
                    continue
                further = min(further, LONGEST)
                x2, y2, angle2 = pushed(x, y, angle, contacts[j], further)
                later = CHANGE + between[k, j] / WALK_PACE + further / PUSH_PACE
                cost = min(cost, spent + later + WORTH * size(x2, y2, angle2, goal))
            if cost < best:
                best, chosen, chosen_length = cost, k, length
    return chosen, chosen_length
