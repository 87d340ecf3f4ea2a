"""What one scene is: things on the table, where they begin, how far the task is done, and what an expert wants."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.tasks.franka.panda import GRIPPER

Array = NDArray[np.float64]

HIGH = 0.14
"""From here the open fingers pass over everything on the table, m."""
BETWEEN = (0.014, 0.018, 0.014)
"""How far from the fingertips a place may be that they can close on, m."""
ALIGNED, FUNNEL = 0.01, 6.0
"""How far aside the hand may be when it comes down, m, and how much higher it stays for what it is further aside."""
RESTING, EMPTY = 0.02, 0.01
"""A finger slower than this is at rest, m/s; fingers nearer together than that hold nothing, m."""
CARRIED, LANDED = 0.10, 0.008
"""The height from which a thing may be carried, and how near to where it is laid down it is let go, m."""


class Wish(NamedTuple):
    """Where the hand is to be (3,), m, and whether the gripper is to be closed."""

    hand: Array
    closed: bool


@dataclass(frozen=True, slots=True)
class Scene:
    """One task. Everything is a function of the present state, so that an episode can be judged at any moment.

    `lay` puts the things where a generator says; `score` is 0 to 1, and 1 is success.
    """

    worldbody: str
    lay: Callable[[Any, np.random.Generator], None]
    score: Callable[[Any], float]
    wish: Callable[[Any], Wish]


def hand_of(data: Any) -> Array:
    """Where the middle between the fingertips is (3,), m."""
    return np.array(data.site("tcp").xpos, dtype=np.float64)


def opening_of(data: Any) -> float:
    """How far apart the fingers are, m."""
    return float(data.joint("finger1").qpos[0] + data.joint("finger2").qpos[0])


def body_of(data: Any, name: str) -> Array:
    """Where a body is (3,), m."""
    return np.array(data.body(name).xpos, dtype=np.float64)


def put(data: Any, joint: str, place: tuple[float, float, float], turn: float = 0.0) -> None:
    """Lay a free body at a place (m), turned about the vertical (rad)."""
    data.joint(joint).qpos[:] = (*place, np.cos(turn / 2), 0.0, 0.0, np.sin(turn / 2))


def stand(data: Any, body: str, x: float, y: float) -> None:
    """Stand a body that does not move by itself on the table at x, y (m)."""
    data.mocap_pos[data.model.body(body).mocapid[0]] = (x, y, 0.0)


def over(place: Array, height: float) -> Array:
    """The point at a height (m) over the table above or below a place."""
    return np.array([place[0], place[1], height])


def held(data: Any, place: Array) -> bool:
    """Whether the fingers were told to close and have come to rest on something at a place (3,)."""
    resting = abs(data.joint("finger1").qvel[0]) < RESTING and opening_of(data) > EMPTY
    return bool(resting and data.ctrl[GRIPPER] == 0.0 and around(data, place))


def around(data: Any, thing: Array) -> bool:
    """Whether a place (3,) is between the fingers, whatever their opening."""
    return bool((np.abs(thing - hand_of(data)) < BETWEEN).all())


def grasp(data: Any, thing: Array) -> Wish:
    """Come down around a place (3,) and close; the further aside the hand is, the higher it comes."""
    if around(data, thing):
        return Wish(thing, closed=True)
    aside = float(np.abs(hand_of(data)[:2] - thing[:2]).max())
    climb = min(HIGH - thing[2], FUNNEL * max(0.0, aside - ALIGNED))
    return Wish(over(thing, thing[2] + climb), closed=False)


def deliver(data: Any, goal: Array, height: float) -> Wish:
    """Carry what is held over a goal (3,), down to a height (m) over the table, and let go of it there."""
    hand = hand_of(data)
    if float(np.abs(hand[:2] - goal[:2]).max()) > 2 * ALIGNED:
        return Wish(over(goal if hand[2] > CARRIED else hand, HIGH), closed=True)
    return Wish(over(goal, height), closed=bool(hand[2] > height + LANDED))


def leave(data: Any, opening: float) -> Wish:
    """Open the fingers so far, m, and only then go up."""
    hand = hand_of(data)
    return Wish(over(hand, HIGH) if opening_of(data) > opening else hand, closed=False)
