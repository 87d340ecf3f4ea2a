"""Laws of the policy's loop, on an arm whose time is simulated and with decisions that are known beforehand."""

import numpy as np
import pytest

pytest.importorskip("mujoco")

from w4rl_fast.control import begin_of, handling_of
from w4rl_fast.errors import UserError
from w4rl_fast.robot.arm import ArmLost
from w4rl_fast.robot.camera import DrawnCamera
from w4rl_fast.robot.handling import Handling
from w4rl_fast.robot.loop import drive
from w4rl_fast.robot.plant import Scene
from w4rl_fast.robot.protocol import Fault, Flag, Mode
from w4rl_fast.robot.setup import make_setup
from w4rl_fast.robot.simulated import SimArm
from w4rl_fast.tasks import default_config

TASK = default_config("franka/push-button", image_size=16)
SETUP = make_setup("panda")
HANDLING = handling_of(TASK)
BOX = {"low": HANDLING.low, "high": HANDLING.high}
SLOW = Handling(rate=5.0, step=(0.1, 0.1, 0.1), **BOX)
STILL = np.array([[0.0, 0.0, 0.0, -1.0]], dtype=np.float32)


def still(*_):
    return STILL


class Scripted:
    """Decides by a function of the turn's number, after a time that passes on the arm (ticks)."""

    name = "scripted"

    def __init__(self, arm, function=still, takes=0):
        self._arm, self._function, self._takes, self.calls, self.begun = arm, function, takes, 0, 0

    def begin(self):
        self.calls, self.begun = 0, self.begun + 1

    def decide(self, frame, proprio):
        actions = self._function(self.calls, proprio)
        self.calls += 1
        if self._takes:
            self._arm.wait(self._arm.read().tick + self._takes)
        return np.asarray(actions, dtype=np.float32)


class Notes:
    """What a watcher was told."""

    def __init__(self):
        self.turns, self.ends = [], []

    def turn(self, turn):
        self.turns.append(turn)

    def end(self, state, shot, proprio):
        self.ends.append((state, shot, proprio))


@pytest.fixture
def arm():
    with simulated() as arm:
        yield arm


def simulated(seed=0, **options):
    xml, start = begin_of(TASK, seed)
    return SimArm(Scene(xml, np.array(start)), SETUP, **options)


def camera_of(arm, draw=lambda: np.zeros((16, 16, 3), np.uint8)):
    return DrawnCamera(draw, lambda: arm.read().stamp)


def driven(arm, function=still, *, turns=6, takes=0, handling=HANDLING, camera=None, **options):
    """What came of a drive, and what was noted of it."""
    notes = Notes()
    decider = Scripted(arm, function, takes)
    outcome = drive(arm, camera or camera_of(arm), decider, handling, turns=turns, watchers=(notes,), **options)
    assert decider.begun == 1
    return outcome, notes


def steady(*action):
    return lambda *_: [action]


# ---- turns and their times


@pytest.mark.parametrize("turns", [1, 7])
def test_there_are_as_many_turns_as_asked_and_one_observation_more(arm, turns) -> None:
    outcome, notes = driven(arm, turns=turns)
    assert (outcome.turns, outcome.ended, outcome.error) == (turns, "horizon", None)
    assert [turn.number for turn in notes.turns] == list(range(turns))
    ((state, shot, _),) = notes.ends
    assert state.tick == notes.turns[-1].tick + HANDLING.period
    assert shot.stamp == state.stamp


@pytest.mark.parametrize("takes", [0, 30, 99, 100])
def test_observations_are_a_period_apart_however_long_a_decision_takes_within_it(arm, takes) -> None:
    outcome, notes = driven(arm, takes=takes, turns=8)
    ticks = np.array([turn.tick for turn in notes.turns])
    np.testing.assert_array_equal(np.diff(ticks), HANDLING.period)
    assert outcome.overruns == 0
    assert {turn.late for turn in notes.turns} == {0}


def test_a_decision_that_takes_too_long_makes_the_next_turns_late_until_they_have_caught_up(arm) -> None:
    takes = iter([260, *[0] * 20])

    def function(*_):
        arm.wait(arm.read().tick + next(takes))
        return STILL

    outcome, notes = driven(arm, function, turns=6)
    assert [turn.late for turn in notes.turns] == [0, 160, 60, 0, 0, 0]
    assert outcome.overruns == 2


