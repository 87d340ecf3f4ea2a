"""Laws of the memory that a policy and a servo share: whole values only, whoever dies in the middle."""

import mmap
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from tests.native import needs_native
from w4rl_fast.robot.protocol import JOINTS, POINTS, REPORT, SAMPLE, Flag, Kind, Mode, Wish
from w4rl_fast.robot.servo import NativeServo, native, native_settings
from w4rl_fast.robot.setup import READY, Watch, make_setup, settings_of

_servo = native()
pytestmark = needs_native
HOME = np.array(READY)
LATE = np.arange(-POINTS, 0.0)
TICKS = 9_000
"""Fewer than a message's times may lie back."""

TARGETS = """
import mmap, sys
import numpy as np
from w4rl_fast.robot import _servo

file = open(sys.argv[1], "r+b")
sender = _servo.Sender(np.frombuffer(mmap.mmap(file.fileno(), 0), dtype=np.uint8))
home, late = np.array(eval(sys.argv[2])), np.arange(-32.0, 0.0)
table = [np.tile(home + 1e-3 * k, (32, 1)) for k in range(97)]
number = 0
while True:
    number = sender.post(1, late, table[(number + 1) % 97], 1e-3 * ((number + 1) % 79))
"""

REPORTS = """
import mmap, sys
import numpy as np
from w4rl_fast.robot import _servo
from w4rl_fast.robot.servo import native_settings
from w4rl_fast.robot.setup import make_setup, settings_of

file = open(sys.argv[1], "r+b")
memory = np.frombuffer(mmap.mmap(file.fileno(), 0), dtype=np.uint8)
sender, driver = _servo.Sender(memory), _servo.Driver(native_settings(settings_of(make_setup("panda"))), memory)
home, commands, states = np.array(eval(sys.argv[2])), np.empty((140, 7)), np.empty((140, 3), dtype=np.int64)
driver.start(home)
while True:
    aim = home + 0.2 * np.sin(0.01 * driver.tick)
    sender.post(1, np.array([driver.tick + 1.0]), aim[None], 0.0)
    driver.run(commands, states)
"""


@pytest.fixture
def memory():
    """A channel in memory that a fork shares."""
    raw = np.frombuffer(mmap.mmap(-1, _servo.CHANNEL_BYTES), dtype=np.uint8)
    _servo.create_channel(raw)
    return raw


@pytest.fixture
def shared(tmp_path, python_environment):
    """A channel in a file, and a way to let another process run some code on it."""
    path, running = tmp_path / "channel", []
    path.write_bytes(bytes(_servo.CHANNEL_BYTES))
    with path.open("r+b") as file:
        raw = np.frombuffer(mmap.mmap(file.fileno(), 0), dtype=np.uint8)
    _servo.create_channel(raw)

    def run(code):
        running.append(subprocess.Popen([sys.executable, "-c", code, path, repr(READY)], env=python_environment))
        return running[-1]

    yield raw, run
    for process in running:
        process.kill()
        process.wait()


def driver_on(memory):
    """A servo that believes every message at once and is never impatient."""
    watch = Watch(hold=10.0, stop=10.0, fault=10.0, fading=0.0)
    driver = _servo.Driver(native_settings(settings_of(replace(make_setup("panda"), watch=watch))), memory)
    assert driver.start(HOME)
    return driver


def report_of(sender):
    row = np.zeros(1, dtype=REPORT)
    sender.report(row.view(np.uint8))
    return row[0]


def assert_whole(report):
    """The parts of the message that a servo took last agree with each other."""
    number = int(report["number"])
    assert (report["goal"] == HOME + 1e-3 * (number % 97)).all(), "another message's points"
    assert report["width"] == 1e-3 * (number % 79), "another message's width"


