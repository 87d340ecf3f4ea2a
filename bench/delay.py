"""What a policy's delay costs, and what compensating it gives back: a hand that follows a target along a circle.

On a simulated arm in simulated time, so that every figure is exact and the same on every machine. The decider knows
where the target will be one period after the moment it looked at; what it decides takes effect only after the injected
delay. The baseline acts as if the observation were of the moment it was decided on. The last line is JSON.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from w4rl_fast.measure import write_result
from w4rl_fast.robot.arm import Command, State
from w4rl_fast.robot.plant import Scene
from w4rl_fast.robot.protocol import TICK, Kind
from w4rl_fast.robot.setup import make_setup
from w4rl_fast.robot.simulated import SimArm
from w4rl_fast.tasks.franka.place import scene_xml

RADIUS, ROUND = 0.06, 2.0
"""Of the circle (m), and how long a round takes (s)."""
RATE, ROUNDS = 10, 4


def circle(tick: float, home: np.ndarray) -> np.ndarray:
    """Where the target is at a tick; it begins and stays in the plane in front of the arm."""
    angle = 2 * np.pi * tick * TICK / ROUND
    return home + RADIUS * np.array([0.0, np.sin(angle), np.cos(angle) - 1.0])


def followed(delay: int, ahead: int, *, compensate: bool) -> dict[str, float]:
    """Distance between hand and target (mm) while decisions come `delay` ticks late and reach `ahead` ticks on."""
    scene = Scene(scene_xml("franka/push-button"))
    period = round(1 / (RATE * TICK))
    with SimArm(scene, make_setup("panda")) as arm:
        state = arm.read()
        home, turn, begin = state.pose[:3], state.pose[3:], state.tick
        errors: list[float] = []
        for number in range(round(ROUNDS * ROUND * RATE)):
            seen = begin + number * period
            state = watch(arm, seen, lambda s: errors.append(off(s, home, begin)))
            ends = [circle(seen - begin + at, home) for at in range(0, ahead + 1, period)]
            state = watch(arm, seen + delay, lambda s: errors.append(off(s, home, begin)))
            origin = seen if compensate else state.tick
            times = origin + period * np.arange(len(ends), dtype=np.float64)
            arm.send(Command(Kind.POSES, times, np.array([[*end, *turn] for end in ends])))
        settled = np.array(errors[len(errors) // 4 :])
    return {"mean_mm": float(settled.mean()), "p99_mm": float(np.percentile(settled, 99))}


def watch(arm: SimArm, until: int, note: Callable[[State], None]) -> State:
    state = arm.read()
    while state.tick < until:
        state = arm.wait(min(state.tick + 5, until))
        note(state)
    return state


def off(state: State, home: np.ndarray, begin: int) -> float:
    return 1e3 * float(np.linalg.norm(state.tool - circle(state.tick - begin, home)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", action="store_true", help="write bench/results/delay.json")
    given = parser.parse_args()
    rows: dict[str, Any] = {}
    for delay in (0, 20, 50, 100):
        pair = {name: followed(delay, 300, compensate=on) for name, on in (("without", False), ("with", True))}
        ratio = pair["without"]["mean_mm"] / pair["with"]["mean_mm"]
        rows[f"{delay} ms"] = {**pair, "ratio": ratio}
        print(
            f"{delay:>4} ms late: {pair['without']['mean_mm']:.1f} mm without, {pair['with']['mean_mm']:.1f} mm with "
            f"compensation: {ratio:.1f} times less"
        )
    if given.save:
        write_result("delay", rows)
    else:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
