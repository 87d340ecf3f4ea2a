"""Ticks a server at 1 kHz of wall-clock time, and lets go wrong what it is told to."""

import threading
import time
from dataclasses import fields, replace

from tests.robot.fci.checker import TICK_S
from tests.robot.fci.link import Faults
from tests.robot.fci.plant import Plant
from tests.robot.fci.server import CheckingServer

SPIN_S = 120e-6  # sleep wakes up to this much late; the rest is waited for awake


class Loop:
    """Ticks a server by absolute deadlines.

    A loop that is late by a tick or more drops the deadlines it has missed: the arm's clock stands meanwhile, and a
    client is not blamed for the machine. With `wait_s`, a tick also waits so long for the answer to its state, which
    makes a test of the checks independent of how busy the machine is; what injection has lost is not waited for.
    """

    def __init__(self, server: CheckingServer, plant: Plant, wait_s: float) -> None:
        self.server, self.plant, self._wait_s = server, plant, wait_s
        self.missed_deadlines = self.stalls = self.waited = 0
        self.longest_late_s = self.busy_s = self.cpu_s = self.elapsed_s = 0.0
        self.stop, self._freeze_s, self._dead = threading.Event(), 0.0, False
        self._die = False

    def take(self, order: dict) -> None:
        """Change the faults, or let something happen once."""
        order, link = dict(order), self.server.link
        once = {"drop_commands", "drop_states", "freeze_ms", "die"}
        unknown = set(order) - once - {field.name for field in fields(Faults)}
        if unknown:
            raise ValueError(f"{sorted(unknown)} cannot be injected; take fields of Faults or one of {sorted(once)}")
        link.commands.drop += order.pop("drop_commands", 0)
        link.states.drop += order.pop("drop_states", 0)
        self._freeze_s += order.pop("freeze_ms", 0) * TICK_S
        self._die |= order.pop("die", False)
        link.faults = replace(link.faults, **order)

    def run(self) -> None:
        """Tick until told to stop."""
        begun = due = time.perf_counter()
        while not self.stop.is_set():
            self._inject()
            if self._dead:
                self.stop.wait(0.05)
                continue
            awake = time.thread_time()
            self.server.process_commands()
            self.plant.step()
            self.server.send_state()
            self.cpu_s += time.thread_time() - awake
            due = self._rest(due)
        self.elapsed_s = time.perf_counter() - begun

    def _inject(self) -> None:
        """Let happen what was asked for once."""
        if self._freeze_s:
            time.sleep(self._freeze_s)
            self._freeze_s = 0.0
        if self._die and not self._dead:
            self._dead = True
            self.server.reset_state()
            self.server.cleanup()

    def _rest(self, due: float) -> float:
        """Sleep until the next deadline, which is returned."""
        now = time.perf_counter()
        self.busy_s += now - max(due, now - TICK_S)
        late = now - due - TICK_S
        if late >= 0:
            missed = 1 + int(late / TICK_S)
            self.missed_deadlines += missed
            self.stalls += 1
            self.longest_late_s = max(self.longest_late_s, late)
            due = now
        else:
            due += TICK_S
            if due - now > SPIN_S:
                time.sleep(due - now - SPIN_S)
            while time.perf_counter() < due:
                pass
        if self._wait_s and self.server.moving and not self.server.link.answered(0):
            self.waited += 1
            self.server.link.answered(self._wait_s)
            due = time.perf_counter()
        return due

    def summary(self) -> dict:
        """What happened: counts, and the largest rates as parts of their limits."""
        server, link = self.server, self.server.link
        ticks = max(server.ticks, 1)
        return {
            "event": "summary", "elapsed_s": round(self.elapsed_s, 3), "ticks": server.ticks,
            "rate_hz": round(server.ticks / max(self.elapsed_s, TICK_S), 2),
            "tick_us": round(self.busy_s / ticks * 1e6, 1), "cpu_us": round(self.cpu_s / ticks * 1e6, 1),
            "missed_deadlines": self.missed_deadlines, "stalls": self.stalls, "waited": self.waited,
            "longest_late_ms": round(1e3 * self.longest_late_s, 2),
            "motions": server.motions, "commands": server.received, "overtaken": server.overtaken,
            "missed": server.missed, "longest_missed": server.longest_missed, "correction_rad": server.correction,
            "longest_saturated": server.longest_saturated, "missed_at": server.missed_at[-100_000:],
            **dict(zip(("velocity", "acceleration", "jerk"), server.checker.peaks.tolist(), strict=True)),
            "lost_commands": link.commands.lost, "lost_states": link.states.lost,
            "delayed_commands": link.commands.delayed, "delayed_states": link.states.delayed,
            "reflexes": server.reflexes,
        }  # fmt: skip
