"""The server in a process of its own, for a test."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]
READY_S, STOP_S = 60, 20


class Server:
    """A running server: `host` to connect to, `inject` to disturb it, `stop` for its summary."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process
        self.host = self._line()["host"]
        self.pid = process.pid
        self._summary: dict | None = None

    def inject(self, **order: object) -> None:
        """Fields of `Faults`, or `drop_commands`, `drop_states`, `freeze_ms`, `die`; holds within a tick or two."""
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def stop(self) -> dict:
        """End it and hear what happened; a second call gives the same."""
        if self._summary is None:
            self._process.terminate()
            self._summary = self._line()
            self._process.wait(STOP_S)
        return self._summary

    def _line(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended with {self._process.wait(STOP_S)}; it said why on stderr")
        return json.loads(line)


@contextmanager
def running(*arguments: object) -> Iterator[Server]:
    """Serve with the arguments of `tests.robot.fci.serve`, on a free loopback address; it never outlives the block."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.robot.fci.serve", *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    try:
        yield Server(process)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
