"""Many faults at moments that nobody chose: each ends as it should, at rest and within the limits, and is got over."""

import os
import shutil
import signal
import sys
from contextlib import suppress

import numpy as np
import pytest

pytest.importorskip("mujoco")

from tests.native import needs_native
from tests.robot.fci.checker import Checker
from tests.robot.fci.checker import Limits as Allowed
from tests.robot.test_loop import HANDLING, SETUP, Notes, Scripted, camera_of, simulated
from tests.robot.test_process_arm import checking_server, ended, franka, lost, moving, policy, reflex
from w4rl_fast.data.episode import EpisodeInfo, Schema
from w4rl_fast.data.store import Store, writing
from w4rl_fast.robot.arm import ArmLost
from w4rl_fast.robot.loop import drive
from w4rl_fast.robot.protocol import Mode
from w4rl_fast.robot.recording import Recorder, recover

FAULT = round(1000 * SETUP.watch.fault)


class Oops(Exception):
    pass


def stalls(arm, rng):
    arm.wait(arm.read().tick + int(rng.integers(FAULT + 100, 2 * FAULT)))


def kicks(arm, rng):
    arm.scene.data.qpos[rng.integers(7)] += rng.choice((-1, 1)) * rng.uniform(1.2, 2.0) * SETUP.watch.astray


def dallies(arm, rng):
    arm.wait(arm.read().tick + int(rng.integers(0, FAULT - 200)))


def breaks(_arm, _rng):
    raise Oops("an engine broke")


def is_interrupted(_arm, _rng):
    raise KeyboardInterrupt


KINDS = {
    "engine": (breaks, "error"),
    "ctrl-c": (is_interrupted, "interrupted"),
    "stall": (stalls, "fault: stale"),
    "kick": (kicks, "fault: astray"),
    "slow": (dallies, "horizon"),
    "nonsense": (None, "horizon"),
    "leap": (None, "horizon"),
    "camera": (None, "error"),
}


def driven(arm, kind, rng):
    """One episode with one fault; what came of it and the tick at which it was injected."""
    at, function, moment = int(rng.integers(1, 10)), KINDS[kind][0], []

    def decide(number, _):
        actions = rng.uniform(-1, 1, (int(rng.integers(1, 4)), 4))
        if number == at and kind != "camera":
            moment.append(arm.read().tick)
            if function is not None:
                function(arm, rng)
            elif kind == "nonsense":
                actions[0, rng.integers(3)] = rng.choice((np.nan, np.inf, -np.inf))
            else:
                actions *= 1e6
        return actions

    camera = camera_of(arm)
    real, looks = camera.read, iter(range(100))

    def read():
        if next(looks) == at and kind == "camera":
            moment.append(arm.read().tick)
            raise Oops("no frame")
        return real()

    camera.read = read
    notes = Notes()
    outcome = drive(arm, camera, Scripted(arm, decide), HANDLING, turns=12, watchers=(notes,))
    return outcome, moment[0], notes


def assert_kept(rows):
    """Commands of every tick (N, 7) within the limits, by differences up to the third."""
    limits = SETUP.limits
    allowed = Allowed(
        position_min=limits.low, position_max=limits.high, velocity=limits.speed, acceleration=limits.acceleration,
        jerk=limits.jerk,
    )  # fmt: skip
    checker = Checker(allowed)
    checker.start(rows[0], 0)
    for tick, row in enumerate(rows[1:], 1):
        assert checker.command(row, tick) == ()


def sweep(kind, seeds):
    """Ticks from each fault of a kind until the arm was at rest."""
    resting = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        with simulated(seed) as arm:
            begun = arm.read()
            outcome, moment, notes = driven(arm, kind, rng)
            assert outcome.ended == KINDS[kind][1], (kind, seed)
            assert len(notes.ends) == 1
            assert arm.rest().mode in (Mode.READY, Mode.FAULT)
            rows = np.vstack([begun.command, arm.servo.samples(0, arm.servo.tick)["command"]])
            if kind != "kick":
                assert_kept(rows)
            moved = np.flatnonzero(np.abs(np.diff(rows, axis=0)).max(axis=1)) + 1
            resting.append(max(0, int(moved[-1]) - moment))
            assert arm.recover().mode == Mode.READY, (kind, seed)
            again = drive(arm, camera_of(arm), Scripted(arm), HANDLING, turns=2)
            assert (again.ended, again.refused) == ("horizon", 0)
    return np.array(resting)