@pytest.mark.parametrize("takes", [0, 20, 70, 100])
def test_the_delay_that_is_measured_is_the_one_there_was(arm, takes) -> None:
    outcome, notes = driven(arm, steady(0.3, 0.0, 0.0, -1.0), takes=takes, turns=8)
    assert set(outcome.delays) == {float(takes)}
    assert notes.turns[0].delay is None
    assert len(outcome.delays) >= 6


def test_two_drives_are_equal_in_every_bit() -> None:
    told = []
    for _ in range(2):
        rng = np.random.default_rng(3)
        with simulated(5) as arm:
            _, notes = driven(arm, lambda *_, rng=rng: rng.uniform(-1, 1, (2, 4)), takes=40, turns=20)
        told.append(b"".join(turn.state.joints.tobytes() + turn.sent.values.tobytes() for turn in notes.turns))
    assert told[0] == told[1]


# ---- what a policy feels and what its actions mean


def test_what_is_felt_is_the_hand_its_opening_and_the_command(arm) -> None:
    outcome, notes = driven(arm, steady(0.5, -0.25, 0.1, -1.0), turns=5)
    assert outcome.refused == 0
    begun = notes.turns[0].state
    step = np.array([0.5, -0.25, 0.1]) * HANDLING.step
    for turn in notes.turns:
        assert turn.proprio.dtype == np.float32 and turn.proprio.shape == (7,)
        np.testing.assert_allclose(turn.proprio[:3], turn.state.tool, atol=1e-6)
        assert turn.proprio[3] == pytest.approx(turn.state.opening / HANDLING.opening, abs=0.02)
        np.testing.assert_allclose(turn.proprio[4:], begun.pose[:3] + turn.number * step, atol=1e-6)
    np.testing.assert_allclose(notes.ends[0][2][4:], begun.pose[:3] + 5 * step, atol=1e-6)


def test_the_hand_goes_where_the_actions_add_up_to(arm) -> None:
    outcome, notes = driven(arm, lambda number, *_: [[0.6, 0.4, 0.2, -1.0]] if number < 5 else STILL, turns=10)
    moved = notes.ends[0][0].tool - notes.turns[0].state.tool
    np.testing.assert_allclose(moved, np.array([0.6, 0.4, 0.2]) * HANDLING.step * 5, atol=3e-3)
    assert outcome.errors and max(outcome.errors) < 100


def test_the_command_stays_in_its_box_and_actions_in_theirs(arm) -> None:
    _, notes = driven(arm, steady(-9.0, 0.0, 9.0, -1.0), turns=20)
    sent = np.concatenate([turn.sent.values[:, :3] for turn in notes.turns])
    assert (sent >= np.array(BOX["low"]) - 1e-12).all() and (sent <= np.array(BOX["high"]) + 1e-12).all()
    np.testing.assert_allclose(notes.ends[0][2][[4, 6]], [BOX["low"][0], BOX["high"][2]], atol=1e-6)
    steps = np.abs(np.diff([turn.proprio[4:] for turn in notes.turns], axis=0))
    assert (steps <= np.array(HANDLING.step) + 1e-6).all()


@pytest.mark.parametrize(("grip", "opening"), [(1.0, 0.0), (-1.0, 1.0)])
def test_the_last_number_of_an_action_closes_the_fingers(arm, grip, opening) -> None:
    _, notes = driven(arm, steady(0.0, 0.0, 0.0, grip), turns=10)
    assert notes.ends[0][2][3] == pytest.approx(opening, abs=0.03)


def test_a_message_that_is_refused_does_not_move_the_command(arm) -> None:
    def function(number, *_):
        return [[np.nan if number in (2, 3) else 0.4, 0.0, 0.0, -1.0]]

    outcome, notes = driven(arm, function, turns=7)
    assert (outcome.ended, outcome.turns, outcome.refused) == ("horizon", 7, 2)
    assert Flag.NOT_FINITE in outcome.flags
    x = np.array([turn.proprio[4] for turn in notes.turns])
    np.testing.assert_allclose((x - x[0]) / HANDLING.step[0], np.array([0, 1, 2, 2, 2, 3, 4]) * 0.4, atol=1e-4)