def wait_for(condition):
    for _ in range(4000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("the other process did nothing")


def test_both_sides_agree_on_the_sizes() -> None:
    assert np.dtype(REPORT).itemsize == _servo.REPORT_BYTES
    assert np.dtype(SAMPLE).itemsize == _servo.SAMPLE_BYTES


def test_a_message_is_never_torn(shared) -> None:
    memory, run = shared
    sender = _servo.Sender(memory)
    driver = driver_on(memory)
    run(TARGETS)

    def posted():
        driver.step()
        return report_of(sender)["number"] > 0

    wait_for(posted)
    seen = set()
    last, until = 0, time.monotonic() + 8
    while len(seen) < 60 and time.monotonic() < until:
        driver = driver_on(memory)  # what was posted before it began is not its own
        last, taken = max(last, int(report_of(sender)["number"])), False
        for _ in range(TICKS):
            driver.step()
            taken = taken or driver.flags == Flag.TAKEN
            report = report_of(sender)
            assert report["number"] >= last
            assert driver.flags == (Flag.TAKEN if report["number"] > last else 0)
            last = int(report["number"])
            if taken:
                seen.add(last)
                assert_whole(report)
    assert len(seen) >= 60


def test_a_report_is_never_torn(shared) -> None:
    memory, run = shared
    sender = _servo.Sender(memory)
    run(REPORTS)
    wait_for(lambda: report_of(sender)["tick"] > 100)
    seen, last, until = set(), 0, time.monotonic() + 8
    while len(seen) < 60 and time.monotonic() < until:
        for _ in range(5_000):
            report = report_of(sender)
            assert report["tick"] >= last
            last = int(report["tick"])
            seen.add(last)
            assert report["tick"] == report["joined"] + report["age"]
            assert report["command"].tobytes() == report["measured"].tobytes()
            assert report["speed"].tobytes() == report["measured_speed"].tobytes()
            assert np.ptp(report["command"] - HOME) < 0.4
    assert len(seen) >= 60


def test_a_writer_that_is_killed_leaves_a_whole_value_and_another_goes_on(memory) -> None:
    driver = driver_on(memory)
    table = [np.tile(HOME + 1e-3 * k, (POINTS, 1)) for k in range(97)]
    doubles = memory.view(np.float64)
    sender = _servo.Sender(memory)
    number = sender.post(Kind.JOINTS, LATE, table[1], 1e-3)
    rng = np.random.default_rng(1)
    for round_ in range(120):
        child = os.fork()
        if child == 0:
            while True:
                number = sender.post(Kind.JOINTS, LATE, table[(number + 1) % 97], 1e-3 * ((number + 1) % 79))
        time.sleep(float(rng.uniform(0.001, 0.003)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        driver.step()
        report = report_of(sender)
        assert_whole(report)
        sender = _servo.Sender(memory)
        mark = LATE - 0.25 - 1e-6 * round_
        number = sender.post(Kind.JOINTS, mark, table[5], 0.005)
        assert number > report["number"]
        driver.step()
        assert (driver.flags, report_of(sender)["number"]) == (Flag.TAKEN, number)
        for _ in range(4):
            number += 1
            assert sender.post(Kind.JOINTS, LATE, table[number % 97], 1e-3 * (number % 79)) == number
            assert (doubles == mark[0]).any(), "what the reader holds was written to"


def test_the_newest_value_stays_until_there_is_another(memory) -> None:
    sender, driver = _servo.Sender(memory), driver_on(memory)
    first = report_of(sender)
    assert (first["tick"], first["mode"], first["number"]) == (0, Mode.READY, 0)
    for _ in range(3):
        driver.step()
        assert report_of(sender) == report_of(sender)
    assert report_of(sender)["tick"] == 3


@pytest.mark.parametrize("make", ["create_channel", "Sender"])
def test_too_little_memory_is_refused(make) -> None:
    with pytest.raises(ValueError, match="too small for a channel"):
        getattr(_servo, make)(np.zeros(_servo.CHANNEL_BYTES - 1, dtype=np.uint8))


def test_memory_that_is_no_channel_or_one_of_another_version_is_refused(memory) -> None:
    settings = native_settings(settings_of(make_setup("panda")))
    others = [np.zeros(_servo.CHANNEL_BYTES, dtype=np.uint8), *(memory.copy() for _ in range(2))]
    others[1][0] ^= 1
    others[2][8] ^= 1
    for other in others:
        with pytest.raises(ValueError, match="no channel of this version"):
            _servo.Sender(other)
        with pytest.raises(ValueError, match="no channel of this version"):
            _servo.Driver(settings, other)
    with pytest.raises(ValueError, match="too small"):
        _servo.Driver(settings, memory[:-64].copy())


def test_a_bad_call_is_refused_and_posts_nothing(memory) -> None:
    sender = _servo.Sender(memory)
    for times, values in ((np.zeros(33), np.zeros((33, 7))), (np.zeros(2), np.zeros((3, 7)))):
        with pytest.raises(ValueError, match="at most 32 points, and as many times"):
            sender.post(Kind.JOINTS, times, values)
    for values in (np.zeros((1, 6)), np.zeros(7)):
        with pytest.raises(TypeError):
            sender.post(Kind.JOINTS, np.zeros(1), values)
    with pytest.raises(ValueError, match="another size"):
        sender.report(np.zeros(8, dtype=np.uint8))
    assert sender.post(Kind.REST, np.zeros(0), np.zeros((0, 7))) == 1


def test_the_record_holds_the_last_ticks() -> None:
    servo = NativeServo(settings_of(make_setup("panda")))
    assert servo.start(HOME)
    servo.post(Kind.JOINTS, np.array([1.0]), HOME[None] + 0.2, 0.03)
    commands, states = servo.run(_servo.SAMPLES + 500)
    first = len(commands) - 300  # row k has the tick k, since the start has tick 0
    rows = servo.samples(first, 301)
    assert rows["tick"].tolist() == list(range(first, first + 301))
    assert (rows["command"][1:] == commands[-300:]).all()
    assert (rows["mode"][1:] == states[-300:, 0]).all()
    assert (rows["flags"][1:] == states[-300:, 2]).all()
    assert (rows["width"] == 0.03).all()
    assert (rows["duration"] >= 0).all()


def test_missed_ticks_are_counted() -> None:
    servo = NativeServo(settings_of(make_setup("panda")))
    assert servo.start(HOME)
    for elapsed in (1, 4, 1, 2):
        servo.step(elapsed=elapsed)
    report = servo.report()
    assert (report["tick"], report["missed"], report["longest"]) == (8, 4, 3)


def test_what_was_measured_is_reported() -> None:
    servo = NativeServo(settings_of(make_setup("panda")))
    assert servo.start(HOME)
    servo.step(HOME + 0.01, np.full(JOINTS, 0.02))
    report = servo.report()
    assert (report["measured"] == HOME + 0.01).all()
    assert (report["measured_speed"] == 0.02).all()
    assert (report["command"] == HOME).all()


def test_a_wish_is_heard_once(memory) -> None:
    sender, driver = _servo.Sender(memory), driver_on(memory)
    assert driver.wish() == Wish.NOTHING
    sender.wish(int(Wish.RECOVER))
    sender.wish(int(Wish.LEAVE))
    assert [driver.wish() for _ in range(2)] == [Wish.LEAVE, Wish.NOTHING]


def test_an_opening_that_a_hand_tells_is_the_one_that_is_reported(memory) -> None:
    sender, driver = _servo.Sender(memory), driver_on(memory)
    driver.step(HOME, HOME, 0.05)
    assert report_of(sender)["opening"] == 0.05
    sender.tell_opening(0.02)
    driver.step(HOME, HOME, 0.05)
    assert report_of(sender)["opening"] == 0.02


def test_every_step_is_timed(memory) -> None:
    sender, driver = _servo.Sender(memory), driver_on(memory)
    counts = np.zeros((2, _servo.HISTOGRAM), dtype=np.int64)
    driver.run(np.empty((500, JOINTS)), np.empty((500, 3), dtype=np.int64))
    sender.histograms(counts)
    assert counts.sum(axis=1).tolist() == [499, 500], "between steps and inside them"
    with pytest.raises(ValueError, match="another size"):
        sender.histograms(counts[:, :-1].copy())
