"""Pull a cup of coffee from under its machine: twelve centimetres towards the robot, and upright."""

from typing import Any

import numpy as np

from w4rl_fast.tasks.franka.scene import Scene, Wish, body_of, grasp, held, over, put, stand

RADIUS, HALF = 0.027, 0.036
AWAY = 0.105
"""From the middle of the cup to that of the machine, m."""
PULL, BEYOND = 0.12, 0.15
GRIP = 0.042
UPRIGHT = 0.9

TEAL = "0.10 0.62 0.72 1"
WORLD = f"""<body name="machine" mocap="true">
    <geom class="thing" type="box" pos="0.01 0 0.09" size="0.045 0.07 0.09" rgba="0.22 0.23 0.26 1"/>
    <geom class="thing" type="box" pos="0.01 0 0.185" size="0.05 0.075 0.006" rgba="0.62 0.10 0.12 1"/>
    <geom class="thing" type="cylinder" fromto="-0.035 0 0.125 -0.05 0 0.125" size="0.016" rgba="0.75 0.77 0.80 1"/>
</body>
<body name="cup"><freejoint name="cup"/>
    <geom class="thing" type="cylinder" size="{RADIUS} {HALF}" mass="0.15"
        condim="6" friction="0.7 0.02 0.002" rgba="{TEAL}"/>
    <geom class="picture" type="cylinder" pos="0 0 {HALF}" size="{RADIUS - 0.005} 0.001" rgba="0.20 0.10 0.04 1"/>
    <geom class="picture" type="capsule" fromto="-0.042 0 -0.012 -0.042 0 0.014" size="0.006" rgba="{TEAL}"/>
    <geom class="picture" type="capsule" fromto="-0.042 0 0.014 -0.026 0 0.020" size="0.005" rgba="{TEAL}"/>
    <geom class="picture" type="capsule" fromto="-0.042 0 -0.012 -0.026 0 -0.018" size="0.005" rgba="{TEAL}"/>
</body>"""


def lay(data: Any, rng: np.random.Generator) -> None:
    x, y = rng.uniform(0.50, 0.61), rng.uniform(-0.14, 0.14)
    stand(data, "machine", x + AWAY, y)
    put(data, "cup", (x, y, HALF))


def score(data: Any) -> float:
    pulled = body_of(data, "machine")[0] - AWAY - body_of(data, "cup")[0]
    upright = data.body("cup").xmat[8] > UPRIGHT
    return float(np.clip(pulled / PULL, 0.0, 1.0)) if upright else 0.0


def wish(data: Any) -> Wish:
    grip = over(body_of(data, "cup"), GRIP)
    if held(data, grip):
        return Wish(grip - np.array([BEYOND, 0.0, 0.0]), closed=True)
    return grasp(data, grip)


SCENE = Scene(WORLD, lay, score, wish)
