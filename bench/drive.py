"""What becomes of a policy when it leaves the simulator: the same held-out scenes, driven by the robot's own loop.

For every seed a checking server (tests/robot/fci) shows the scene of that seed, a real libfranka talks to it, and
`w4rl control` drives it on the wall clock: a reflex, a refused message or a missed tick counts against it. Beside it
the same seeds on the virtual arm (the same servo in simulated time) and in the simulator the policy was judged in.
`python -m bench.drive RUN [--policies cloned,refined] [--episodes 20]`; the last line is JSON.
"""

import argparse
import functools
import json
import os
from pathlib import Path
from typing import Any

from bench.serving import robot
from w4rl_fast.control import ControlConfig, Told, control
from w4rl_fast.measure import write_result
from w4rl_fast.refine.proof import contender, policy_actor
from w4rl_fast.run import task_of_run
from w4rl_fast.truth.success import FIRST_SEED, judge


def on_a_robot(run: Path, policy: str, seed: int) -> tuple[Told, dict[str, Any]]:
    """One episode through libfranka, and what the robot saw of it."""
    share = f"w4rl-drive-{os.getpid()}"
    scene = ("--plant", "scene", "--scene", task_of_run(run).name, "--share", share, "--gripper", "--seed", seed)
    with robot(*scene) as (host, stop):
        config = ControlConfig(
            arm=f"fci://{host}", camera=f"scene:{share}", policy=policy, seed=seed, allow_non_realtime=True
        )
        (told,) = control(run, config, quiet=True)
        return told, stop()


def drive(run: Path, policy: str, seeds: range) -> dict[str, Any]:
    actor = functools.partial(policy_actor, contender(run, policy)[1].policy)
    simulator = judge(task_of_run(run), actor, episodes=len(seeds), first_seed=seeds[0]).by_seed
    rows = []
    for seed in seeds:
        (virtual,) = control(run, ControlConfig(arm="virtual", policy=policy, seed=seed), quiet=True)
        told, seen = on_a_robot(run, policy, seed)
        ticks = seen["commands"] + seen["missed"]
        rows.append(
            {
                "seed": seed, "simulator": simulator[seed], "virtual": virtual.succeeded, "robot": told.succeeded,
                "ended": told.drive.ended,
                "reflexes": len(seen["reflexes"]), "refused": told.drive.refused, "late": told.drive.overruns,
                "ticks": ticks, "missed": seen["missed"], "longest": seen["longest_missed"],
                "full_torque": seen["longest_saturated"], "error_mrad": max(told.drive.errors, default=0.0),
                "delay_ms": sorted(told.drive.delays)[len(told.drive.delays) // 2] if told.drive.delays else None,
            }
        )  # fmt: skip
        print(f"{policy} {json.dumps(rows[-1])}", flush=True)
    total = {name: sum(bool(row[name]) for row in rows) for name in ("simulator", "virtual", "robot")}
    count = {name: sum(row[name] for row in rows) for name in ("reflexes", "refused", "late", "ticks", "missed")}
    agree = sum(row["virtual"] == row["robot"] for row in rows)
    most = {name: max(row[name] for row in rows) for name in ("longest", "full_torque", "error_mrad")}
    return {"episodes": len(rows), **total, "agree": agree, **count, **most, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--policies", default="cloned,refined")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--save", help="write bench/results/NAME.json")
    given = parser.parse_args()
    seeds = range(FIRST_SEED, FIRST_SEED + given.episodes)
    summary: dict[str, Any] = {"task": task_of_run(given.run).name, "policies": {}}
    for policy in given.policies.split(","):
        summary["policies"][policy] = row = drive(given.run, policy, seeds)
        print(
            f"{policy}: {row['robot']} of {row['episodes']} on the robot, {row['virtual']} on the virtual arm, "
            f"{row['simulator']} in the simulator, "
            f"{row['reflexes']} reflexes, {row['missed']} of {row['ticks']:,} ticks missed",
            flush=True,
        )
    if given.save:
        write_result(given.save, summary)
    else:
        print(json.dumps(summary))


if __name__ == "__main__":
    main()