def test_a_policy_that_pushes_what_does_not_give_way_goes_on_and_gets_away_again(arm) -> None:
    """Down beside the button's base, sideways into it for three seconds, then back."""

    def function(number, proprio):
        if number < 12:
            return [[0.0, -float(number < 6), -float(proprio[6] > 0.06), -1.0]]
        return [[0.0, 1.0 if number < 42 else -1.0, 0.0, -1.0]]

    outcome, notes = driven(arm, function, turns=56)
    assert (outcome.ended, outcome.turns) == ("horizon", 56)
    assert {turn.state.mode for turn in notes.turns[1:]} == {Mode.FOLLOW}
    assert notes.ends[0][0].refused == 0
    assert notes.ends[0][0].tool[1] < notes.turns[41].state.tool[1] - 0.05


def test_nothing_moves_on_a_dry_run() -> None:
    with simulated(dry=True) as arm:
        before = arm.read().joints
        outcome, notes = driven(arm, steady(1.0, 1.0, 0.0, 1.0), turns=6)
        assert (outcome.turns, outcome.ended, outcome.delays) == (6, "horizon", [])
        np.testing.assert_array_equal(arm.read().joints, before)
        assert {turn.sent.number for turn in notes.turns} == {0}
        assert notes.turns[-1].proprio[4] > notes.turns[0].proprio[4], "what it would be sent is still told"


# ---- compensation


def tracked(chunk, delay, compensate):
    """How far (m) the tool is from a target on a circle, a second after it set out, at worst."""
    errors = []
    with simulated() as arm:
        centre, begun, wait = arm.read().pose[:3], arm.read().tick, arm.wait

        def target(tick):
            seconds = (tick - begun) / 1000
            turn, radius = 2 * np.pi * seconds / 3, 0.08 * min(1.0, seconds) ** 2
            return centre + radius * np.array([np.sin(turn), np.cos(turn) - 1.0, 0.0])

        def passing(tick):
            while (now := arm.read().tick) < tick:
                state = wait(min(tick, now + 5))
                if state.tick > begun + 1000:
                    errors.append(np.linalg.norm(state.tool - target(state.tick)))
            return arm.read()

        def function(_, proprio):
            """Where the target will be one period after the observation, and so on."""
            at = arm.read().tick + SLOW.period * np.arange(1, chunk + 1)
            places = np.array([proprio[4:], *(target(tick) for tick in at)])
            return np.column_stack([np.diff(places, axis=0) / SLOW.step, np.full(chunk, -1.0)])

        arm.wait = passing
        outcome, _ = driven(arm, function, turns=20, takes=delay, handling=SLOW, compensate=compensate)
        assert (outcome.ended, outcome.overruns, set(outcome.delays)) == ("horizon", 0, {float(delay)})
    return float(np.mean(errors))


@pytest.mark.parametrize("chunk", [1, 3])
def test_compensation_halves_the_error_that_a_delay_of_100_ms_makes(chunk) -> None:
    assert tracked(chunk, 100, compensate=True) < tracked(chunk, 100, compensate=False) / 2


def test_without_a_delay_there_is_nothing_to_compensate() -> None:
    assert tracked(1, 0, compensate=True) == tracked(1, 0, compensate=False) < 4e-3


# ---- how it ends


def test_done_ends_it_early_at_rest(arm) -> None:
    looks = iter([False] * 3 + [True] * 9)
    outcome, notes = driven(arm, steady(1.0, 0.0, 0.0, -1.0), turns=9, done=lambda: next(looks))
    assert (outcome.ended, outcome.turns, len(notes.turns), len(notes.ends)) == ("done", 3, 3, 1)
    assert_at_rest(arm)


def test_it_is_stopped_when_its_turns_are_over(arm) -> None:
    outcome, _ = driven(arm, steady(1.0, 0.5, 0.0, -1.0), turns=5)
    assert outcome.ended == "horizon"
    assert_at_rest(arm)


def assert_at_rest(arm):
    state = arm.read()
    assert state.mode in (Mode.READY, Mode.FAULT)
    np.testing.assert_array_equal(arm.wait(state.tick + 20).command, state.command)


class Broken(Exception):
    pass


def failing(error, at=3):
    def function(number, *_):
        if number == at:
            raise error
        return [[1.0, 0.0, 0.0, -1.0]]

    return function


