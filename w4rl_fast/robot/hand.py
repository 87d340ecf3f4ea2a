"""The hand's process: a Franka hand takes whole movements and blocks until they are done, so it has a process of its
own.

It reads the width that the servo was asked for from the servo's record, moves the fingers there, and tells the servo
how far they are apart: measured between two movements, reckoned by the servo during one. It reads one line of JSON from
its standard input: host, channel.
"""

import json
import os
import sys
import time
from typing import Any

import numpy as np

from w4rl_fast.errors import UserError
from w4rl_fast.robot import shared
from w4rl_fast.robot.franka import require_libfranka, told
from w4rl_fast.robot.protocol import SAMPLE
from w4rl_fast.robot.serve import say
from w4rl_fast.robot.servo import require_native

PERIOD = 0.02
SPEED, FORCE = 0.1, 30.0
"""m/s, and the N that something is held with."""
SAME, SHUT, ANY = 0.002, 0.005, 0.08
"""A width as good as another (m); narrower than that the fingers are to hold what is between; of whatever width it is.
"""


def serve(host: str, channel: str) -> None:
    """Follow the servo's width until the parent is gone."""
    franka = require_libfranka()
    sender = require_native().Sender(shared.attach(channel))
    parent = os.getppid()
    try:
        gripper = franka.Gripper(host)
        width = float(gripper.read_once().width)
    except RuntimeError as error:
        raise UserError(
            f"the hand of {host}",
            rule=f"it does not answer: {told(error)}",
            remedy="Mount and initialise it in Desk, or give --no-hand",
        ) from error
    sender.tell_opening(width)
    say("hand", width=width)
    asked = width
    while os.getppid() == parent:
        wanted = asked_for(sender)
        if wanted is not None and abs(wanted - asked) > SAME:
            asked = wanted
            sender.tell_opening(float(gripper.read_once().width), toward=asked, pace=SPEED)
            move(gripper, asked)
        sender.tell_opening(float(gripper.read_once().width))
        time.sleep(PERIOD)


def asked_for(sender: Any) -> float | None:
    """The width of the newest tick; None where nobody has asked for one."""
    newest = sender.recorded - 1
    if newest < 0:
        return None
    row = np.zeros(1, dtype=SAMPLE)
    sender.samples_since(newest, row.view(np.uint8))
    width = float(row["width"][0])
    return width if width >= 0 else None


def move(gripper: Any, width: float) -> None:
    """Go to a width, or close on what is between; one that fails is tried again when another is asked for."""
    try:
        if width < SHUT:
            gripper.grasp(0.0, SPEED, FORCE, ANY, ANY)
        else:
            gripper.move(width, SPEED)
    except RuntimeError as error:
        say("hand failed", why=told(error))


def main() -> int:
    given = json.loads(sys.stdin.readline())
    try:
        serve(given["host"], given["channel"])
    except UserError as error:
        say("error", value=error.value, rule=error.rule, remedy=error.remedy)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