@needs_native
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_ends_as_it_should_and_is_got_over(kind) -> None:
    sweep(kind, range(4))


@needs_native
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_faults_end_as_they_should_and_are_got_over(kind) -> None:
    resting = sweep(kind, range(1000, 1125))
    print(f"{kind}: at rest after {np.median(resting):.0f} ms, at most {resting.max()} ms", file=sys.stderr)
    if KINDS[kind][1] != "horizon":
        assert resting.max() < FAULT


# ---- between processes


@needs_native
@pytest.mark.slow
def test_a_killed_servo_is_told_every_time() -> None:
    with checking_server() as server:
        for seed in range(10):
            rng = np.random.default_rng(seed)
            with suppress(ArmLost), franka(server) as arm:
                moving(arm, int(rng.integers(50, 600)))
                os.kill(arm.pid, signal.SIGKILL)
                assert lost(arm, "it ended") < 1.0


@needs_native
@pytest.mark.slow
def test_a_reflex_is_told_and_recovered_from_every_time() -> None:
    with checking_server() as server, franka(server) as arm:
        for _ in range(10):
            assert reflex(arm, server) < 1.0
            assert arm.recover().mode == Mode.READY
            assert moving(arm, 200).mode == Mode.FOLLOW
            arm.rest()


@needs_native
@pytest.mark.slow
def test_a_frozen_robot_goes_on_every_time() -> None:
    with checking_server() as server, franka(server) as arm:
        for seed in range(10):
            moving(arm, 100)
            server.inject(freeze_ms=int(np.random.default_rng(seed).integers(20, 400)))
            assert moving(arm, 300).mode == Mode.FOLLOW
            arm.rest()
        assert [event["event"] for event in arm.events] == ["ready"]


@needs_native
@pytest.mark.slow
def test_a_killed_policy_leaves_an_arm_at_rest_every_time(python_environment) -> None:
    with checking_server() as server:
        for _ in range(10):
            with policy(python_environment, "moving", server.host) as (pid, _, _):
                assert ended(pid, SETUP.watch.fault + 2.0) < SETUP.watch.fault + 2.0
        assert server.stop()["reflexes"] == []


# ---- the disk


def assert_a_full_disk_loses_nothing(disk, seed) -> None:
    """A real disk is full after some turns: the arm comes to rest, and every turn before is in the store afterwards."""
    rng, numbers = np.random.default_rng(seed), iter(range(256))
    schema = Schema(image_size=16, action_low=(-1.0,) * 4, action_high=(1.0,) * 4, proprio_dim=7)
    info = EpisodeInfo(task="toy/push", source="policy", seed=seed, succeeded=False, origin="0123-robot")
    ballast, seen = disk / "ballast", []
    with writing(disk / f"store-{seed}", schema, {"toy/push": {}}) as writer, simulated(seed) as arm:
        recorder = Recorder(writer, info, lambda: False)
        ballast.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - int(rng.integers(3, 6) << 12))))

        class Noting:
            def turn(self, turn):
                recorder.turn(turn)
                seen.append(turn)

            def end(self, *last):
                recorder.end(*last)

        camera = camera_of(arm, lambda: np.full((16, 16, 3), next(numbers), np.uint8))
        outcome = drive(arm, camera, Scripted(arm), HANDLING, turns=60, watchers=(Noting(),))
        assert outcome.ended == "error" and "cannot write" in str(outcome.error), seed
        assert arm.rest().mode in (Mode.READY, Mode.FAULT)
        ballast.unlink()
    with writing(disk / f"store-{seed}", schema, {"toy/push": {}}) as writer:
        assert recover(writer) == [info.key]
    episode = Store(disk / f"store-{seed}").read(0)
    assert len(episode) in (len(seen), len(seen) + 1), "the last observation may have found room"
    for row, turn in enumerate(seen):
        np.testing.assert_array_equal(episode.frames[row], turn.shot.frame)
        np.testing.assert_array_equal(episode.proprio[row], turn.proprio)
    shutil.rmtree(disk / f"store-{seed}")


def test_a_full_disk_loses_nothing(small_disk) -> None:
    assert_a_full_disk_loses_nothing(small_disk, 0)


@pytest.mark.slow
def test_a_full_disk_loses_nothing_every_time(small_disk) -> None:
    for seed in range(1, 51):
        assert_a_full_disk_loses_nothing(small_disk, seed)
