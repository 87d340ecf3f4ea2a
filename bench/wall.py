"""A servo on the wall clock against the checking server: how many of its ticks are missed while the machine is busy.

A real libfranka talks to the simulated robot of tests/robot/fci, whose process stands for another computer and
therefore goes before all others here. Meanwhile a policy draws a picture and runs its network 20 times a second, and
another process burns a core. What is counted is what the robot saw: ticks that brought no command. Beside our servo's
process: the same servo in a thread of the policy's process, and franky's own callback loop in the policy's process.
With 5 % of the packets lost too. `python -m bench.wall [--seconds 600] [--others 60]`; the last line is JSON.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from bench import serving
from bench.delay import circle
from w4rl_fast.control import Looks
from w4rl_fast.measure import write_result
from w4rl_fast.policy.gaussian import GaussianPolicy, PolicyConfig
from w4rl_fast.robot.arm import ArmLost, Command
from w4rl_fast.robot.decider import Decider
from w4rl_fast.robot.process_arm import ProcessArm
from w4rl_fast.robot.protocol import TICK, Kind
from w4rl_fast.robot.servo import NativeServo
from w4rl_fast.robot.setup import make_setup, settings_of
from w4rl_fast.tasks import default_config

TASK, RATE = "franka/push-button", 20
BEFORE, AFTER = 0.002, 0.004
"""Seconds around a gap of the machine in which a tick that was missed is its doing."""
AHEAD = 300
"""Ticks that a message reaches ahead of what was seen."""
SETUP = make_setup("panda")


def robot(share: str, loss: float) -> contextlib.AbstractContextManager[tuple[str, Callable[[], dict[str, Any]]]]:
    """A scene on a robot that loses a share of the packets each way."""
    faults = json.dumps({"lose_commands": loss, "lose_states": loss} if loss else {})
    return serving.robot("--plant", "scene", "--scene", TASK, "--share", share, "--faults", faults)


@contextlib.contextmanager
def burner() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


WATCH = """
import json, os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
last = time.perf_counter()
while os.getppid() != 1:
    time.sleep(.001)
    now = time.perf_counter()
    if now - last > .002:
        print(json.dumps([last, now]), flush=True)
    last = now
"""


@contextlib.contextmanager
def watchers() -> Iterator[list[tuple[float, float]]]:
    """On each core a process that goes before all others and does nothing but wake up: what the machine itself takes.

    Told afterwards: from when to when nothing ran on one of the cores, where that was more than a tick.
    """
    told: list[tuple[float, float]] = []
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-c", WATCH]
    there = [subprocess.Popen([*command, str(core)], stdout=subprocess.PIPE, text=True) for core in cores]
    try:
        yield told
    finally:
        for process in there:
            process.kill()
            lines = process.communicate()[0].splitlines()
            told += [tuple(json.loads(line)) for line in lines if line.endswith("]")]


class Policy:
    """A network of a policy's size that looks at the drawn scene."""

    def __init__(self, share: str) -> None:
        torch.set_num_threads(1)
        self._task = default_config(TASK)
        self._looks = Looks(self._task, share)
        config = PolicyConfig(image_size=self._task.image_size, action_dim=4, proprio_dim=7, history=2)
        network = GaussianPolicy(config).eval()
        self._decider = Decider(lambda frames, felt: network(frames, felt)[0], 2)

    def decide(self) -> None:
        self._decider.decide(self._looks.draw(), np.zeros(7, np.float32))


def by_process(seconds: float, loss: float) -> dict[str, Any]:
    """Our servo in its own process; the arm goes along a circle, compensated."""
    with robot("w4rl-wall", loss) as (host, stop), burner():
        policy = Policy("w4rl-wall")
        with watchers() as gaps, ProcessArm(SETUP, host=host, allow_non_realtime=True) as arm:
            state = arm.read()
            home, turn, begin = state.pose[:3], state.pose[3:], state.tick
            times, values = AHEAD // 4 * np.arange(5.0), np.empty((5, 7))
            late = refused = turns = 0
            while state.tick - begin < seconds / TICK:
                due = begin + round(turns / RATE / TICK)
                turns += 1
                try:
                    state = arm.wait(due)
                    late += state.tick - due > 10
                    policy.decide()
                    values[:, :3] = [circle(state.tick - begin + at, home) for at in times]
                    values[:, 3:] = turn
                    refused += bool(arm.send(Command(Kind.POSES, state.tick + times, values.copy())).refused)
                except ArmLost:  # a reflex: counted by the robot
                    state = arm.recover()
            arm.rest()
            intervals, steps = arm.histograms()
            last = arm.last()
            told = {
                "interval_us": intervals.quantiles(),
                "step_us": steps.quantiles(),
                "late_turns": late,
                "turns": turns,
            }
            events = [event for event in arm.events if event["event"] == "reflex"]
        summary = stop()
        return {
            **seen(summary),
            **apart_from(gaps, summary["missed_at"]),
            **told,
            "refused": refused,
            "counted_by_servo": last.missed,
            "reflexes_told": len(events),
        }


def by_thread(seconds: float, loss: float) -> dict[str, Any]:
    """The same servo in a thread of the policy's process, started again after every reflex."""
    import pylibfranka as franka

    with robot("w4rl-wall", loss) as (host, stop), burner():
        policy = Policy("w4rl-wall")
        ended = threading.Event()

        def serve() -> None:
            arm = franka.Robot(host, franka.RealtimeConfig.kIgnore)
            servo = NativeServo(settings_of(SETUP))
            while not ended.is_set():
                with contextlib.suppress(RuntimeError):
                    motion(arm, servo)
                with contextlib.suppress(RuntimeError):
                    arm.automatic_error_recovery()

        def motion(arm: Any, servo: NativeServo) -> None:
            control = arm.start_joint_position_control(franka.ControllerMode.JointImpedance)
            state, _ = control.readOnce()
            servo.start(np.array(state.q_d))
            elapsed = 1
            while not ended.is_set():
                servo.step(np.array(state.q), np.array(state.dq), elapsed)
                control.writeOnce(franka.JointPositions(servo.command.tolist()))
                state, duration = control.readOnce()
                elapsed = max(1, round(duration.to_sec() / TICK))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        turns(policy, seconds)
        ended.set()
        thread.join(5)
        return seen(stop())


