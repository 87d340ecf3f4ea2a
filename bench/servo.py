"""The servo core in simulated time: ten million ticks of the worst targets, and what a tick costs.

The baseline of the ticks' cost is the arm's own period, of which a step may take a five-hundredth (2 us at p99.9);
beside it what a call from Python adds, and how long the tracker takes for one radian next to ruckig, which plans ahead.
`python -m bench.servo [--ticks 10000000]`; the last line is JSON.
"""

import argparse
import dataclasses
import json
import time
from typing import Any

import numpy as np

from bench.storm import inspect, storm
from w4rl_fast.measure import write_result
from w4rl_fast.robot.limits import limits_of
from w4rl_fast.robot.protocol import TICK, Kind
from w4rl_fast.robot.reference.tracker import Motion, follow, make_axis
from w4rl_fast.robot.servo import NativeServo
from w4rl_fast.robot.setup import READY, Setup, Workspace, make_setup, settings_of

TIGHT = Workspace(low=(0.25, -0.4, 0.05), high=(0.75, 0.4, 0.8), keep_out=(((0.4, 0.1, 0.0), (0.5, 0.2, 0.3)),))
CALLS, REPEATS = 200_000, 8


def storms(ticks: int) -> dict[str, Any]:
    """Limit violations, the worst of each derivative, and a hash, for both arms at their makers' limits."""
    found = {}
    for arm, workspace in (("panda", Workspace()), ("panda", TIGHT), ("fr3", Workspace()), ("fr3", TIGHT)):
        setup = Setup(arm=arm, limits=limits_of(arm), workspace=workspace)
        share = ticks // 4
        begun = time.perf_counter()
        walls = np.array([workspace.low, workspace.high])
        seen = inspect(storm(NativeServo(settings_of(setup)), share, seed=len(found)), setup.limits, walls)
        again = inspect(storm(NativeServo(settings_of(setup)), min(share, 100_000), seed=len(found)), setup.limits)
        twice = inspect(storm(NativeServo(settings_of(setup)), min(share, 100_000), seed=len(found)), setup.limits)
        name = f"{arm}, {'tight' if workspace is TIGHT else 'open'} workspace"
        found[name] = {
            **{field.name: getattr(seen, field.name) for field in dataclasses.fields(seen)},
            "same_seed_same_hash": again.hash == twice.hash,
            "seconds": round(time.perf_counter() - begun, 1),
        }
        print(f"{name}: {seen.ticks:,} ticks, {seen.violations} violations, {worst(seen.worst)}, {seen.faults} faults")
    return found


def worst(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.6f}" for name, share in shares.items())


def steps() -> dict[str, dict[str, float]]:
    """Of the core's own time for a step (us), driving by poses and by joints, and at rest; and what Python adds.

    The same motion is made several times: in each tick the least is the step's own, the rest is what interrupted it.
    """
    times: dict[str, dict[str, float]] = {}
    for name, kind in (("poses", Kind.POSES), ("joints", Kind.JOINTS)):
        runs = [durations(kind) for _ in range(REPEATS)]
        times[name] = quantiles(np.concatenate(runs))
        times[f"{name}, least of {REPEATS} times the same tick"] = quantiles(np.min(runs, 0))
    servo = NativeServo(settings_of(make_setup("panda")))
    measured, whole, own = np.array(READY), np.empty(CALLS), np.empty(CALLS)
    step, clock = servo.driver.step, time.perf_counter_ns
    servo.start(measured)
    for k in range(CALLS):
        begun = clock()
        step(measured, measured, 0.0, 1)
        whole[k] = clock() - begun
        own[k] = servo.driver.duration
    times["at rest"] = quantiles(own)
    times["added by Python"] = quantiles(whole - own)
    empty = np.empty(CALLS)
    for k in range(CALLS):
        begun = clock()
        empty[k] = clock() - begun
    times["of which the timer"] = quantiles(empty)
    return times


def durations(kind: Kind) -> np.ndarray:
    """What every tick of one and the same motion took (ns)."""
    servo = NativeServo(settings_of(make_setup("panda")))
    servo.start(np.array(READY))
    rng, taken = np.random.default_rng(0), []
    for _ in range(CALLS // 100):
        servo.post(kind, *route(servo, kind, rng))
        servo.run(100)
        taken.append(servo.samples(servo.recorded - 100, 100)["duration"])
    return np.concatenate(taken)


def route(servo: NativeServo, kind: Kind, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Half a second from where the goal is: as a policy at 10 Hz sends it."""
    state = servo.report()
    times = servo.tick + np.array([0.0, 100.0, 200.0])
    if kind == Kind.JOINTS:
        ends = [
            np.clip(state["goal"] + rng.normal(0, 0.05, 7), np.array(READY) - 0.3, np.array(READY) + 0.3) for _ in "ab"
        ]
        return times, np.stack([state["goal"], *ends])
    from w4rl_fast.robot.reference import kinematics
    from w4rl_fast.robot.reference.route import quaternion

    arm = kinematics.place([float(q) for q in state["goal"]])
    home = np.array(kinematics.place(list(READY)).tool)
    pose = np.array([*arm.tool, *quaternion(arm.turn)])
    rows = [pose.copy() for _ in range(3)]
    for row in rows[1:]:
        row[:3] = np.clip(row[:3] + rng.uniform(-0.025, 0.025, 3), home - 0.12, home + 0.12)
    return times, np.stack(rows)


def quantiles(nanoseconds: np.ndarray) -> dict[str, float]:
    return {f"p{q:g}": round(float(np.percentile(nanoseconds, q)) / 1000, 3) for q in (50, 99, 99.9)}


def one_radian() -> dict[str, float]:
    """Seconds from rest to rest over one radian of the Panda's first joint."""
    limits = limits_of("panda")
    low, high, speed, acceleration, jerk, ending = (
        getattr(limits, kind)[0] for kind in ("low", "high", "speed", "acceleration", "jerk", "ending")
    )
    axis, motion, ticks = make_axis(low, high, speed, acceleration, jerk, ending), Motion(0.0), 0
    while motion != Motion(1.0):
        motion, ticks = follow(motion, 1.0, 0.0, axis), ticks + 1
    taken = {"servo": ticks * TICK}
    try:
        import ruckig
    except ModuleNotFoundError:
        return taken
    asked, planned = ruckig.InputParameter(1), ruckig.Trajectory(1)
    asked.current_position, asked.target_position = [0.0], [1.0]
    for name, most in (("ruckig", jerk), ("ruckig at the servo's jerk", axis.jerk)):
        asked.max_velocity, asked.max_acceleration, asked.max_jerk = [speed], [acceleration], [most]
        ruckig.Ruckig(1).calculate(asked, planned)
        taken[name] = planned.duration
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, default=10_000_000)
    parser.add_argument("--save", action="store_true", help="write bench/results/servo.json")
    given = parser.parse_args()
    summary = {"ticks": given.ticks, "storms": storms(given.ticks), "step_us": steps(), "one_radian_s": one_radian()}
    for name, row in summary["step_us"].items():
        print(f"{name}: " + ", ".join(f"{q} {value} us" for q, value in row.items()))
    print("one radian: " + ", ".join(f"{name} {seconds:.3f} s" for name, seconds in summary["one_radian_s"].items()))
    if given.save:
        write_result("servo", summary)
    else:
        print(json.dumps(summary))


if __name__ == "__main__":
    main()
