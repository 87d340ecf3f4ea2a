"""How many threads an op may use when nobody says."""

import functools
import os
from pathlib import Path

TOPOLOGY = Path("/sys/devices/system/cpu")


@functools.cache
def physical_cores() -> int:
    """Cores this process may run on, two hardware threads of one core counted once."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    try:
        siblings = {(TOPOLOGY / f"cpu{cpu}/topology/thread_siblings_list").read_text() for cpu in usable}
    except OSError:
        return len(usable)
    return len(siblings)


def default_threads() -> int:
    """Physical cores minus one, and never more than torch may use, so that a data loader's workers stay on one each."""
    import torch

    return max(1, min(physical_cores() - 1, torch.get_num_threads()))
