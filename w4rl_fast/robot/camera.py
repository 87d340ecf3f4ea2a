"""The contract of a camera, and the two kinds there are: a picture that is drawn, and a video device or stream."""

import os
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.errors import MissingExtra, UserError

Frame = NDArray[np.uint8]
OPENING, STALE = 5.0, 1.0


class Shot(NamedTuple):
    """A frame (H, W, 3) uint8 of the policy's size, and when it was taken (ns, monotonic)."""

    frame: Frame
    stamp: int


class Camera(Protocol):
    """Gives the newest frame there is."""

    @property
    def rate(self) -> float:
        """Frames a second, as measured."""
        ...

    def read(self) -> Shot: ...

    def close(self) -> None: ...


class DrawnCamera:
    """A scene that is drawn when somebody looks; `clock` is that of the arm (ns)."""

    def __init__(self, draw: Callable[[], Frame], clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._draw, self._clock = draw, clock
        self.rate = 1 / float(np.median([self._timed() for _ in range(7)]))

    def read(self) -> Shot:
        stamp = self._clock()
        return Shot(self._draw(), stamp)

    def close(self) -> None:
        """Nothing is held."""

    def _timed(self) -> float:
        begun = time.perf_counter()
        self._draw()
        return time.perf_counter() - begun


class VideoCamera:
    """A V4L2 device by its number, or whatever OpenCV opens: an RTSP address, a file.

    A thread keeps the newest frame, so that none is read that had waited in a queue. The middle square is scaled down
    by areas, as the ray renderer scales its pictures.
    """

    def __init__(self, source: str, size: int) -> None:
        self._cv2 = _opencv()
        self._size, self._source = size, source
        self._capture = self._cv2.VideoCapture(int(source) if source.isdigit() else source)
        if not self._capture.isOpened():
            raise UserError(
                f"camera {source}",
                rule="it cannot be opened",
                remedy="Give the number of a device (0 is /dev/video0) or an address such as rtsp://HOST/STREAM",
            )
        self._newest: Shot | None = None
        self._stamps: list[int] = []
        self._ended = False
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()
        self.rate = self._measured()

    def read(self) -> Shot:
        shot = self._newest
        if shot is None or time.monotonic_ns() - shot.stamp > STALE * 1e9:
            raise UserError(
                f"camera {self._source}",
                rule=f"it has given no frame for {STALE:g} s",
                remedy="Check its cable or its stream, then start again",
            )
        return shot

    def close(self) -> None:
        self._ended = True
        self._thread.join(STALE)
        self._capture.release()

    def _keep(self) -> None:
        while not self._ended:
            good, picture = self._capture.read()
            if not good:
                time.sleep(0.005)
                continue
            stamp = time.monotonic_ns()
            self._stamps = [*self._stamps[-20:], stamp]
            self._newest = Shot(self._square(picture), stamp)

    def _square(self, picture: Any) -> Frame:
        height, width = picture.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        middle = picture[top : top + side, left : left + side]
        small = self._cv2.resize(middle, (self._size, self._size), interpolation=self._cv2.INTER_AREA)
        return np.ascontiguousarray(small[:, :, ::-1])

    def _measured(self) -> float:
        end = time.monotonic() + OPENING
        while time.monotonic() < end:
            stamps = self._stamps
            if len(stamps) > 10:
                return float(1e9 * (len(stamps) - 1) / (stamps[-1] - stamps[0]))
            time.sleep(0.02)
        self.close()
        raise UserError(
            f"camera {self._source}",
            rule=f"it gave {len(self._stamps)} frames in {OPENING:g} s",
            remedy="Check that it streams, and that nobody else uses it",
        )


def _opencv() -> Any:
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # our own error says what is wrong
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise MissingExtra("opencv-python-headless", extra="camera") from error
    return cv2
