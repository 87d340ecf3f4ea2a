"""A process of this package that is told once what to do and then says, line by line, what happens."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from typing import Any

from w4rl_fast.errors import UserError
from w4rl_fast.robot.arm import ArmLost
from w4rl_fast.robot.protocol import TICK


class Child:
    """Runs a module; `events` are all the lines it wrote. Ctrl-C does not reach it: its parent stops it, in order."""

    def __init__(self, module: str, told: dict[str, Any]) -> None:
        self.name = module.rpartition(".")[2]
        self.events: list[dict[str, Any]] = []
        self._fresh: deque[dict[str, Any]] = deque()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.close()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def wait_for(self, name: str, seconds: float) -> dict[str, Any]:
        """The next event of a name; an error that it tells of is raised here."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            while self._fresh:
                event = self._fresh.popleft()
                if event["event"] == "error":
                    raise UserError(event["value"], rule=event["rule"], remedy=event["remedy"])
                if event["event"] == name:
                    return event
            if self.code is not None and not self._listener.is_alive() and not self._fresh:
                break
            time.sleep(5 * TICK)
        raise ArmLost(
            f"the {self.name} process",
            rule=f"it did not say {name!r} within {seconds:g} s (exit code {self.code})",
            remedy="See its messages above; then start again",
        )

    def join(self, seconds: float) -> None:
        """Wait until it has ended by itself."""
        self._process.wait(seconds)

    def kill(self) -> None:
        if self.code is None:
            self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            event = json.loads(text)
            self.events.append(event)
            self._fresh.append(event)
