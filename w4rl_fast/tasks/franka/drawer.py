"""Close a drawer: to within a centimetre of shut."""

from typing import Any

import numpy as np

from w4rl_fast.tasks.franka.scene import HIGH, Scene, Wish, body_of, hand_of, stand

ROOM, OPENED = 0.18, 0.13
"""How far the drawer can come out, and how far open counts as nothing done, m."""
SHUT = 0.01
HANDLE = 0.032
"""From the drawer's front to the robot's side of its handle, m."""
BEHIND = 0.035
"""From the handle to the hand that is about to push it, m."""
LEVEL, LOW = 0.045, 0.07
"""The height at which the hand pushes, and the one under which it would meet the drawer, m."""
FOLLOW = 0.02
"""How far past the front the hand is sent while it pushes, m."""
MARGIN, ASIDE = 0.02, 0.03
"""How far the hand may be off the place from which it pushes, along and across the drawer, m."""

GREEN, IVORY, BIRCH, RED = "0.30 0.42 0.36 1", "0.93 0.93 0.88 1", "0.85 0.70 0.48 1", "0.85 0.15 0.12 1"
WORLD = f"""<body name="cabinet" mocap="true">
    <geom class="thing" type="box" pos="0.10 0 0.094" size="0.10 0.105 0.006" rgba="{GREEN}"/>
    <geom class="thing" type="box" pos="0.10 0.099 0.044" size="0.10 0.006 0.044" rgba="{GREEN}"/>
    <geom class="thing" type="box" pos="0.10 -0.099 0.044" size="0.10 0.006 0.044" rgba="{GREEN}"/>
    <geom class="thing" type="box" pos="0.194 0 0.044" size="0.006 0.093 0.044" rgba="{GREEN}"/>
    <geom class="picture" type="box" pos="0.10 0 0.001" size="0.098 0.093 0.001" rgba="0.12 0.14 0.13 1"/>
    <body name="drawer">
        <joint name="drawer" type="slide" axis="1 0 0" range="{-ROOM} 0" damping="8" frictionloss="1.5"/>
        <geom class="fitted" type="box" pos="0.006 0 0.044" size="0.006 0.090 0.038" mass="0.3" rgba="{IVORY}"/>
        <geom class="fitted" type="box" pos="0.09 0.085 0.036" size="0.08 0.004 0.026" mass="0.1" rgba="{BIRCH}"/>
        <geom class="fitted" type="box" pos="0.09 -0.085 0.036" size="0.08 0.004 0.026" mass="0.1" rgba="{BIRCH}"/>
        <geom class="fitted" type="box" pos="0.09 0 0.010" size="0.08 0.082 0.003" mass="0.2" rgba="{BIRCH}"/>
        <geom class="fitted" type="box" pos="{-HANDLE / 2} 0 0.05" size="{HANDLE / 2} 0.035 0.009" mass="0.1"
            rgba="{RED}"/>
    </body>
</body>"""


def lay(data: Any, rng: np.random.Generator) -> None:
    stand(data, "cabinet", rng.uniform(0.62, 0.69), rng.uniform(-0.13, 0.13))
    data.joint("drawer").qpos[0] = -rng.uniform(OPENED, OPENED + 0.03)


def score(data: Any) -> float:
    open_by = -float(data.joint("drawer").qpos[0])
    return float(np.clip(1.0 - (open_by - SHUT) / (OPENED - SHUT), 0.0, 1.0))


def wish(data: Any) -> Wish:
    hand, drawer = hand_of(data), body_of(data, "drawer")
    start = drawer + np.array([-HANDLE - BEHIND, 0.0, LEVEL])
    if hand[2] > LOW and hand[0] > start[0] + MARGIN:
        return Wish(np.array([start[0], drawer[1], max(hand[2], HIGH)]), closed=True)
    if hand[2] > LOW or abs(hand[1] - drawer[1]) > ASIDE:
        return Wish(start, closed=True)
    return Wish(drawer + np.array([FOLLOW, 0.0, LEVEL]), closed=True)


SCENE = Scene(WORLD, lay, score, wish)
