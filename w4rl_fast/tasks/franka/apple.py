"""Pick an apple: lift it ten centimetres off the table, in the hand."""

from typing import Any

import numpy as np

from w4rl_fast.tasks.franka.scene import Scene, Wish, body_of, grasp, hand_of, held, over, put

RADIUS = 0.029
LIFT, ABOVE = 0.10, 0.17
NEAR = 0.05

WORLD = f"""<body name="apple"><freejoint name="apple"/>
    <geom class="thing" type="sphere" size="{RADIUS}" mass="0.12"
        condim="6" friction="1 0.02 0.002" rgba="0.85 0.08 0.10 1"/>
    <geom class="picture" type="capsule" fromto="0 0 {RADIUS} 0.004 0 {RADIUS + 0.012}" size="0.003"
        rgba="0.30 0.18 0.08 1"/>
    <geom class="picture" type="ellipsoid" pos="0.012 0 {RADIUS + 0.008}" size="0.011 0.006 0.003"
        rgba="0.20 0.60 0.15 1"/>
</body>"""


def lay(data: Any, rng: np.random.Generator) -> None:
    put(data, "apple", (rng.uniform(0.44, 0.60), rng.uniform(-0.14, 0.14), RADIUS))


def score(data: Any) -> float:
    apple = body_of(data, "apple")
    lifted = (apple[2] - RADIUS) / LIFT
    in_hand = np.linalg.norm(apple - hand_of(data)) < NEAR
    return float(np.clip(lifted, 0.0, 1.0)) if in_hand else 0.0


def wish(data: Any) -> Wish:
    apple = body_of(data, "apple")
    if held(data, apple):
        return Wish(over(apple, ABOVE), closed=True)
    return grasp(data, apple)


SCENE = Scene(WORLD, lay, score, wish)
