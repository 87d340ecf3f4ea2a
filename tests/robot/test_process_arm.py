"""An arm whose servo is a process of its own, and what becomes of it when a process, the arm or the way to it fails."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco")

from tests.native import needs_native
from w4rl_fast.control import begin_of
from w4rl_fast.errors import UserError
from w4rl_fast.robot import realtime, serve, shared
from w4rl_fast.robot.arm import ArmLost, Command
from w4rl_fast.robot.line import Service
from w4rl_fast.robot.process_arm import SILENT, ProcessArm
from w4rl_fast.robot.protocol import Fault, Kind, Mode
from w4rl_fast.robot.servo import native
from w4rl_fast.robot.setup import Watch, make_setup
from w4rl_fast.tasks import default_config

pytestmark = needs_native
TASK = default_config("franka/push-button", image_size=16)
SETUP = make_setup("panda")
PATIENT = ("--wait-ms", 100)  # the machine's stalls are not what is tested
LOST = SILENT + 0.5
"""Seconds in which an arm that is lost is told."""
BY = 0.45 * np.array([1.0, -0.5, 0.5, 0.5, 0.5, 0.5, 0.5])


@pytest.fixture(scope="module")
def server():
    """A robot for the tests that leave it well."""
    with checking_server() as server:
        yield server


@contextmanager
def checking_server(*arguments):
    pytest.importorskip("pylibfranka", reason="pip install pylibfranka==0.21.3")
    pytest.importorskip("franky_sim", reason="pip install franky-sim==1.0.4")
    from tests.robot.fci.process import running

    with running(*PATIENT, *arguments) as server:
        yield server


def franka(server, setup=SETUP, *, recover=True, **options):
    """An arm through libfranka, ready again whatever a test before did to the robot."""
    return ProcessArm(setup, host=server.host, allow_non_realtime=True, recover=recover, **options)


def scene(setup=SETUP, **options):
    xml, start = begin_of(TASK, 0)
    return ProcessArm(setup, scene=xml, start=start, allow_non_realtime=True, **options)


def moving(arm, ticks=400, seconds=2.0, until=lambda _: False):
    """Send the arm along a way of some seconds, and stay with it for so many ticks of that."""
    state = arm.read()
    begun, values = state.tick, np.array([state.command, state.command + BY])
    while state.tick < begun + ticks and not until(state):
        arm.send(Command(Kind.JOINTS, begun + np.array([0.0, 1000.0 * seconds]), values))
        state = arm.wait(state.tick + 20)
    return state


def still(arm):
    """Whether what was commanded last is at rest."""
    arm.last()
    return not arm._row["speed"].any() and not arm._row["acceleration"].any()


def ended(pid, seconds):
    """Seconds until a process that is not ours has ended."""
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return time.monotonic() - begun
        except (FileNotFoundError, ProcessLookupError):
            return time.monotonic() - begun
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    pytest.fail(f"process {pid} did not end within {seconds} s")


def lost(arm, match, seconds=LOST):
    """The arm says within its time that it is lost, and why."""
    begun = time.monotonic()
    with pytest.raises(ArmLost, match=match):
        while time.monotonic() < begun + seconds:
            arm.read()
            time.sleep(0.005)
    return time.monotonic() - begun


# ---- what a policy's process sees


def test_what_the_system_granted_is_told() -> None:
    with scene() as arm:
        assert set(arm.granted) == {"event", "fifo", "locked", "lost"}
        assert arm.granted["fifo"] or any("real-time" in why for why in arm.granted["lost"])
        assert arm.pid != os.getpid()


def test_every_step_is_counted_and_recorded_and_a_busy_policy_delays_none() -> None:
    with scene() as arm:
        first = arm.read().tick
        busy = time.monotonic() + 0.3
        while time.monotonic() < busy:
            sum(range(1000))
        state = arm.wait(first + 500)
        intervals, durations = arm.histograms()
        assert abs(durations.total - state.tick) <= state.missed + 100
        assert durations.total - intervals.total <= 2
        rows = arm.samples(0)
        assert (np.diff(rows["tick"]) >= 1).all()
        assert len(rows) > 400
        assert arm.samples(arm._sender.recorded + 5).shape == (0,)


def test_a_scene_is_shown_under_its_name_and_no_longer_than_the_arm() -> None:
    name = f"w4rl-test-scene-{os.getpid()}"
    with scene(share=name) as arm:
        reader = shared.SceneReader(name)
        arm.wait(arm.read().tick + 20)
        tick, values = reader.read()
        assert tick > 0
        np.testing.assert_allclose(values[:7], arm.read().joints, atol=1e-3)
    assert not shared.file_of(name).exists()


def test_nothing_moves_on_a_dry_run(server) -> None:
    with franka(server, dry=True) as arm:
        before = arm.read()
        sent = arm.send(Command(Kind.JOINTS, np.array([before.tick + 100.0]), before.command[None] + 0.1))
        assert not sent.refused and sent.number == 0
        after = arm.wait(before.tick + 300)
        np.testing.assert_array_equal(after.joints, before.joints)
        assert after.mode == Mode.READY


def test_the_fingers_of_a_robot_go_where_they_are_sent_and_their_opening_is_told() -> None:
    with checking_server("--gripper") as server, franka(server, hand=True) as arm:
        assert arm.wait(arm.read().tick + 50).opening == pytest.approx(0.08, abs=1e-3)
        arm.send(Command(Kind.JOINTS, np.array([arm.read().tick + 1.0]), arm.read().command[None], 0.05))
        state, seen = arm.read(), []
        while abs(state.opening - 0.05) > 2e-3:
            state = arm.wait(state.tick + 20)
            seen.append(state.opening)
            assert state.tick < 3000
        assert seen == sorted(seen, reverse=True)
        assert len({round(each, 3) for each in seen}) > 5, "it is told on the way too"
        assert arm.recover().mode != Mode.OFF
    assert [event["event"] for event in arm.events if "fail" in event["event"]] == []


def test_a_robot_without_a_hand_is_told_apart(server) -> None:
    with pytest.raises(UserError, match=r"the hand of .*--no-hand"), franka(server, hand=True):
        pass


# ---- what is refused


def test_a_robot_that_does_not_answer_is_named() -> None:
    pytest.importorskip("pylibfranka", reason="pip install pylibfranka==0.21.3")
    begun = time.monotonic()
    arm = ProcessArm(SETUP, host="127.0.0.9", allow_non_realtime=True)
    with pytest.raises(UserError, match=r"robot 127\.0\.0\.9: it does not answer"), arm:
        pass
    assert time.monotonic() - begun < 10


def test_a_servo_without_an_arm_is_refused() -> None:
    with pytest.raises(UserError, match="it needs a host or a scene"), ProcessArm(SETUP, allow_non_realtime=True):
        pass


def test_without_real_time_an_arm_is_not_moved_unless_somebody_says_so(monkeypatch) -> None:
    refused = realtime.Granted(False, True, ("no real-time priority (Operation not permitted): ticks come late",))
    monkeypatch.setattr(realtime, "ask", lambda **_: refused)
    with pytest.raises(UserError, match="an arm is not moved without it unless you say so") as caught:
        serve.serve(Service(channel="w4rl-none", parent=1, setup=SETUP))
    assert "--allow-non-realtime" in str(caught.value)
    with pytest.raises(UserError, match="there is none of that name"):
        serve.serve(Service(channel="w4rl-none", parent=1, setup=SETUP, allow_non_realtime=True))


NOBODY = """
import os, sys
from w4rl_fast.robot.realtime import ask
os.sched_setaffinity(0, os.sched_getaffinity(0))
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
granted = ask()
print(granted.fifo, *granted.lost, sep="|")
"""


def test_a_user_without_the_right_is_told_what_is_lost(run_python) -> None:
    import resource

    if os.getuid() and resource.getrlimit(resource.RLIMIT_RTPRIO)[0]:
        pytest.skip("this user may ask for real-time priority")
    granted, *lost = run_python(NOBODY).strip().split("|")
    assert granted == "False"
    assert any(why.startswith("no real-time priority (Operation not permitted)") for why in lost)


def test_what_was_begun_is_cleared_away_when_it_cannot_go_on() -> None:
    before = set(shared.FOLDER.glob("w4rl-*"))
    narrow = replace(SETUP, workspace=replace(SETUP.workspace, low=(0.8, -0.2, 0.0)))
    arm = scene(narrow)
    with pytest.raises(UserError, match="begins inside its limits"), arm:
        pass
    assert set(shared.FOLDER.glob("w4rl-*")) <= before
    assert arm._child.code is not None


# ---- the policy dies


POLICY = """
import os, signal, sys
import numpy as np
from w4rl_fast.robot.arm import Command
from w4rl_fast.robot.child import Child
from w4rl_fast.robot.process_arm import ProcessArm
from w4rl_fast.robot.protocol import Kind
from w4rl_fast.robot.setup import make_setup

