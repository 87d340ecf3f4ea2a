"""The servo's process: it talks to the arm every millisecond and to the policy through shared memory, and does nothing
else.

It reads one line of JSON from its standard input (`Service`) and writes one for each event: ready, reflex, recovered,
error, end. It leaves when it is asked to, or when its parent is gone and the watchdog has brought the arm to rest.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from w4rl_fast.config import from_json_dict
from w4rl_fast.errors import UserError
from w4rl_fast.robot import realtime, shared
from w4rl_fast.robot.line import Line, Reflex, Service
from w4rl_fast.robot.protocol import TICK, Link, Mode, Wish
from w4rl_fast.robot.servo import native_settings, require_native
from w4rl_fast.robot.setup import settings_of

LOOK_AROUND = 50
"""Ticks between two looks at whether the parent is still there."""


def say(event: str, **facts: Any) -> None:
    try:
        sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # nobody listens any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def line_of(service: Service) -> Line:
    if service.host is not None:
        from w4rl_fast.robot.franka import FrankaLine

        return FrankaLine(service)
    from w4rl_fast.robot.scene_line import SceneLine

    if service.scene is None:
        raise UserError("a servo's process", rule="it needs a host or a scene", remedy="Give one of them")
    return SceneLine(service)


def serve(service: Service) -> None:
    """Serve one arm until the end."""
    native = require_native()
    granted = realtime.ask(core=service.core)
    if not granted.fifo and not service.allow_non_realtime:
        raise UserError(
            f"real-time priority on this machine: {'; '.join(granted.lost)}",
            rule="an arm is not moved without it unless you say so",
            remedy="Allow it (ulimit -r, or a group with rtprio in /etc/security/limits.conf), or --allow-non-realtime",
        )
    memory = shared.attach(service.channel)
    driver = native.Driver(native_settings(settings_of(service.setup)), memory)
    parent = service.parent
    facts = {"fifo": granted.fifo, "locked": granted.locked, "lost": granted.lost}
    if service.host is not None and not service.dry and hasattr(native, "serve_franka"):
        serve_by_callback(native, driver, service, parent, facts)
        return
    line = line_of(service)
    try:
        begin(line, driver)
        say("ready", **facts)
        while not stay(line, driver, parent):
            pass
    finally:
        line.close()
    say("end", tick=driver.tick, mode=Mode(driver.mode).name)


def serve_by_callback(native: Any, driver: Any, service: Service, parent: int, facts: dict[str, Any]) -> None:
    """The same by libfranka's own callback in C++, where this was built with it (-DW4RL_FRANKA=ON)."""
    stiffness, enforce, recover = np.array(service.setup.stiffness), not service.allow_non_realtime, service.recover
    say("ready", **facts)
    while True:
        try:
            wish = native.serve_franka(driver, service.host, stiffness, enforce, recover)
            if wish != Wish.RECOVER:
                break
        except RuntimeError as error:
            say("reflex", why=str(error).strip(), tick=driver.tick)
            driver.tell_state(int(Link.REFLEX))
            if not wished_for_recovery(driver, parent):
                break
        recover = True
        driver.tell_state(int(Link.UP))
        say("recovered", tick=driver.tick)
    say("end", tick=driver.tick, mode=Mode(driver.mode).name)


def begin(line: Line, driver: Any) -> None:
    at = line.begin()
    if not driver.start(at):
        raise UserError(
            f"the arm at {np.round(at, 3).tolist()} rad",
            rule="it begins inside its limits and its workspace",
            remedy="Move the arm by hand, or widen the workspace in the limits file",
        )


def stay(line: Line, driver: Any, parent: int) -> bool:
    """Serve until a reflex has been recovered from (False), or for good (True)."""
    try:
        wish = Wish.NOTHING
        for number, _ in enumerate(line.ticks(driver)):
            wish = Wish(driver.wish()) or wish
            if number % LOOK_AROUND == 0 and os.getppid() != parent and driver.mode in (Mode.FAULT, Mode.READY):
                wish = Wish.LEAVE
            if wish and driver.still:
                line.finish(driver)
                if wish == Wish.RECOVER:
                    begin(line, driver)
                    say("recovered", tick=driver.tick)
                return wish == Wish.LEAVE
        return True
    except Reflex as reflex:
        why = str(reflex)
    say("reflex", why=why, tick=driver.tick)
    driver.tell_state(int(Link.REFLEX))
    return wait_for_recovery(line, driver, parent)


def wait_for_recovery(line: Line, driver: Any, parent: int) -> bool:
    """Whether the end has come instead (True)."""
    if not wished_for_recovery(driver, parent):
        return True
    line.recover()
    begin(line, driver)
    driver.tell_state(int(Link.UP))
    say("recovered", tick=driver.tick)
    return False


def wished_for_recovery(driver: Any, parent: int) -> bool:
    """Wait until recovery is wished for (True), or to leave, or until the parent is gone."""
    while True:
        wish = driver.wish()
        if wish == Wish.LEAVE or os.getppid() != parent:
            return False
        if wish == Wish.RECOVER:
            return True
        time.sleep(10 * TICK)


def main() -> int:
    service = from_json_dict(Service, json.loads(sys.stdin.readline()))
    try:
        serve(service)
    except UserError as error:
        say("error", value=error.value, rule=error.rule, remedy=error.remedy)
        return 2
    except Exception as error:
        say("error", value="the servo's process", rule=f"it failed: {error!r}", remedy="This is a defect: report it")
        raise
    finally:
        if os.getppid() != service.parent:  # who made these is not there to remove them
            shared.remove(service.channel)
            if service.scene is not None:
                Path(service.scene).unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
