"""What an operating system gives a process that must not be late, and what is lost where it does not."""

import ctypes
import gc
import os
from typing import NamedTuple

MCL_CURRENT, MCL_FUTURE = 1, 2
PRIORITY = 80


class Granted(NamedTuple):
    """What was granted; `lost` says what was not, and what that means."""

    fifo: bool
    locked: bool
    lost: tuple[str, ...]


def ask(*, priority: int = PRIORITY, core: int | None = None) -> Granted:
    """Take what there is: a place before all other processes, memory that stays, one core, no garbage collection."""
    gc.disable()
    lost = []
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
        fifo = True
    except (PermissionError, OSError) as error:
        fifo = False
        lost.append(f"no real-time priority ({error.strerror}): other processes can delay a tick by milliseconds")
    libc = ctypes.CDLL(None, use_errno=True)
    locked = libc.mlockall(MCL_CURRENT | MCL_FUTURE) == 0
    if not locked:
        lost.append(
            f"memory is not locked ({os.strerror(ctypes.get_errno())}): a page that was moved out delays a tick"
        )
    if core is not None:
        try:
            os.sched_setaffinity(0, {core})
        except OSError as error:
            lost.append(f"not bound to core {core} ({error.strerror})")
    return Granted(fifo, locked, tuple(lost))