how, where = sys.argv[1:]
options = {"host": where} if where else {"scene": sys.stdin.read(), "share": f"w4rl-test-share-{os.getpid()}"}
arm = ProcessArm(make_setup("panda"), allow_non_realtime=True, **options)


def die(child, *_):
    print(child.pid, arm._name, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


if how == "early":
    Child.wait_for = die
with arm:
    state = arm.read()
    print(arm.pid, arm._name, flush=True)
    begun, values = state.tick, np.array([state.command, state.command + 0.3 * np.array([1, -1, 1, 1, 1, 1, 1])])
    while how == "moving":
        arm.send(Command(Kind.JOINTS, begun + np.array([0.0, 3000.0]), values))
        state = arm.wait(state.tick + 50)
        if state.tick > begun + 400:
            print("moving", flush=True)
    print("still", flush=True)
    while True:
        state = arm.wait(state.tick + 50)
"""


@contextmanager
def policy(python_environment, how, where=""):
    """A policy's process that is killed, its servo's, and the name of their memory, which is watched from here."""
    process = subprocess.Popen(
        [sys.executable, "-c", POLICY, how, where],
        env=python_environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    pid = None
    try:
        process.stdin.write("" if where else begin_of(TASK, 0)[0])
        process.stdin.close()
        pid, name = process.stdout.readline().split()
        sender = native().Sender(shared.attach(name)) if how != "early" else None
        if how != "early":
            process.stdout.readline()
            process.kill()
        process.wait()
        yield int(pid), name, sender
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
            for path in shared.FOLDER.glob(f"{name}*"):
                path.unlink()


def report_of(sender):
    from w4rl_fast.robot.protocol import REPORT

    row = np.zeros(1, dtype=REPORT)
    sender.report(row.view(np.uint8))
    return row[0]


@pytest.mark.parametrize("how", ["moving", "early", pytest.param("still", marks=pytest.mark.slow)])
@pytest.mark.parametrize("on", [pytest.param("scene", marks=pytest.mark.slow), "franka"])
def test_a_policy_that_is_killed_leaves_an_arm_at_rest_and_a_servo_that_ends(
    python_environment, server, how, on
) -> None:
    """The watchdog stops it: hold, stop and fault; then the servo's process ends by itself, in its stated time."""
    with policy(python_environment, how, server.host if on == "franka" else "") as (pid, _, sender):
        assert ended(pid, SETUP.watch.fault + 2.0) < SETUP.watch.fault + 2.0
        if sender is not None:
            last = report_of(sender)
            assert not last["speed"].any() and not last["acceleration"].any()
            assert last["mode"] == (Mode.FAULT if how == "moving" else Mode.READY)
            assert last["fault"] == (Fault.STALE if how == "moving" else Fault.NONE)
    if on == "franka":
        with franka(server, recover=False) as arm:  # no reflex stands in the way
            assert arm.read().mode == Mode.READY


@pytest.mark.parametrize("on", ["scene", pytest.param("franka", marks=pytest.mark.slow)])
def test_a_policy_that_is_killed_leaves_no_memory_behind(python_environment, server, on) -> None:
    with policy(python_environment, "still", server.host if on == "franka" else "") as (pid, name, _):
        ended(pid, 3.0)
        assert [path.name for path in shared.FOLDER.glob(f"{name}*")] == []


def test_ctrl_c_in_a_terminal_reaches_the_policy_and_not_the_servo() -> None:
    with scene() as arm:
        assert os.getpgid(arm.pid) != os.getpgid(0)
        with pytest.raises(KeyboardInterrupt):
            while True:
                state = moving(arm, 300)
                os.kill(os.getpid(), signal.SIGINT)
        assert arm.read().tick >= state.tick
        assert arm.rest().mode == Mode.READY


# ---- the servo dies


def test_a_servo_that_is_killed_is_told_and_a_new_one_takes_over(server) -> None:
    with suppress(ArmLost), franka(server) as arm:
        moving(arm)
        os.kill(arm.pid, signal.SIGKILL)
        assert lost(arm, r"it ended \(exit code -9\)") < 1.0
        with pytest.raises(ArmLost):
            arm.send(Command(Kind.REST))
        with pytest.raises(ArmLost):
            arm.wait(10**9)
    assert not shared.file_of(arm._name).exists()
    with franka(server) as again:
        assert moving(again, 200).mode == Mode.FOLLOW


def test_a_servo_that_hangs_is_told_and_does_not_outlive_the_arm() -> None:
    with pytest.raises(ArmLost, match="no word for more than"), scene() as arm:
        moving(arm, 200)
        os.kill(arm.pid, signal.SIGSTOP)
        lost(arm, "no word for more than")
        arm.read()
    assert arm._child.code == -signal.SIGKILL


def test_leaving_an_arm_that_was_lost_raises_only_what_was_raised_already() -> None:
    with pytest.raises(ZeroDivisionError), scene() as arm:
        os.kill(arm.pid, signal.SIGKILL)
        lost(arm, "it ended")
        _ = 1 / 0


# ---- the robot and the way to it


def test_a_robot_that_goes_is_told_with_its_reason() -> None:
    with checking_server() as server, pytest.raises(ArmLost), franka(server) as arm:
        moving(arm)
        server.inject(die=True)
        lost(arm, "the connection is gone|no word for more than")
        time.sleep(1.0)  # libfranka waits a second before it says so
        lost(arm, "the connection is gone")
        assert arm._child.code == 2
        with pytest.raises(UserError, match="the connection is gone"):
            arm.recover()
        arm.read()


def test_a_robot_that_freezes_for_300_ms_goes_on(server) -> None:
    with franka(server) as arm:
        frozen = []

        def freeze(state):
            if not frozen and state.tick > 150:
                server.inject(freeze_ms=300)
                frozen.append(state.tick)
            return False

        assert moving(arm, 800, until=freeze).mode == Mode.FOLLOW
        assert frozen
        assert [event["event"] for event in arm.events] == ["ready"]
        arm.rest()


def reflex(arm, server):
    """Drive until the robot stops itself; returns the seconds until that was told."""
    begun = []

    def inject(_):
        if not begun:
            begun.append(time.monotonic())
            server.inject(drop_commands=25)
        return False

    moving(arm, 200)
    with pytest.raises(ArmLost, match=r"it stopped itself: .*communication_constraints_violation") as caught:
        moving(arm, 5000, until=inject)
    assert "recover" in str(caught.value)
    return time.monotonic() - begun[0]


def test_a_reflex_is_told_with_its_reason_and_recovered_from_on_the_same_connection() -> None:
    with checking_server() as server:
        with franka(server) as arm:
            for _ in range(2):
                assert reflex(arm, server) < LOST
                state = arm.recover()
                assert (state.mode, state.fault) == (Mode.READY, Fault.NONE)
                assert moving(arm, 300).mode == Mode.FOLLOW
                arm.rest()
        summary = server.stop()
    assert [each["errors"] for each in summary["reflexes"]] == [["communication_constraints_violation"]] * 2
    assert summary["motions"] == 3


def test_an_old_reflex_is_not_told_for_a_new_silence() -> None:
    with checking_server() as server, pytest.raises(ArmLost, match="no word for more than"), franka(server) as arm:
        reflex(arm, server)
        arm.recover()
        moving(arm, 200)
        os.kill(arm.pid, signal.SIGSTOP)
        lost(arm, "no word for more than")
        arm.read()


def test_a_robot_in_reflex_is_left_and_made_ready_by_who_says_so() -> None:
    """As after a policy that was killed together with its servo."""
    with checking_server() as server:
        with suppress(ArmLost), franka(server) as arm:
            reflex(arm, server)
        with pytest.raises(UserError, match="Reflex") as caught, franka(server, recover=False):
            pass
        assert "--recover" in str(caught.value)
        with franka(server) as arm:
            assert moving(arm, 200).mode == Mode.FOLLOW


# ---- faults of the servo


def astray(arm):
    """Drive until the arm is further from its command than it may be."""
    state = moving(arm, 2000, seconds=1.0, until=lambda state: state.mode == Mode.FAULT)
    assert (state.mode, state.fault) == (Mode.FAULT, Fault.ASTRAY)
    return state


@pytest.mark.parametrize("settled", [True, False])
def test_an_arm_astray_is_recovered_where_it_is(server, settled) -> None:
    """Also when somebody recovers it before it has come to rest."""
    with franka(server, replace(SETUP, watch=replace(SETUP.watch, astray=6e-4))) as arm:
        state = astray(arm)
        if settled:
            arm.wait(state.tick + 500)
        assert arm.recover().mode == Mode.READY
        state = arm.wait(arm.read().tick + 100)
        assert (state.mode, still(arm)) == (Mode.READY, True)


@pytest.mark.parametrize("on", ["scene", pytest.param("franka", marks=pytest.mark.slow)])
def test_a_fault_of_silence_is_recovered_from_before_the_arm_is_at_rest(server, on) -> None:
    setup = replace(SETUP, watch=Watch(hold=0.06, stop=0.06, fault=0.06))
    with scene(setup) if on == "scene" else franka(server, setup) as arm:
        state = moving(arm, 400, seconds=1.0)
        while state.mode != Mode.FAULT:
            state = arm.read()
        assert (state.fault, still(arm)) == (Fault.STALE, False)
        assert arm.recover().mode == Mode.READY


@pytest.mark.slow
def test_a_servo_that_was_silent_too_long_stops_in_its_stated_times(server) -> None:
    """Within the watch of a message: followed, held, stopped, at rest before the fault."""
    with franka(server) as arm:
        state = moving(arm, 300)
        joined = state.joined
        while state.mode != Mode.FAULT:
            state = arm.wait(state.tick + 5)
        assert SETUP.watch.fault * 1000 <= state.tick - joined <= SETUP.watch.fault * 1000 + 60
        rows = arm.samples(0)
        modes = {mode: rows["tick"][rows["mode"] == mode] for mode in (Mode.HOLD, Mode.STOP)}
        assert abs(modes[Mode.HOLD][0] - joined - SETUP.watch.hold * 1000) <= 3
        assert abs(modes[Mode.STOP][0] - joined - SETUP.watch.stop * 1000) <= 3
        moved = rows["tick"][1:][np.abs(np.diff(rows["command"], axis=0)).max(axis=1) > 0]
        assert SETUP.watch.stop * 1000 < moved[-1] - joined < SETUP.watch.fault * 1000
        arm.recover()