@pytest.mark.parametrize("error", [Broken("an engine broke"), UserError("x", rule="y", remedy="z"), MemoryError()])
def test_an_engine_that_fails_ends_it_at_rest_with_what_was_seen_last(arm, error) -> None:
    outcome, notes = driven(arm, failing(error))
    assert (outcome.ended, outcome.error, outcome.turns) == ("error", error, 3)
    assert [state.tick for state, _, _ in notes.ends] == [notes.turns[-1].tick + HANDLING.period]
    assert_at_rest(arm)


def test_ctrl_c_ends_it_at_rest_with_what_was_seen_last(arm) -> None:
    outcome, notes = driven(arm, failing(KeyboardInterrupt()))
    assert (outcome.ended, outcome.error, outcome.turns, len(notes.ends)) == ("interrupted", None, 3, 1)
    assert_at_rest(arm)


@pytest.mark.parametrize("at", [0, 4])
def test_a_camera_that_fails_ends_it_at_rest(arm, at) -> None:
    camera, shots = camera_of(arm), iter(range(100))
    real = camera.read

    def read():
        if next(shots) == at:
            raise UserError("camera 0", rule="it has given no frame for 1 s", remedy="Check its cable")
        return real()

    camera.read = read
    outcome, notes = driven(arm, steady(1.0, 0.0, 0.0, -1.0), camera=camera)
    assert (outcome.ended, outcome.turns, len(notes.ends)) == ("error", at, min(at, 1))
    assert "camera 0" in str(outcome.error)
    assert_at_rest(arm)


def test_a_camera_slower_than_the_policy_is_looked_at_for_what_it_showed_and_when(arm) -> None:
    """Its frame is of some time ago: the delay that is measured counts from there, and the arm still follows."""
    from w4rl_fast.robot.camera import Shot

    camera, newest = camera_of(arm), []

    def read():
        now = arm.read()
        newest[:] = newest if newest and now.stamp - newest[0].stamp < 250e6 else [real()]
        return newest[0]

    real, camera.read = camera.read, read
    outcome, notes = driven(arm, steady(0.2, 0.0, 0.0, -1.0), camera=camera, takes=10, turns=9)
    assert isinstance(notes.turns[0].shot, Shot)
    assert outcome.ended == "horizon"
    assert sorted(set(outcome.delays)) == [10.0, 110.0, 210.0]
    old = [turn.state.tick - turn.tick for turn in notes.turns]
    assert old == [0, 100, 200] * 3
    assert [turn.sent.values[0, 0] for turn in notes.turns] == sorted(turn.sent.values[0, 0] for turn in notes.turns)


def test_a_fault_of_the_servo_ends_it(arm) -> None:
    def function(number, *_):
        if number == 3:
            arm.scene.data.qpos[3] += 0.5
        return [[0.3, 0.0, 0.0, -1.0]]

    outcome, notes = driven(arm, function, turns=9)
    assert (outcome.ended, outcome.error, outcome.turns) == ("fault: astray", None, 4)
    assert notes.ends[0][0].fault == Fault.ASTRAY
    assert_at_rest(arm)
    assert arm.recover().mode == Mode.READY
    assert driven(arm, turns=2)[0].ended == "horizon"


def test_an_arm_that_is_lost_is_told_and_not_stopped_again(arm) -> None:
    rests, gone = [], ArmLost("the arm", rule="gone", remedy="look")
    read, arm.rest = arm.wait, lambda: rests.append(1)
    arm.wait = lambda tick: (_ for _ in ()).throw(gone) if tick > 300 else read(tick)
    outcome, notes = driven(arm, turns=9)
    assert (outcome.ended, outcome.error, rests, len(notes.ends)) == ("lost", gone, [], 1)
    assert outcome.turns == 3
    del arm.rest, arm.wait


@pytest.mark.parametrize("part", ["turn", "end"])
def test_a_watcher_that_fails_neither_keeps_the_arm_going_nor_the_others_from_the_end(arm, part) -> None:
    """Such as a recording whose disk is full: it fails at every turn, and at the end again."""
    first, second = Notes(), Notes()

    def full(*_):
        raise UserError("cannot write x", rule="No space left on device", remedy="Free some space")

    setattr(first, part, full)
    first.end = full
    outcome = drive(arm, camera_of(arm), Scripted(arm), HANDLING, turns=5, watchers=(first, second))
    assert outcome.ended == ("error" if part == "turn" else "horizon")
    assert "No space left" in str(outcome.error)
    assert len(second.ends) == 1
    assert_at_rest(arm)
