"""What a servo's process is told to serve, and the contract of its connection to an arm."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.robot.setup import Setup


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """What a servo's process is started with: memory by name, who started it, the setup, and a host or a scene's file.

    start: the state of the scene as a list; share: the name under which the scene is shown; dry: nothing moves;
    recover: an arm that stopped itself earlier is made ready again.
    """

    channel: str
    parent: int
    setup: Setup
    host: str | None = None
    scene: str | None = None
    start: tuple[float, ...] | None = None
    share: str | None = None
    allow_non_realtime: bool = False
    core: int | None = None
    dry: bool = False
    recover: bool = False


class Line(Protocol):
    """A connection to an arm that brings the ticks."""

    def begin(self) -> NDArray[np.float64]:
        """Make the arm listen; returns where it is commanded to be, at rest (7,) rad."""
        ...

    def ticks(self, driver: Any) -> Iterator[None]:
        """Go on tick by tick with what the driver says, until the arm stops by itself (an exception) or the caller
        does."""
        ...

    def finish(self, driver: Any) -> None:
        """End the motion at rest."""
        ...

    def recover(self) -> None: ...

    def close(self) -> None: ...


class Reflex(Exception):
    """The arm stopped by itself; the text says why."""
