"""Cameras: a scene that is drawn, and a video as OpenCV reads it."""

import time

import numpy as np
import pytest

from w4rl_fast.errors import UserError
from w4rl_fast.robot import camera as room
from w4rl_fast.robot.camera import DrawnCamera, VideoCamera

SIDE, WIDE = 48, 80
RED, GREEN, BLUE = (220, 30, 40), (30, 200, 60), (40, 50, 210)
MOST = 40
"""How far a colour may be off after MJPG."""


def picture(number):
    """Red, green and blue in the middle square, white beside it; a strip at its top tells the number."""
    rows = np.full((SIDE, WIDE, 3), 255, np.uint8)
    left = (WIDE - SIDE) // 2
    rows[:, left : WIDE // 2], rows[:, WIDE // 2 : left + SIDE] = RED, BLUE
    rows[SIDE // 2 :, left : WIDE // 2] = GREEN
    rows[:8] = number * 4
    return rows


def film(path, count):
    """An MJPG film of so many pictures."""
    cv2 = pytest.importorskip("cv2", reason="pip install opencv-python-headless")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (WIDE, SIDE))
    assert writer.isOpened()
    for number in range(count):
        writer.write(picture(number)[:, :, ::-1].copy())
    writer.release()
    return path


@pytest.fixture
def source(tmp_path):
    return film(tmp_path / "film.avi", 24)


@pytest.fixture
def slow_reader(monkeypatch):
    """Let every frame of a film take 5 ms, as if it came from a device."""
    cv2 = pytest.importorskip("cv2", reason="pip install opencv-python-headless")
    real = cv2.VideoCapture

    class Slow:
        def __init__(self, source):
            self._real, self.isOpened = real(source), lambda: True
            self.given = 0

        def read(self):
            time.sleep(0.005)
            good, picture = self._real.read()
            self.given += good
            return good, picture

        def release(self):
            self._real.release()

    monkeypatch.setattr(cv2, "VideoCapture", Slow)


# ---- drawn


def test_a_drawn_camera_gives_what_is_drawn_and_when() -> None:
    clock = iter(range(100, 200))
    frames = iter(range(20))
    camera = DrawnCamera(lambda: np.full((8, 8, 3), next(frames), np.uint8), lambda: next(clock))
    first, second = camera.read(), camera.read()
    assert (first.stamp, second.stamp) == (100, 101)
    assert second.frame[0, 0, 0] == first.frame[0, 0, 0] + 1
    camera.close()


def test_the_rate_of_a_drawn_camera_is_how_fast_it_draws() -> None:
    def draw():
        time.sleep(0.02)
        return np.zeros((8, 8, 3), np.uint8)

    before = time.monotonic_ns()
    camera = DrawnCamera(draw)
    assert 20 < camera.rate <= 50
    assert before < camera.read().stamp < time.monotonic_ns() - 19e6, "of the moment before it was drawn"


# ---- video


def test_the_middle_square_is_scaled_to_its_size_in_the_order_of_rgb(source) -> None:
    camera = VideoCamera(str(source), 16)
    frame = camera.read().frame
    camera.close()
    assert (frame.shape, frame.dtype, frame.flags.c_contiguous) == ((16, 16, 3), np.uint8, True)
    for place, colour in (((5, 3), RED), ((5, 12), BLUE), ((12, 3), GREEN), ((12, 12), BLUE)):
        assert np.abs(frame[place].astype(int) - colour).max() < MOST, place
    assert (frame[4:].min(axis=2) < 200).all(), "nothing of what is beside the square"


def test_a_smaller_picture_is_the_mean_over_areas() -> None:
    pytest.importorskip("cv2", reason="pip install opencv-python-headless")
    picture = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    camera = VideoCamera.__new__(VideoCamera)
    camera._cv2, camera._size = room._opencv(), 8
    means = picture[:, 8:40].reshape(8, 4, 8, 4, 3).mean(axis=(1, 3))[:, :, ::-1]
    np.testing.assert_allclose(camera._square(picture), means, atol=0.51)


@pytest.mark.usefixtures("slow_reader")
def test_what_is_read_is_the_newest_frame_and_its_time(tmp_path) -> None:
    camera = VideoCamera(str(film(tmp_path / "film.avi", 60)), 48)
    assert 50 < camera.rate <= 200
    first = camera.read()
    time.sleep(0.1)
    before = camera._capture.given
    second = camera.read()
    assert second.stamp - first.stamp > 50e6
    assert time.monotonic_ns() - second.stamp < 100e6
    shown = second.frame[2, 24, 0] / 4 + 1
    assert before - 3 <= shown <= before + 3, "a frame that waited in a queue"
    camera.close()
    assert not camera._thread.is_alive()


def test_a_film_that_is_not_there_is_named(tmp_path) -> None:
    pytest.importorskip("cv2", reason="pip install opencv-python-headless")
    for source in (str(tmp_path / "nowhere.avi"), "63"):
        with pytest.raises(UserError, match=f"camera {source}: it cannot be opened"):
            VideoCamera(source, 16)


def test_a_file_that_is_no_film_is_named(tmp_path) -> None:
    pytest.importorskip("cv2", reason="pip install opencv-python-headless")
    (tmp_path / "film.avi").write_text("no film")
    with pytest.raises(UserError, match="it cannot be opened"):
        VideoCamera(str(tmp_path / "film.avi"), 16)


def test_a_stream_that_ends_is_told(source, monkeypatch) -> None:
    monkeypatch.setattr(room, "STALE", 0.2)
    camera = VideoCamera(str(source), 16)
    camera.read()
    time.sleep(0.4)
    with pytest.raises(UserError, match=r"it has given no frame for 0\.2 s"):
        camera.read()
    camera.close()


def test_a_stream_of_few_frames_is_told_and_its_thread_ends(tmp_path, monkeypatch) -> None:
    import threading

    monkeypatch.setattr(room, "OPENING", 0.3)
    before = threading.active_count()
    with pytest.raises(UserError, match=r"it gave 5 frames in 0\.3 s"):
        VideoCamera(str(film(tmp_path / "film.avi", 5)), 16)
    assert threading.active_count() == before
