"""Targets as bad as they come, and an independent look at what a servo made of them."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.robot.limits import Limits
from w4rl_fast.robot.protocol import POINTS, TICK, Fault, Flag, Kind, Mode
from w4rl_fast.robot.reference import kinematics, route
from w4rl_fast.robot.servo import Servo
from w4rl_fast.robot.setup import READY

Numbers = NDArray[np.float64]
BLOCK = 20_000


@dataclass(kw_only=True, slots=True)
class Findings:
    """What came of a storm: ticks, the worst of each derivative relative to its limit, violations, what was said how
    often."""

    ticks: int = 0
    worst: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("range", "speed", "acceleration", "jerk"), 0.0)
    )
    violations: int = 0
    outside: float = 0.0
    flags: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    faults: int = 0
    hash: str = ""


def gust(rng: np.random.Generator, tick: int, goal: Numbers) -> tuple[Kind, Numbers, Numbers, float, str]:
    """A message that may be anything: kind, times (ticks), values, width, and what is wrong with it."""
    kind = Kind(int(rng.choice([1, 2, 3], p=[0.45, 0.5, 0.05])))
    count = int(rng.integers(1, 9)) if rng.random() < 0.95 else POINTS
    times = tick + np.sort(rng.uniform(-100, 600, count)) + np.arange(count)
    if kind == Kind.POSES:
        arm = kinematics.place([float(q) for q in goal])
        pose = np.array([*arm.tool, *route.quaternion(arm.turn)])
        spread = np.array([0.06] * 3 + [0.04] * 4) * rng.choice([0.2, 1.0])
        values = pose + np.cumsum(rng.normal(0, spread, (count, 7)), axis=0)
        values[:, 3:] /= np.linalg.norm(values[:, 3:], axis=1, keepdims=True)
    else:
        values = goal + np.cumsum(rng.normal(0, rng.choice([0.02, 0.12]), (count, 7)), axis=0)
    width = float(rng.uniform(-0.02, 0.12))
    wrong = str(rng.choice(["nothing", "nan", "far", "jump", "order", "clock", "turn"], p=[0.88, *[0.02] * 6]))
    row, column = int(rng.integers(count)), int(rng.integers(7))
    if wrong == "nan":
        values[row, column] = rng.choice([np.nan, np.inf, -np.inf])
    elif wrong == "far":
        values[row, column % 3] = 40.0
    elif wrong == "jump":
        values += 0.9
    elif wrong == "order":
        times[0] = times[-1] + 1.0
    elif wrong == "clock":
        times += 1e6
    elif wrong == "turn" and kind == Kind.POSES:
        values[:, 3:] *= 1.5
    return kind, times, values, width, wrong


def storm(servo: Servo, ticks: int, seed: int) -> Iterator[tuple[Numbers, NDArray[np.int64]]]:
    """Blocks of commands (N, 7) and states (N, 3): gusts at 5 to 500 Hz, stalls until everything is latched, resets."""
    rng = np.random.default_rng(seed)
    if not servo.start(np.array(READY)):
        raise RuntimeError("the servo does not start where the arm begins")
    left, commands, states, held = ticks, [], [], 0
    while left > 0:
        goal = np.asarray(servo.command).copy()
        if servo.mode == Mode.FAULT:
            servo.post(Kind.RESET, np.zeros(0), np.zeros((0, 7)))
        elif rng.random() < 0.97:
            kind, times, values, width, _ = gust(rng, servo.tick, goal)
            servo.post(kind, times, values, width)
        pause = int(rng.choice([2, 5, 20, 50, 200, 450, 1500], p=[0.1, 0.15, 0.25, 0.3, 0.15, 0.04, 0.01]))
        block, state = servo.run(min(pause, left))
        left -= len(block)
        held += len(block)
        commands.append(block)
        states.append(state)
        if held >= BLOCK or left <= 0:
            yield np.concatenate(commands), np.concatenate(states)
            commands, states, held = [], [], 0


def inspect(
    blocks: Iterator[tuple[Numbers, NDArray[np.int64]]], limits: Limits, walls: Numbers | None = None
) -> Findings:
    """Difference the commands as a robot does, and hold them to the limits; the tool to walls (2, 3), if given."""
    found = Findings()
    past = np.tile(np.array(READY), (3, 1))
    digest = hashlib.sha256()
    low, high = np.array(limits.low), np.array(limits.high)
    for commands, states in blocks:
        digest.update(commands.tobytes())
        digest.update(states.tobytes())
        rows = np.concatenate([past, commands])
        past = rows[-3:]
        first = np.diff(rows, axis=0) / TICK
        second = np.diff(first, axis=0) / TICK
        third = np.diff(second, axis=0) / TICK
        bad = (commands < low) | (commands > high) | ~np.isfinite(commands)
        found.worst["range"] = max(found.worst["range"], float(np.max(np.maximum(low - commands, commands - high))))
        for name, values in (("speed", first[2:]), ("acceleration", second[1:]), ("jerk", third)):
            share = np.abs(values) / np.array(getattr(limits, name))
            bad |= ~(share <= 1.0)
            found.worst[name] = max(found.worst[name], float(share.max()))
        found.violations += int(bad.any(axis=1).sum())
        found.ticks += len(commands)
        _count(found, states)
        if walls is not None:
            tool = tool_of(commands[::10])
            found.outside = max(found.outside, float(np.max(np.maximum(walls[0] - tool, tool - walls[1]))))
    found.hash = digest.hexdigest()
    return found


def _count(found: Findings, states: NDArray[np.int64]) -> None:
    for value, times in zip(*np.unique(states[:, 0], return_counts=True), strict=True):
        found.modes[Mode(int(value)).name] += int(times)
    for value, times in zip(*np.unique(states[:, 2], return_counts=True), strict=True):
        for flag in Flag(int(value)):
            found.flags[str(flag.name)] += int(times)
    found.faults += int(np.sum(np.diff(states[:, 1]) == Fault.STALE))


def tool_of(angles: Numbers) -> Numbers:
    """Where the tool is (N, 3) for angles (N, 7): the product of Denavit and Hartenberg's matrices."""
    a = (0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088)
    d = (0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0)
    alpha = np.array([0, -1, 1, 1, -1, 1, 1]) * np.pi / 2
    total = np.tile(np.eye(4), (len(angles), 1, 1))
    for i in range(7):
        c, s = np.cos(angles[:, i]), np.sin(angles[:, i])
        ca, sa = np.cos(alpha[i]), np.sin(alpha[i])
        step = np.zeros((len(angles), 4, 4))
        step[:, 0] = np.stack([c, -s, np.zeros_like(c), np.full_like(c, a[i])], axis=1)
        step[:, 1] = np.stack([s * ca, c * ca, np.full_like(c, -sa), np.full_like(c, -d[i] * sa)], axis=1)
        step[:, 2] = np.stack([s * sa, c * sa, np.full_like(c, ca), np.full_like(c, d[i] * ca)], axis=1)
        step[:, 3, 3] = 1.0
        total = total @ step
    return total[:, :3, 3] + total[:, :3, 2] * (0.107 + 0.1034)
