"""Bread and a box: put it in, or take it out and leave it on the table; either way let go of it."""

from typing import Any

import numpy as np

from w4rl_fast.tasks.franka.scene import (
    Array,
    Scene,
    Wish,
    body_of,
    deliver,
    grasp,
    hand_of,
    held,
    leave,
    opening_of,
    put,
    stand,
)

LONG, WIDE, TALL = 0.036, 0.020, 0.028
"""Half of the bread each way, m."""
INSIDE_X, INSIDE_Y, WALL, RIM = 0.065, 0.085, 0.006, 0.045
"""The inside of the box, half of it, how thick its walls are and how high, m."""
BOTTOM = 0.004
LET_GO = 0.06
"""The opening of fingers that hold nothing, m."""
GRIP = 0.018
"""How far over the bread's middle it is taken, m."""
ASIDE = 0.20
"""How far beside the middle of the box the bread is laid down, m."""
FAR = 0.35
"""From here on a bread that is away from where it belongs scores nothing, m."""
DROP = 0.004
"""How far over where it is to lie the bread is let go, m."""

CRUST, CRUMB, BLUE = "0.55 0.27 0.08 1", "0.98 0.90 0.70 1", "0.16 0.33 0.62 1"


def wall(x: float, y: float, half_x: float, half_y: float) -> str:
    return f'<geom class="thing" type="box" pos="{x} {y} {RIM / 2}" size="{half_x} {half_y} {RIM / 2}" rgba="{BLUE}"/>'


WORLD = f"""<body name="box" mocap="true">
    <geom class="thing" type="box" pos="0 0 {BOTTOM / 2}" size="{INSIDE_X} {INSIDE_Y} {BOTTOM / 2}"
        rgba="0.10 0.18 0.33 1"/>
    {wall(INSIDE_X + WALL, 0, WALL, INSIDE_Y + 2 * WALL)} {wall(-INSIDE_X - WALL, 0, WALL, INSIDE_Y + 2 * WALL)}
    {wall(0, INSIDE_Y + WALL, INSIDE_X, WALL)} {wall(0, -INSIDE_Y - WALL, INSIDE_X, WALL)}
</body>
<body name="bread"><freejoint name="bread"/>
    <geom class="thing" type="box" size="{LONG} {WIDE} {TALL}" mass="0.08" rgba="{CRUST}"/>
    <geom class="picture" type="box" pos="0 0 {TALL}" size="{LONG - 0.006} {WIDE - 0.005} 0.0015" rgba="{CRUMB}"/>
</body>"""


def lay_outside(data: Any, rng: np.random.Generator) -> None:
    stand(data, "box", rng.uniform(0.46, 0.58), rng.uniform(0.09, 0.19))
    put(data, "bread", (rng.uniform(0.42, 0.60), rng.uniform(-0.21, -0.09), TALL), rng.uniform(-0.2, 0.2))


def lay_inside(data: Any, rng: np.random.Generator) -> None:
    x, y = rng.uniform(0.46, 0.58), rng.uniform(0.05, 0.17)
    stand(data, "box", x, y)
    place = (x + rng.uniform(-0.015, 0.015), y + rng.uniform(-0.02, 0.02), BOTTOM + TALL)
    put(data, "bread", place, rng.uniform(-0.2, 0.2))


def inside(data: Any) -> bool:
    away = np.abs(body_of(data, "bread") - body_of(data, "box"))
    return bool(away[0] < INSIDE_X and away[1] < INSIDE_Y and away[2] < RIM)


def outside(data: Any) -> bool:
    """Whether the bread lies on the table, the whole of it beside the box."""
    away = np.abs(body_of(data, "bread") - body_of(data, "box"))
    reach = float(np.hypot(LONG, TALL))
    beside = away[0] > INSIDE_X + 2 * WALL + reach or away[1] > INSIDE_Y + 2 * WALL + reach
    return bool(beside and 0 < away[2] < LONG + 0.004)


def let_go(data: Any) -> bool:
    """Whether the fingers are open, or away from the bread."""
    far = np.linalg.norm(body_of(data, "bread") - hand_of(data)) > 0.1
    return bool(far or opening_of(data) > LET_GO)


def score_in(data: Any) -> float:
    if inside(data):
        return 1.0 if let_go(data) else 0.9
    return closeness(data, body_of(data, "box"))


def score_out(data: Any) -> float:
    if outside(data):
        return 1.0 if let_go(data) else 0.9
    return closeness(data, beside_box(data))


def closeness(data: Any, goal: Array) -> float:
    """From 0 to 0.8 the nearer the bread is to a place on the table."""
    away = np.linalg.norm(body_of(data, "bread")[:2] - goal[:2])
    return 0.8 * float(np.clip(1.0 - away / FAR, 0.0, 1.0))


def beside_box(data: Any) -> Array:
    """Where the bread is laid down (3,), m."""
    return np.asarray(body_of(data, "box") - np.array([0.0, ASIDE, 0.0]))


def grip_of(data: Any) -> Array:
    """Where the bread is taken (3,), m."""
    return np.asarray(body_of(data, "bread") + np.array([0.0, 0.0, GRIP]))


def wish_in(data: Any) -> Wish:
    return carry(data, body_of(data, "box"), BOTTOM, there=inside(data))


def wish_out(data: Any) -> Wish:
    return carry(data, beside_box(data), 0.0, there=outside(data))


def carry(data: Any, goal: Array, ground: float, *, there: bool) -> Wish:
    """Take the bread to a goal (3,), put it down on a ground at a height, m, and leave it once it is there."""
    grip = grip_of(data)
    if held(data, grip):
        return deliver(data, goal, ground + TALL + GRIP + DROP)
    return leave(data, LET_GO) if there else grasp(data, grip)


PUT_IN = Scene(WORLD, lay_outside, score_in, wish_in)
PUT_OUT = Scene(WORLD, lay_inside, score_out, wish_out)
