"""An arm whose servo is a process of its own: what the policy does, or whether it dies, does not delay a tick."""

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from w4rl_fast.config import to_json_dict
from w4rl_fast.errors import UserError
from w4rl_fast.robot import shared
from w4rl_fast.robot.arm import ArmLost, Command, State, limited, state_of
from w4rl_fast.robot.histogram import Histogram
from w4rl_fast.robot.line import Service
from w4rl_fast.robot.protocol import REPORT, SAMPLE, TICK, Fault, Kind, Mode, Wish
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
    ) -> None:
        self._native = require_native()
        self.settings = settings_of(setup)
        self.events: list[dict[str, Any]] = []
        self._fresh: deque[dict[str, Any]] = deque()
        self._name = f"w4rl-{os.getpid()}-{secrets.token_hex(4)}"
        self._scene = scene
        self._service = Service(
            channel=self._name, setup=setup, host=host, start=start, share=share, core=core,
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
        self._process = subprocess.Popen(
            [sys.executable, "-m", "w4rl_fast.robot.serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the policy, which then stops the arm
        )
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(to_json_dict(service)) + "\n")
            self._process.stdin.close()
            self._listener = threading.Thread(target=self._listen, daemon=True)
            self._listener.start()
            self.granted = self._event("ready", STARTING)
            self._until(lambda state: state.mode != Mode.OFF, RESTING)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._process.poll() is None:
                self.rest()
                self._sender.wish(int(Wish.LEAVE))
                self._process.wait(LEAVING)
        except (UserError, subprocess.TimeoutExpired):
            if kind is None:
                raise
        finally:
            self._end()

    @property
    def pid(self) -> int:
        return self._process.pid

    def read(self) -> State:
        self._sender.report(self._row.view(np.uint8))
        state = state_of(self._row[0])
        if state.stamp and time.monotonic_ns() - state.stamp > SILENT * 1e9:
            self._complain(state)
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
        return self._until(lambda _: not np.any(self._row["speed"]) and not np.any(self._row["acceleration"]), RESTING)

    def recover(self) -> State:
        state = self.last()
        if state.mode == Mode.FAULT and state.fault == Fault.STALE and not self._row["state"][0]:
            self._sender.post(int(Kind.RESET), np.zeros(0), np.zeros((0, 7)), -1.0)
            return self._until(lambda now: now.mode == Mode.READY, RESTING)
        if state.mode == Mode.FAULT or self._row["state"][0]:
            self._sender.wish(int(Wish.RECOVER))
            self._event("recovered", RESTING)
            return self._until(lambda now: now.mode == Mode.READY, RESTING)
        return state

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

    def tell_opening(self, width: float) -> None:
        """Say how far the fingers are apart, where the servo does not know (m)."""
        self._sender.tell_opening(width)

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

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            event = json.loads(text)
            self.events.append(event)
            self._fresh.append(event)

    def _event(self, name: str, seconds: float) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            while self._fresh:
                event = self._fresh.popleft()
                if event["event"] == "error":
                    raise UserError(event["value"], rule=event["rule"], remedy=event["remedy"])
                if event["event"] == name:
                    return event
            if self._process.poll() is not None and not self._listener.is_alive() and not self._fresh:
                break
            time.sleep(5 * TICK)
        raise ArmLost(
            "the servo's process",
            rule=f"it did not say {name!r} within {seconds:g} s (exit code {self._process.poll()})",
            remedy="See its messages above; then start again",
        )

    def _complain(self, state: State) -> None:
        """Say why the servo is silent."""
        for event in self.events:
            if event["event"] == "error":
                raise ArmLost(event["value"], rule=event["rule"], remedy=event["remedy"])
        reflex = next((event for event in reversed(self.events) if event["event"] == "reflex"), None)
        if reflex is not None and self._process.poll() is None:
            raise ArmLost(
                "the robot", rule=f"it stopped itself: {reflex['why']}", remedy="Look at the arm, then recover"
            )
        code = self._process.poll()
        raise ArmLost(
            "the servo's process",
            rule=f"it ended (exit code {code})" if code is not None else f"no word for more than {SILENT:g} s",
            remedy="The robot has stopped by itself: look at it, then start again",
        )

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        shared.remove(self._name)
        if self._scene is not None:
            Path(shared.file_of(f"{self._name}.xml")).unlink(missing_ok=True)
        if self._service.share:
            shared.remove(self._service.share)
