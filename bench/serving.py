"""The checking server of tests/robot/fci in a process of its own: a robot for a benchmark to talk to."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def robot(*arguments: object) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """A robot that goes before everything else on this machine: its host, and what ends it and tells what it saw."""
    command = [sys.executable, "-m", "tests.robot.fci.serve", *map(str, arguments)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    told = server.stdout

    def stop() -> dict[str, Any]:
        server.terminate()
        summary: dict[str, Any] = json.loads(told.readline())
        return summary

    try:
        host = json.loads(told.readline())["host"]
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(server.pid, os.SCHED_FIFO, os.sched_param(90))
        yield host, stop
    finally:
        server.kill()
        server.wait()
