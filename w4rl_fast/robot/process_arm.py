"""An arm whose servo is a process of its own: what the policy does, or whether it dies, does not delay a tick."""

import os
import secrets
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from w4rl_fast.config import to_json_dict
from w4rl_fast.errors import UserError
from w4rl_fast.robot import shared
from w4rl_fast.robot.arm import ArmLost, Command, State, limited, state_of
from w4rl_fast.robot.child import Child
from w4rl_fast.robot.histogram import Histogram
from w4rl_fast.robot.line import Service
from w4rl_fast.robot.protocol import REPORT, SAMPLE, TICK, Fault, Kind, Link, Mode, Wish
from w4rl_fast.robot.servo import require_native
from w4rl_fast.robot.setup import Setup, settings_of

STARTING, RESTING, LEAVING = 30.0, 5.0, 5.0
SILENT = 0.5
"""Seconds without a word of the servo until it counts as lost."""


class ProcessArm:
    """The policy's end of a channel to a servo's process, which serves a Franka (host) or a scene on the wall clock."""

    rate = round(1 / TICK)

    def __init__(
        self,
        setup: Setup,
        *,
        host: str | None = None,
        scene: str | None = None,
        start: tuple[float, ...] | None = None,
        share: str | None = None,
        allow_non_realtime: bool = False,
        core: int | None = None,
        dry: bool = False,
        recover: bool = False,
        hand: bool = False,
    ) -> None:
        self._native = require_native()
        self.settings = settings_of(setup)
        self._with_hand = hand and host is not None and not dry
        self._hand: Child | None = None
        self._name = f"w4rl-{os.getpid()}-{secrets.token_hex(4)}"
        self._scene = scene
        self._service = Service(
            channel=self._name, parent=os.getpid(), setup=setup, host=host, start=start, share=share, core=core,
            allow_non_realtime=allow_non_realtime, dry=dry, recover=recover,
        )  # fmt: skip
        self._row = np.zeros(1, dtype=REPORT)

    def __enter__(self) -> Self:
        memory = shared.create(self._name, self._native.CHANNEL_BYTES)
        self._native.create_channel(memory)
        self._sender = self._native.Sender(memory)
        service = self._service
        if self._scene is not None:
            path = shared.file_of(f"{self._name}.xml")
            path.write_text(self._scene)
            service = replace(service, scene=str(path))
        self._child = Child("w4rl_fast.robot.serve", to_json_dict(service))
        try:
            self.granted = self._child.wait_for("ready", STARTING)
            self._until(lambda state: state.mode != Mode.OFF, RESTING)
            if self._with_hand:
                self._hand = Child("w4rl_fast.robot.hand", {"host": service.host, "channel": self._name})
                self._hand.wait_for("hand", STARTING)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._child.code is None:
                self.rest()
                self._sender.wish(int(Wish.LEAVE))
                self._child.join(LEAVING)
        except (UserError, subprocess.TimeoutExpired):
            if kind is None:
                raise
        finally:
            self._end()

    @property
    def pid(self) -> int:
        """Of the servo's process."""
        return self._child.pid

    @property
    def events(self) -> list[dict[str, Any]]:
        """What the servo's process and the hand's have told."""
        return [*self._child.events, *(self._hand.events if self._hand else [])]

    def read(self) -> State:
        state = self.last()
        is_silent = state.stamp and time.monotonic_ns() - state.stamp > SILENT * 1e9
        if is_silent or self._row["state"][0] == Link.REFLEX:
            self._complain()
        return state

    def send(self, command: Command) -> Command:
        sent = limited(command, self.read(), self.settings)
        if sent.refused or self._service.dry:
            return sent
        return replace(sent, number=self._sender.post(int(sent.kind), sent.times, sent.values, sent.width))

    def wait(self, tick: int) -> State:
        while True:
            state = self.read()
            left = (tick - state.tick) * TICK - (time.monotonic_ns() - state.stamp) / 1e9
            if state.tick >= tick:
                return state
            time.sleep(max(left, 0.2 * TICK))

    def rest(self) -> State:
        number = self._sender.post(int(Kind.REST), np.zeros(0), np.zeros((0, 7)), -1.0)
        self._until(lambda state: state.number >= number or state.mode in (Mode.OFF, Mode.FAULT), RESTING)
        return self._at_rest()

    def recover(self) -> State:
        state = self.last()
        reflex = bool(self._row["state"][0])
        if self._child.code is not None:
            self._complain()
        if not reflex and state.mode != Mode.FAULT:
            return state
        if reflex or state.fault != Fault.STALE:
            self._sender.wish(int(Wish.RECOVER))
            self._child.wait_for("recovered", RESTING)
        else:
            self._at_rest()
            self._sender.post(int(Kind.RESET), np.zeros(0), np.zeros((0, 7)), -1.0)
        return self._until(lambda now: now.mode == Mode.READY, RESTING)

    def histograms(self) -> tuple[Histogram, Histogram]:
        """The times between the servo's steps, and inside them."""
        counts = np.zeros((2, self._native.HISTOGRAM), dtype=np.int64)
        self._sender.histograms(counts)
        return Histogram(counts[0]), Histogram(counts[1])

    def samples(self, first: int) -> Any:
        """What the servo recorded from its step number `first` on (protocol.SAMPLE), as far as it is still kept."""
        last = self._sender.recorded - 1
        first = max(first, last - self._native.SAMPLES + 64)
        rows = np.zeros(max(0, last - first), dtype=SAMPLE)
        if len(rows):
            self._sender.samples_since(first, rows.view(np.uint8))
        return rows

    def _at_rest(self) -> State:
        return self._until(lambda _: not np.any(self._row["speed"]) and not np.any(self._row["acceleration"]), RESTING)

    def last(self) -> State:
        """The last that was heard of the arm, however long ago."""
        self._sender.report(self._row.view(np.uint8))
        return state_of(self._row[0])

    def _until(self, reached: Any, seconds: float) -> State:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            state = self.read()
            if reached(state):
                return state
            time.sleep(2 * TICK)
        raise ArmLost(
            "the arm", rule=f"it did not get there within {seconds:g} s", remedy="Look at the arm; then start again"
        )

    def _complain(self) -> None:
        """Say why the servo is silent, or why the arm does not move."""
        for event in self.events:
            if event["event"] == "error":
                raise ArmLost(event["value"], rule=event["rule"], remedy=event["remedy"])
        code = self._child.code
        last = self._last_reflex()
        end = time.monotonic() + SILENT
        while self._row["state"][0] == Link.REFLEX and last is None and time.monotonic() < end:
            time.sleep(TICK)  # what the memory says is there before the line that says why
            last = self._last_reflex()
        if last is not None and code is None:
            remedy = "Look at the arm, then start again with --recover"
            raise ArmLost("the robot", rule=f"it stopped itself: {last['why']}", remedy=remedy)
        raise ArmLost(
            "the servo's process",
            rule=f"it ended (exit code {code})" if code is not None else f"no word for more than {SILENT:g} s",
            remedy="The robot has stopped by itself: look at it, then start again",
        )

    def _last_reflex(self) -> dict[str, Any] | None:
        """The reflex that the robot has not been recovered from, if it was told."""
        last = next((event for event in reversed(self.events) if event["event"] in ("reflex", "recovered")), None)
        return last if last is not None and last["event"] == "reflex" else None

    def _end(self) -> None:
        self._child.kill()
        if self._hand:
            self._hand.kill()
        shared.remove(self._name)
        if self._scene is not None:
            Path(shared.file_of(f"{self._name}.xml")).unlink(missing_ok=True)
        if self._service.share:
            shared.remove(self._service.share)