def by_franky(seconds: float, loss: float) -> dict[str, Any]:
    """Franky's callback loop in C++, in the policy's process, between two postures."""
    import franky

    with robot("w4rl-wall", loss) as (host, stop), burner():
        policy = Policy("w4rl-wall")
        arm = franky.Robot(host, realtime_config=franky.RealtimeConfig.Ignore)
        arm.relative_dynamics_factor = 0.1
        home = np.array(arm.current_joint_state.position)
        ended = threading.Event()

        def serve() -> None:
            side = 1.0
            while not ended.is_set():
                try:
                    arm.move(franky.JointMotion((home + side * np.array([0.3, 0, 0, 0, 0, 0, 0])).tolist()))
                except franky.ControlException:
                    with contextlib.suppress(Exception):
                        arm.recover_from_errors()
                side = -side

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        turns(policy, seconds)
        ended.set()
        thread.join(10)
        return seen(stop())


def apart_from(gaps: list[tuple[float, float]], missed: list[float]) -> dict[str, Any]:
    """The ticks that were missed while all cores ran, and what the machine itself took."""
    begun = np.array([gap[0] for gap in gaps]) - BEFORE
    ended = np.array([gap[1] for gap in gaps]) + AFTER
    own = [at for at in missed if not ((begun <= at) & (at <= ended)).any()]
    run = longest = 0
    for at, before in zip(own, [-1.0, *own], strict=False):
        run = run + 1 if at - before < 1.5 * TICK else 1
        longest = max(longest, run)
    return {
        "own_missed": len(own),
        "own_longest": longest,
        "machine_gaps": len(gaps),
        "machine_gone_s": round(sum(gap[1] - gap[0] for gap in gaps), 2),
        "machine_longest_ms": round(1e3 * max((gap[1] - gap[0] for gap in gaps), default=0.0), 1),
    }


def turns(policy: Policy, seconds: float) -> None:
    begun = time.perf_counter()
    number = 0
    while time.perf_counter() - begun < seconds:
        policy.decide()
        number += 1
        time.sleep(max(0.0, begun + number / RATE - time.perf_counter()))


def seen(summary: dict[str, Any]) -> dict[str, Any]:
    """What the robot saw: commands and ticks of a motion without one, the longest run, reflexes, its own late ticks."""
    ticks = summary["commands"] + summary["missed"]
    return {
        "ticks": ticks,
        "missed": summary["missed"],
        "share": summary["missed"] / max(1, ticks),
        "longest": summary["longest_missed"],
        "reflexes": len(summary["reflexes"]),
        "robot_late": summary["missed_deadlines"],
        "robot_hz": summary["rate_hz"],
    }


LOOPS = {"process": by_process, "thread": by_thread, "franky": by_franky}
ROWS = {
    "servo's process": ("process", 0.0),
    "servo's process, 5 % lost": ("process", 0.05),
    "thread of the policy": ("thread", 0.0),
    "franky's callback": ("franky", 0.0),
}


def apart(loop: str, seconds: float, loss: float) -> dict[str, Any]:
    """One loop in a process of its own: franky and pylibfranka cannot live in one."""
    command = [sys.executable, "-m", "bench.wall", "--loop", loop, "--seconds", str(seconds), "--loss", str(loss)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of our servo's process")
    parser.add_argument("--others", type=float, default=60.0, help="of each other loop, and of lossy ones")
    parser.add_argument("--save", action="store_true", help="write bench/results/wall.json")
    parser.add_argument("--loop", choices=LOOPS, help="one loop alone, for --seconds")
    parser.add_argument("--loss", type=float, default=0.0, help="share of packets lost each way")
    given = parser.parse_args()
    if given.loop:
        print(json.dumps(LOOPS[given.loop](given.seconds, given.loss)))
        return
    rows = {}
    for number, (name, (loop, loss)) in enumerate(ROWS.items()):
        rows[name] = row = apart(loop, given.others if number else given.seconds, loss)
        print(
            f"{name}: {row['missed']} of {row['ticks']:,} ticks missed ({100 * row['share']:.2f} %), at most "
            f"{row['longest']} in a row, {row['reflexes']} reflexes; the robot's own late ticks {row['robot_late']}",
            flush=True,
        )
        if "machine_gaps" in row:
            print(
                f"  {row['machine_gaps']} times nothing ran on a core for more than a tick, {row['machine_gone_s']} s "
                f"in all; apart from these {row['own_missed']} ticks missed, at most {row['own_longest']} in a row",
                flush=True,
            )
    ratio = rows["servo's process"]["share"] / max(rows["thread of the policy"]["share"], 1e-9)
    summary = {"loops": rows, "fifo": realtime_granted(), "ratio_to_thread": ratio}
    if given.save:
        write_result("wall", summary)
    else:
        print(json.dumps(summary))


def realtime_granted() -> bool:
    """Whether the servo's process gets a real-time priority here."""
    code = "from w4rl_fast.robot import realtime; print(realtime.ask().fifo)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return said.stdout.strip() == "True"


if __name__ == "__main__":
    main()
