"""Calls that are recorded once and replayed as one launch: a CUDA graph does again, on the same memory, what it saw.

Whatever Python decides while a call is recorded is the same in every replay, so a call may decide by nothing that
changes: no number of a tensor, no ring that stands elsewhere, no memory that comes and goes with the data.
"""

from collections.abc import Callable
from typing import Protocol

import torch

Call = Callable[[], None]
WARM = 2
"""Runs before a recording: libraries choose their kernels and take their workspace in the first ones."""


class Recorder(Protocol):
    def __call__(self, begin: Call, play: Call) -> Call:
        """Record `play`, which may run on the way, each time after `begin`; returns what replays it."""
        ...


def cuda_graph(begin: Call, play: Call) -> Call:
    """Record as a CUDA graph; a call that waits for the host, or copies from its memory, is refused by CUDA here."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM):
            begin()
            play()
        begin()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        play()
    return graph.replay
