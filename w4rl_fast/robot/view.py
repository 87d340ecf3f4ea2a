"""What a person at the terminal sees while a policy drives."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.robot.arm import State
from w4rl_fast.robot.camera import Shot
from w4rl_fast.robot.loop import Turn
from w4rl_fast.robot.protocol import TICK, Flag, Mode
from w4rl_fast.robot.setup import Setup

EVERY = 0.2
"""Seconds between two drawings: the loop has better things to do."""


class View:
    """A table that is drawn anew a few times a second, on a terminal; elsewhere it draws nothing."""

    def __init__(self, setup: Setup, title: str, *, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True)
        self._setup, self._title = setup, title
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if console.is_terminal and not quiet else None
        )
        self._delays: list[float] = []
        self._last = -math.inf
        self._first: Turn | None = None
        self._refused = 0
        if self._live:
            self._live.start()

    def turn(self, turn: Turn) -> None:
        self._first = self._first or turn
        self._refused += bool(turn.sent.refused)
        if turn.delay is not None:
            self._delays = [*self._delays[-199:], turn.delay * TICK * 1e3]
        now = turn.tick * TICK
        if self._live is None or now - self._last < EVERY:
            return
        self._last = now
        self._live.update(self._table(turn), refresh=True)

    def end(self, state: State, shot: Shot, proprio: NDArray[np.float32]) -> None:
        if self._live:
            self._live.stop()

    def _table(self, turn: Turn) -> Any:
        from rich.table import Table

        table = Table(title=self._title, show_header=False, min_width=60)
        for name, value in rows_of(turn, self._first or turn, self._delays, self._refused, self._setup).items():
            table.add_row(name, value)
        return table


def rows_of(turn: Turn, first: Turn, delays: list[float], refused: int, setup: Setup) -> dict[str, str]:
    """What the view says of a turn."""
    state, limits = turn.state, setup.limits
    passed = (turn.tick - first.tick) * TICK
    rate = (turn.number - first.number) / passed if passed > 0 else math.nan
    low, high = np.array(limits.low), np.array(limits.high)
    room = float(np.min(np.minimum(state.command - low, high - state.command)))
    speed = float(np.max(np.abs(state.speed) / np.array(limits.speed)))
    tool, walls = state.tool, setup.workspace
    wall = float(np.min(np.minimum(tool - np.array(walls.low), np.array(walls.high) - tool)))
    told = ", ".join(str(flag.name).lower() for flag in state.flags if flag != Flag.TAKEN) or "nothing"
    delay = f"{np.median(delays):.0f} ms, p99 {np.percentile(delays, 99):.0f} ms" if delays else "not yet measured"
    return {
        "turn": f"{turn.number}, {passed:.1f} s",
        "mode": state.mode.name.lower() + (f" ({state.fault.name.lower()})" if state.mode == Mode.FAULT else ""),
        "rate": f"{rate:.2f} Hz, this turn {turn.late} ms late",
        "delay": delay,
        "tracking error": f"{1e3 * float(np.abs(state.joints - state.command).max()):.1f} mrad",
        "left of limits": f"range {room:.2f} rad, speed {100 * (1 - speed):.0f} %, walls {100 * wall:.0f} cm",
        "missed ticks": f"{state.missed}, at most {state.longest} in a row",
        "servo says": f"{told}; {refused} messages refused",
    }
