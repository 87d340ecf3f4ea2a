"""Push a button: past four fifths of its travel, against its spring."""

from typing import Any

import numpy as np

from w4rl_fast.tasks.franka.scene import HIGH, Scene, Wish, body_of, hand_of, over, stand

BASE, TRAVEL = 0.05, 0.024
TOP = BASE + 0.028
ENOUGH = 0.8
CLEAR = 0.04
"""How far over the button's top the hand comes before it presses, m."""

WORLD = f"""<body name="button_base" mocap="true">
    <geom class="thing" type="box" pos="0 0 {BASE / 2}" size="0.05 0.05 {BASE / 2}" rgba="0.95 0.78 0.10 1"/>
    <geom class="picture" type="cylinder" pos="0 0 {BASE}" size="0.036 0.002" rgba="0.12 0.12 0.13 1"/>
    <body name="button" pos="0 0 {BASE + 0.013}">
        <joint name="button" type="slide" axis="0 0 -1" range="0 {TRAVEL}"
            stiffness="150" springref="-0.01" damping="4"/>
        <geom class="fitted" type="cylinder" size="0.028 0.015" mass="0.05" rgba="0.86 0.08 0.10 1"/>
    </body>
</body>"""


def lay(data: Any, rng: np.random.Generator) -> None:
    stand(data, "button_base", rng.uniform(0.44, 0.62), rng.uniform(-0.15, 0.15))


def score(data: Any) -> float:
    return float(np.clip(data.joint("button").qpos[0] / (ENOUGH * TRAVEL), 0.0, 1.0))


def wish(data: Any) -> Wish:
    button, hand = body_of(data, "button"), hand_of(data)
    aside = np.abs(hand[:2] - button[:2]).max()
    if aside > 0.025:
        return Wish(over(button, HIGH if hand[2] < TOP + CLEAR else TOP + CLEAR), closed=True)
    return Wish(over(button, TOP - TRAVEL), closed=True)


SCENE = Scene(WORLD, lay, score, wish)
