"""A simulated arm on the wall clock: its scene goes on by a tick every millisecond, late or not."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.robot import shared
from w4rl_fast.robot.line import Service
from w4rl_fast.robot.plant import Scene
from w4rl_fast.robot.protocol import TICK


class SceneLine:
    """Steps a scene of MuJoCo by the native servo, and shows it under a name."""

    def __init__(self, service: Service) -> None:
        assert service.scene is not None
        start = None if service.start is None else np.array(service.start)
        self.scene = Scene(Path(service.scene).read_text(), start, service.setup.stiffness)
        self._plant = self.scene.native()
        self._show = shared.SceneWriter(service.share, len(shared.vector(self.scene.data))) if service.share else None

    def begin(self) -> NDArray[np.float64]:
        return self.scene.joints

    def ticks(self, driver: Any) -> Iterator[None]:
        """One tick a millisecond by absolute deadlines; after a stall all that were missed, at once."""
        begun, first = time.perf_counter(), driver.tick
        while True:
            due = int((time.perf_counter() - begun) / TICK) + 1 - (driver.tick - first)
            if due > 0:
                if due > 1:
                    driver.miss(due - 1)
                driver.simulate(self._plant, due)
                self._publish(driver.tick)
                yield
            time.sleep(max(0.0, begun + (driver.tick - first) * TICK - time.perf_counter()))

    def finish(self, driver: Any) -> None:
        self._publish(driver.tick)

    def recover(self) -> None:
        """Nothing stops this arm but the servo."""

    def close(self) -> None:
        if self._show:
            self._show.close()

    def _publish(self, tick: int) -> None:
        if self._show:
            self._show.write(tick, shared.vector(self.scene.data))
