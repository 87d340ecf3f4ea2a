"""A client of the real libfranka that steps along a path once per elapsed millisecond."""

from collections.abc import Iterator

import numpy as np

from tests.robot.fci.checker import TICK_S


def connect(host: str):
    """libfranka's robot at an address, without real-time scheduling."""
    import pylibfranka

    return pylibfranka.Robot(host, pylibfranka.RealtimeConfig.kIgnore)


def drive(robot, path: np.ndarray) -> Iterator[tuple[object, int]]:
    """Send a path (ticks, 7), rad, relative to where the arm is held; gives each state and its tick before answering.

    The motion ends with the path. libfranka's exceptions come through.
    """
    import pylibfranka

    control = robot.start_joint_position_control(pylibfranka.ControllerMode.JointImpedance)
    try:
        state, _ = control.readOnce()
        held, tick, last = np.array(state.q_d), 0, len(path) - 1
        while True:
            yield state, tick
            command = pylibfranka.JointPositions((held + path[tick]).tolist())
            command.motion_finished = tick == last
            control.writeOnce(command)
            if tick == last:
                return
            state, elapsed = control.readOnce()
            tick = min(tick + round(elapsed.to_sec() / TICK_S), last)
    finally:
        del control  # libfranka allows nothing else while it lives, and a traceback would keep it


def send(robot, path: np.ndarray) -> list:
    """Drive along a path and return the states that were read."""
    return [state for state, _ in drive(robot, path)]


def minimum_jerk(move: np.ndarray, ticks: int) -> np.ndarray:
    """The smoothest path (ticks + 1, 7) from rest at zero to rest at `move` (7,)."""
    part = np.linspace(0.0, 1.0, ticks + 1)[:, None]
    return part**3 * (10 + part * (6 * part - 15)) * np.asarray(move)


def integrate(jerk: np.ndarray) -> np.ndarray:
    """The path (ticks + 2, 7) from rest whose third differences are `jerk` (ticks, 7), rad/s3, over one tick cubed."""
    steps = np.concatenate([np.zeros((2, jerk.shape[1])), jerk]) * TICK_S**3
    return steps.cumsum(0).cumsum(0).cumsum(0)
