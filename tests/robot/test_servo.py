"""Laws of the servo: the native one and its definition, tick by tick, whatever is asked of them."""

from dataclasses import replace

import numpy as np
import pytest

from bench.storm import gust, inspect, storm, tool_of
from tests.native import needs_native
from w4rl_fast.errors import UserError
from w4rl_fast.robot import servo as room
from w4rl_fast.robot.protocol import JOINTS, POINTS, REFUSED, TICK, Fault, Flag, Kind, Mode
from w4rl_fast.robot.reference import kinematics, route
from w4rl_fast.robot.servo import NativeServo, ReferenceServo, make_servo
from w4rl_fast.robot.setup import RADII, READY, Watch, Workspace, make_setup, settings_of

BOTH = [pytest.param(NativeServo, marks=needs_native, id="native"), pytest.param(ReferenceServo, id="reference")]
HOME = np.array(READY)
HOME_TOOL = tool_of(HOME[None])[0]
NONE = np.zeros(0), np.zeros((0, JOINTS))
QUICK = Watch(hold=0.02, stop=0.035, fault=0.235)
PATIENT = Watch(hold=10.0, stop=10.0, fault=10.0)
TIGHT = Workspace(
    low=(0.2, -0.25, 0.3),
    high=(0.55, 0.25, 0.7),
    keep_out=(((0.4, -0.1, 0.2), (0.6, 0.1, 0.4)), ((-0.3, 0.1, 0.5), (0.3, 0.3, 0.8))),
)


@pytest.fixture(params=BOTH)
def kind(request):
    return request.param


def settings(arm="panda", watch=PATIENT, workspace=None):
    return settings_of(replace(make_setup(arm), watch=watch, workspace=workspace or Workspace()))


def begun(kind, **over):
    """A servo at rest where the arm is ready."""
    servo = kind(settings(**over))
    assert servo.start(HOME)
    return servo


def ask(servo, *points, times=None, kind=Kind.JOINTS, width=-1.0):
    """Post points, by default a tick apart from the next tick on."""
    times = servo.tick + 1.0 + np.arange(len(points)) if times is None else times
    return servo.post(kind, np.array(times, dtype=np.float64), np.array(points, dtype=np.float64), width)


def moved(angles, joint, by):
    """The angles with one joint moved."""
    angles = np.array(angles)
    angles[joint] += by
    return angles


def off(joint, by):
    return moved(HOME, joint, by)


def pose_of(angles, move=(0.0, 0.0, 0.0), turn=(1.0, 0.0, 0.0, 0.0)):
    """The pose of the tool at some angles, moved and turned."""
    arm = kinematics.place([float(q) for q in angles])
    return np.array([*np.add(arm.tool, move), *route.times(list(turn), route.quaternion(arm.turn))])


def about_z(angle):
    return (np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2))


def goal_of(servo):
    return np.array(servo.report()["goal"] if isinstance(servo, NativeServo) else servo._servo.goal)


def moving(kind, **over):
    """A servo in the middle of a long way of all joints, and the servo's command then."""
    servo = begun(kind, **over)
    ask(servo, HOME, HOME + 0.3, HOME + 0.6, times=(0.0, 500.0, 1000.0))
    commands, _ = servo.run(100)
    return servo, commands[-1]


def at_rest(commands):
    return (commands[-1] == commands[-2]).all() and (commands[-2] == commands[-3]).all()


def assert_within_limits(commands, setup, past=None):
    limits = setup.limits
    rows = commands if past is None else np.concatenate([np.tile(past, (3, 1)), commands])
    assert ((np.array(limits.low) <= rows) & (rows <= np.array(limits.high))).all()
    for order, name in enumerate(("speed", "acceleration", "jerk"), start=1):
        assert (np.abs(np.diff(rows, n=order, axis=0)) / TICK**order <= getattr(limits, name)).all()


def test_nothing_happens_before_the_start(kind) -> None:
    servo = kind(settings())
    ask(servo, HOME)
    servo.step()
    assert (servo.mode, servo.tick, servo.flags) == (Mode.OFF, 0, 0)


def test_it_starts_at_rest_where_the_arm_is_and_stays_until_told_otherwise(kind) -> None:
    servo, angles = kind(settings(watch=QUICK)), HOME + 0.0123
    assert servo.start(angles)
    assert (servo.command == angles).all()
    commands, states = servo.run(300)
    assert (commands == angles).all()
    assert (states == [Mode.READY, Fault.NONE, 0]).all()
    assert servo.tick == 300


@pytest.mark.parametrize(
    "angles", [HOME * np.nan, off(2, np.inf), off(3, 2.4), off(1, -1.1), HOME * [1, 0.2, 1, 0.7, 1, 1.3, 1]]
)
def test_it_does_not_start_where_nothing_may_begin(kind, angles) -> None:
    servo = kind(settings(workspace=TIGHT))
    assert not servo.start(angles)
    assert servo.mode == Mode.OFF
    servo.step()
    assert (servo.mode, servo.tick) == (Mode.OFF, 0)


def test_it_does_not_start_with_an_elbow_in_a_box(kind) -> None:
    elbow = kinematics.place(list(READY)).origins[3]
    beside = tuple(np.subtract(elbow, 0.01)), tuple(np.add(elbow, 0.01))
    assert not kind(settings(workspace=Workspace(keep_out=(beside,)))).start(HOME)
    away = tuple(np.add(beside, (0.0, 0.25, 0.0)).tolist())
    assert kind(settings(workspace=Workspace(keep_out=(tuple(map(tuple, away)),)))).start(HOME)


def test_a_still_target_is_reached_exactly_within_the_limits(kind) -> None:
    servo, target = begun(kind), HOME + np.array([0.2, -0.3, 0.1, 0.2, -0.4, 0.3, 0.4])
    ask(servo, target)
    commands, states = servo.run(900)
    assert (states[:, 0] == Mode.FOLLOW).all()
    assert (commands[-1] == target).all()
    assert_within_limits(commands, make_setup("panda"), HOME)


BAD = {
    "nan": (Flag.NOT_FINITE, lambda q: [q * np.nan], {}),
    "infinite": (Flag.NOT_FINITE, lambda q: [moved(q, 6, np.inf)], {}),
    "nan time": (Flag.NOT_FINITE, lambda q: [q, q], {"after": [0, np.nan]}),
    "nan width": (Flag.NOT_FINITE, lambda q: [q], {"width": np.nan}),
    "nan pose": (Flag.NOT_FINITE, lambda q: [pose_of(q) * np.nan], {"kind": Kind.POSES}),
    "no point": (Flag.SHAPE, lambda _: NONE[1], {}),
    "unknown kind": (Flag.SHAPE, lambda q: [q], {"kind": 9}),
    "kind of nothing": (Flag.SHAPE, lambda q: [q], {"kind": 0}),
    "falling times": (Flag.SHAPE, lambda q: [q, q, q], {"after": [0, 9, 8]}),
    "equal times": (Flag.SHAPE, lambda q: [q, q], {"after": [0, 0]}),
    "another clock": (Flag.TIME, lambda q: [q], {"after": [10_001]}),
    "long past": (Flag.TIME, lambda q: [q], {"after": [-10_001]}),
    "a last point far away": (Flag.TIME, lambda q: [q, q], {"after": [0, 10_001]}),
    "above the range": (Flag.RANGE, lambda q: [q, moved(q, 3, 2.4)], {}),
    "below the range": (Flag.RANGE, lambda q: [q, moved(q, 5, -2.0)], {}),
    "further than any arm": (Flag.RANGE, lambda q: [pose_of(q, (2.1, 0, 0))], {"kind": Kind.POSES}),
    "a jump": (Flag.JUMP, lambda q: [moved(q, 1, 0.56)], {}),
    "a jump on the way": (Flag.JUMP, lambda q: [q, moved(q, 4, -0.52)], {}),
    "a leap": (Flag.JUMP, lambda q: [pose_of(q, (0, 0.27, 0))], {"kind": Kind.POSES}),
    "a leap on the way": (Flag.JUMP, lambda q: [pose_of(q), pose_of(q, (0, -0.21, 0))], {"kind": Kind.POSES}),
    "a twist": (Flag.JUMP, lambda q: [pose_of(q, turn=about_z(1.05))], {"kind": Kind.POSES}),
    "a twist on the way": (
        Flag.JUMP,
        lambda q: [pose_of(q), pose_of(q, turn=about_z(-0.85))],
        {"kind": Kind.POSES},
    ),
    "no unit quaternion": (Flag.SHAPE, lambda q: [pose_of(q) * [1, 1, 1, *[1.01] * 4]], {"kind": Kind.POSES}),
    "no quaternion": (Flag.SHAPE, lambda q: [pose_of(q) * [1, 1, 1, *[0] * 4]], {"kind": Kind.POSES}),
    "a reset of nothing": (Flag.LATCHED, lambda _: NONE[1], {"kind": Kind.RESET}),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_message_is_refused_by_its_flag_and_changes_nothing(kind, name) -> None:
    flag, values, over = BAD[name]
    watch = replace(QUICK, hold=0.11, stop=0.12, fault=0.125)
    (servo, here), (twin, _) = moving(kind, watch=watch), moving(kind, watch=watch)
    points = values(here)
    after = np.array(over.get("after", np.arange(len(points))), dtype=np.float64)
    servo.post(over.get("kind", Kind.JOINTS), servo.tick + after, np.array(points), over.get("width", 0.04))
    commands, states = servo.run(40)
    expected, still = twin.run(40)
    assert states[0, 2] == flag
    assert flag in REFUSED
    assert (states[1:, 2] == still[1:, 2]).all()
    assert (states[:, :2] == still[:, :2]).all()
    assert set(still[:, 0]) == {Mode.FOLLOW, Mode.HOLD, Mode.STOP, Mode.FAULT}
    assert (commands == expected).all()
    assert servo.width == twin.width


GOOD = {
    "the past": {"values": [HOME, HOME], "times": [-9_000.0, 9_000.0]},
    "nearly a jump": {"values": [off(1, 0.49), off(1, -0.0)]},
    "nearly a leap": {"values": [pose_of(HOME, (0, 0.199, 0))], "kind": Kind.POSES},
    "nearly a twist": {"values": [pose_of(HOME, turn=about_z(0.79))], "kind": Kind.POSES},
    "the other quaternion": {"values": [pose_of(HOME) * [1, 1, 1, -1, -1, -1, -1]], "kind": Kind.POSES},
    "a rounded quaternion": {"values": [pose_of(HOME) * [1, 1, 1, 1.0004, 1.0004, 1.0004, 1.0004]], "kind": Kind.POSES},
    "all points": {"values": np.tile(HOME, (POINTS, 1))},
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_just_good_enough_is_taken(kind, name) -> None:
    servo, message = begun(kind), dict(GOOD[name])
    ask(servo, *message.pop("values"), **message)
    servo.step()
    assert (servo.flags, servo.mode) == (Flag.TAKEN, Mode.FOLLOW)


def test_too_many_points_never_reach_the_arm(kind) -> None:
    servo = begun(kind)
    try:
        ask(servo, *np.tile(HOME, (POINTS + 1, 1)))
    except ValueError:  # the native one does not even post it
        servo.step()
        assert servo.flags == 0
    else:
        servo.step()
        assert servo.flags == Flag.SHAPE
    assert servo.mode == Mode.READY


def test_the_watchdog_acts_at_its_ticks_and_ends_at_rest(kind) -> None:
    servo = begun(kind, watch=QUICK)
    ask(servo, HOME, HOME + 0.1, HOME + 0.4, times=(0.0, 20.0, 100.0))
    commands, states = servo.run(300)
    expected = [Mode.FOLLOW] * 20 + [Mode.HOLD] * 15 + [Mode.STOP] * 200 + [Mode.FAULT] * 65
    assert states[:, 0].tolist() == expected
    assert states[:, 1].tolist() == [Fault.NONE] * 235 + [Fault.STALE] * 65
    assert (np.abs(commands[34] - commands[33]) > 0).all(), "a hold follows its target to the end"
    assert (commands[220:] == commands[-1]).all()
    assert (np.diff(commands[35:], axis=0) >= -1e-6).all(), "a stop does not turn back"
    assert (commands[-1] < HOME + 0.2).all(), "a stop does not follow its target"
    assert_within_limits(commands, make_setup("panda"), HOME)


def test_every_message_that_is_taken_feeds_the_watchdog(kind) -> None:
    servo = begun(kind, watch=QUICK)
    for k in range(8):
        ask(servo, off(0, 0.01 * k))
        _, states = servo.run(20)
        assert (states[:, 0] == Mode.FOLLOW).all()
    ask(servo, off(0, np.nan))
    assert servo.run(1)[1][0, 0] == Mode.HOLD, "a refused one does not"


@pytest.mark.parametrize(("ticks", "mode"), [(30, Mode.HOLD), (100, Mode.STOP)])
def test_a_new_target_leads_back_from_a_hold_and_a_stop(kind, ticks, mode) -> None:
    servo = begun(kind, watch=replace(QUICK, fading=0.0))
    ask(servo, HOME + 0.1)
    commands, states = servo.run(ticks)
    assert states[-1, 0] == mode
    ask(servo, HOME - 0.01)
    later, states = servo.run(15)
    assert (states[:, 0] == Mode.FOLLOW).all()
    for _ in range(40):
        ask(servo, HOME - 0.01)
        commands = np.concatenate([commands, later])
        later, states = servo.run(15)
    assert (later[-1] == HOME - 0.01).all()
    assert_within_limits(commands, make_setup("panda"), HOME)


def test_no_target_leads_back_from_a_fault(kind) -> None:
    servo, twin = begun(kind, watch=QUICK), begun(kind, watch=QUICK)
    for one in (servo, twin):
        ask(one, HOME + 0.1)
        one.run(260)
    for what in (Kind.JOINTS, Kind.POSES, Kind.REST):
        servo.post(what, np.array([servo.tick + 1.0]), (pose_of(HOME) if what == Kind.POSES else HOME)[None], 0.05)
        commands, states = servo.run(20)
        assert states[0].tolist() == [Mode.FAULT, Fault.STALE, Flag.LATCHED]
        assert (commands == twin.run(20)[0]).all()
    assert servo.width == -1.0


def test_a_reset_is_taken_only_at_rest(kind) -> None:
    servo = begun(kind, watch=Watch(hold=0.1, stop=0.101, fault=0.102))
    ask(servo, HOME + 0.3)
    commands, states = servo.run(103)
    assert states[-1, 1] == Fault.STALE
    refused = 0
    while True:
        servo.post(Kind.RESET, *NONE)
        more, states = servo.run(1)
        commands = np.concatenate([commands, more])
        if states[0, 2] == Flag.TAKEN:
            break
        assert states[0].tolist() == [Mode.FAULT, Fault.STALE, Flag.LATCHED]
        refused += 1
        assert refused < 500
    assert refused > 50
    assert states[0, :2].tolist() == [Mode.READY, Fault.NONE]
    again, states = servo.run(150)
    assert (again == commands[-1]).all(), "what was asked before is forgotten"
    assert (states[:, 0] == Mode.READY).all()
    ask(servo, commands[-1] + 0.05)
    assert servo.run(400)[0][99, 0] > commands[-1][0]


@pytest.mark.parametrize(("measured", "fault"), [(off(4, 0.31), Fault.ASTRAY), (off(4, np.nan), Fault.SENSOR)])
def test_a_fault_of_the_arm_is_not_reset(kind, measured, fault) -> None:
    servo = begun(kind)
    servo.step(measured)
    assert (servo.mode, servo.fault) == (Mode.FAULT, fault)
    servo.run(50)
    for message in (Kind.RESET, Kind.JOINTS):
        servo.post(message, np.array([servo.tick + 1.0]), HOME[None])
        servo.step(HOME)
        assert (servo.mode, servo.fault, servo.flags) == (Mode.FAULT, fault, Flag.LATCHED)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("joint", [0, 6])
def test_an_arm_astray_is_braked(kind, joint, sign) -> None:
    servo, here = moving(kind)
    servo.step(moved(here, joint, sign * 0.299))
    assert (servo.mode, servo.fault) == (Mode.FOLLOW, Fault.NONE)
    servo.step(moved(servo.command, joint, sign * 0.301))
    assert (servo.mode, servo.fault) == (Mode.FAULT, Fault.ASTRAY)
    servo.step(np.full(JOINTS, np.nan))
    assert servo.fault == Fault.ASTRAY, "the first fault is the one that is told"
    commands, _ = servo.run(400)
    assert at_rest(commands)
    assert_within_limits(commands, make_setup("panda"))
    assert (commands[-1] < here + 0.2).all()


def test_an_arm_that_is_nowhere_is_braked(kind) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        servo, here = moving(kind)
        servo.step(moved(here, 5, bad))
        assert (servo.mode, servo.fault) == (Mode.FAULT, Fault.SENSOR)
        commands, _ = servo.run(300)
        assert at_rest(commands)


def test_rest_brakes_and_nothing_is_expected_afterwards(kind) -> None:
    servo = begun(kind, watch=QUICK)
    ask(servo, HOME, HOME + 0.3, times=(0.0, 300.0))
    before, _ = servo.run(18)
    servo.post(Kind.REST, *NONE)
    commands, states = servo.run(400)
    assert (states[:, :2] == [Mode.READY, Fault.NONE]).all()
    assert states[0, 2] == Flag.TAKEN
    assert at_rest(commands)
    assert (commands[150:] == commands[-1]).all()
    ways = np.diff(np.concatenate([before, commands]), axis=0)
    assert (ways >= -1e-6).all()
    fastest = ways[:18].max(axis=0) / TICK
    axes = settings().axes
    most = [
        2 * v * v / axis.braking.most + 3 * v * axis.ease * axis.acceleration
        for v, axis in zip(fastest, axes, strict=True)
    ]
    assert (commands[-1] - before[-1] <= most).all()


@pytest.mark.parametrize("elapsed", [2, 7, 60])
def test_missed_ticks_are_made_up_for(kind, elapsed) -> None:
    jumpy, steady = begun(kind, watch=QUICK), begun(kind, watch=QUICK)
    rng = np.random.default_rng(elapsed)
    for round_ in range(6):
        for servo in (jumpy, steady):
            if round_ % 3 != 2:
                ask(
                    servo,
                    *(HOME + 0.1 * np.sin(round_ + np.arange(3))[:, None]),
                    times=servo.tick + np.array([1, 20, 30]),
                )
        ticks = elapsed * int(rng.integers(1, 3))
        jumpy.step(elapsed=ticks)
        flags = Flag(0)
        for _ in range(ticks):
            steady.step()
            flags |= steady.flags
        assert (jumpy.command == steady.command).all()
        assert (jumpy.tick, jumpy.mode, jumpy.fault, jumpy.flags) == (steady.tick, steady.mode, steady.fault, flags)


def test_overlapping_chunks_blend_without_a_jump_of_the_goal(kind) -> None:
    fading = 50
    servo, rng = begun(kind, watch=replace(PATIENT, fading=fading * TICK)), np.random.default_rng(3)
    goals, chunk = [HOME], None
    for k in range(4):
        times = servo.tick + np.array([0.0, 40.0, 80.0, 120.0])
        chunk = goals[-1] + rng.normal(0, 0.03, JOINTS) + np.cumsum(rng.normal(0, 0.01, (4, JOINTS)), axis=0)
        left = np.abs(goals[-1] - chunk[0]).max()
        assert left > 0.02
        ask(servo, *chunk, times=times)
        slope = np.abs(np.diff(chunk, axis=0)).max() / 40
        for _ in range(70):
            servo.step()
            goals.append(goal_of(servo))
            assert np.abs(goals[-1] - goals[-2]).max() <= slope + 1.5 * left / fading + 1e-12
            if servo.tick >= times[0] + fading:
                straight = [np.interp(servo.tick, times, chunk[:, j]) for j in range(JOINTS)]
                np.testing.assert_allclose(goals[-1], straight, atol=1e-12)
        assert k < 3 or servo.tick == 280


def test_overlapping_poses_blend_without_a_jump_of_the_goal(kind) -> None:
    servo = begun(kind, watch=replace(PATIENT, fading=0.05))
    goals = [HOME]
    for move, angle in (((0.05, 0.0, 0.02), 0.2), ((0.0, 0.06, -0.02), -0.3)):
        ask(servo, pose_of(HOME, move, about_z(angle)), kind=Kind.POSES)
        for _ in range(800):
            servo.step()
            goals.append(goal_of(servo))
        reached = pose_of(goals[-1])
        np.testing.assert_allclose(reached[:3], pose_of(HOME, move)[:3], atol=1e-3)
        assert abs(reached[3:] @ pose_of(HOME, turn=about_z(angle))[3:]) > 1 - 1e-5
    tools = tool_of(np.array(goals))
    assert np.linalg.norm(np.diff(tools, axis=0), axis=1).max() < 2 * 1.5 * 0.09 / 50


def test_what_stands_in_the_way_is_pushed_as_hard_as_allowed_and_in_the_direction_that_was_asked_for(kind) -> None:
    """The arm does not move at all: its joints lead by one share of what was asked, the weakest by all it may."""
    servo, asked = begun(kind), np.array([0.1, -0.05, 0.08, 0.1, -0.06, 0.16, 0.04])
    give = np.array(settings().give)
    ask(servo, HOME + asked)
    for _ in range(600):
        servo.step(HOME)
    share = (give / abs(asked)).min()
    assert share < 0.3
    np.testing.assert_allclose(servo.command - HOME, share * asked, atol=1e-6)


def test_a_joint_that_is_overpowered_lets_all_others_go(kind) -> None:
    servo, give = begun(kind), np.array(settings().give)
    ask(servo, HOME + np.full(7, 0.02))
    pushed = HOME.copy()
    for _ in range(900):
        pushed[5] = max(pushed[5] - 1e-3, servo.command[5] - 2.5 * give[5])
        servo.step(pushed)
    np.testing.assert_allclose(servo.command[:5], HOME[:5], atol=2e-3)


def test_a_pose_is_reached_and_the_elbow_goes_home(kind) -> None:
    servo, target = kind(settings()), pose_of(HOME)
    begin = HOME + np.array([0.2, 0.1, -0.3, 0.1, 0.1, 0.0, 0.1])
    assert servo.start(begin)
    ask(servo, target, kind=Kind.POSES)
    commands, _ = servo.run(1500)
    for row in commands[500::200]:
        reached = pose_of(row)
        np.testing.assert_allclose(reached[:3], target[:3], atol=1e-3)
        assert abs(reached[3:] @ target[3:]) > 1 - 1e-5
    away = np.linalg.norm(commands - HOME, axis=1)
    assert away[-1] < 0.7 * away[500] < 0.7 * away[0]
    assert_within_limits(commands, make_setup("panda"), begin)


def test_a_pose_out_of_reach_stretches_the_arm_within_its_limits(kind) -> None:
    servo = begun(kind, workspace=Workspace(low=(-1.9, -1.9, -1.0), high=(1.9, 1.9, 1.9)))
    ask(
        servo,
        *(pose_of(HOME, (x, 0, 0)) for x in np.arange(0.1, 1.3, 0.1)),
        times=10 + 100 * np.arange(12),
        kind=Kind.POSES,
    )
    commands, states = servo.run(900)
    assert (states[:, 1] == Fault.NONE).all()
    assert tool_of(commands)[:, 0].max() > HOME_TOOL[0] + 0.1
    assert_within_limits(commands, make_setup("panda"), HOME)


WALLS = {
    "down": ((-0.9, -0.9, 0.4), (0.9, 0.9, 1.3), (0, 0, -0.15)),
    "up": ((-0.9, -0.9, 0.0), (0.9, 0.9, 0.55), (0, 0, 0.15)),
    "forward": ((-0.9, -0.9, 0.0), (0.38, 0.9, 1.3), (0.15, 0, 0)),
    "aside": ((-0.9, -0.08, 0.0), (0.9, 0.9, 1.3), (0, -0.15, 0)),
}


@pytest.mark.parametrize("name", WALLS)
def test_a_pose_beyond_a_wall_is_moved_back_to_it(kind, name) -> None:
    low, high, move = WALLS[name]
    servo = begun(kind, workspace=Workspace(low=low, high=high))
    ask(servo, pose_of(HOME, move), kind=Kind.POSES)
    commands, states = servo.run(700)
    assert states[0, 2] & ~Flag.BRAKED == Flag.TAKEN | Flag.WALL
    tools = tool_of(commands)
    room = np.minimum(tools - low, np.array(high) - tools).min(axis=1)
    assert room.min() > 0
    assert room[-1] < 0.006
    np.testing.assert_allclose(
        np.delete(tools[-1], np.argmax(np.abs(move))),
        np.delete(tool_of(HOME[None])[0], np.argmax(np.abs(move))),
        atol=2e-3,
    )


@pytest.mark.parametrize("name", WALLS)
def test_angles_beyond_a_wall_end_before_it(kind, name) -> None:
    low, high, move = WALLS[name]
    servo = begun(kind, workspace=Workspace(low=low, high=high))
    arm, beyond = kinematics.place(list(READY)), np.array(HOME)
    for _ in range(20):
        here = kinematics.place(list(beyond))
        beyond = beyond + kinematics.reach(here, tuple(HOME_TOOL + 0.8 * np.array(move)), arm.turn, [0.0] * 7, 0.03)
    ask(servo, beyond)
    commands, states = servo.run(500)
    tools = tool_of(commands)
    assert np.minimum(tools - low, np.array(high) - tools).min() > 0
    assert (states[:, 2] & Flag.BRAKED).any()
    assert (states[:, 1] == Fault.NONE).all()
    assert_within_limits(commands, make_setup("panda"), HOME)
    ask(servo, HOME)
    assert np.abs(servo.run(900)[0][-1] - HOME).max() < 1e-6, "and come back"


def points_of(angles):
    """Elbow, forearm, wrist, joint 7, flange, hand and tool (N, 7, 3) by the textbook's matrices."""
    rows = [(0, 0.333, 0), (0, 0, -1), (0, 0.316, 1), (0.0825, 0, 1), (-0.0825, 0.384, -1), (0, 0, 1), (0.088, 0, 1)]
    total, origins = np.tile(np.eye(4), (len(angles), 1, 1)), []
    for (a, d, quarter), q in zip(rows, angles.T, strict=True):
        twist = np.array(
            [
                [1, 0, 0, a],
                [0, abs(quarter) < 1, -quarter, -d * quarter],
                [0, quarter, quarter == 0, d * (quarter == 0)],
                [0, 0, 0, 1],
            ]
        )
        turn = np.tile(np.eye(4), (len(angles), 1, 1))
        turn[:, 0, 0] = turn[:, 1, 1] = np.cos(q)
        turn[:, 1, 0] = np.sin(q)
        turn[:, 0, 1] = -np.sin(q)
        total = total @ twist @ turn
        origins.append(total[:, :3, 3])
    flange = total[:, :3, 3] + 0.107 * total[:, :3, 2]
    tool = flange + 0.1034 * total[:, :3, 2]
    elbow, wrist = origins[3], origins[4]
    return np.stack([elbow, (elbow + wrist) / 2, wrist, origins[6], flange, (flange + tool) / 2, tool], axis=1)


@needs_native
@pytest.mark.parametrize("arm", ["panda", "fr3"])
def test_no_part_of_the_arm_leaves_the_workspace_in_a_storm(arm) -> None:
    servo, braked = NativeServo(settings(arm, Watch(), TIGHT)), 0
    for commands, states in storm(servo, 60_000, seed=5):
        points = points_of(commands)
        np.testing.assert_allclose(points[::100, -1], tool_of(commands[::100]), atol=1e-12)
        assert (points[:, -1] > TIGHT.low).all()
        assert (points[:, -1] < TIGHT.high).all()
        for low, high in TIGHT.keep_out:
            away = np.maximum(np.array(low) - points, points - high).max(axis=2)
            assert (away > RADII).all()
        braked += int((states[:, 2] & Flag.BRAKED > 0).sum())
    assert braked > 1000


def test_only_the_newest_of_several_messages_counts(kind) -> None:
    servo, twin = begun(kind), begun(kind)
    for by in (0.1, np.nan, 0.2):
        ask(servo, off(0, by), width=0.01)
    ask(servo, off(0, -0.1), width=0.02)
    ask(twin, off(0, -0.1), width=0.02)
    for one, other in zip(servo.run(60), twin.run(60), strict=True):
        assert (one == other).all()
    assert servo.width == twin.width == 0.02


def test_a_message_is_taken_once(kind) -> None:
    servo = begun(kind)
    ask(servo, off(0, 0.1))
    _, states = servo.run(30)
    assert states[:, 2].tolist() == [Flag.TAKEN] + [0] * 29


def test_messages_are_numbered_upwards(kind) -> None:
    servo = begun(kind)
    assert [ask(servo, HOME) for _ in range(3)] == [1, 2, 3]
    assert (servo.number, servo.joined) == (0, 0)
    servo.run(5)
    ask(servo, HOME)
    servo.run(5)
    assert (servo.number, servo.joined) == (4, 5)
    ask(servo, HOME * np.nan)
    servo.run(5)
    assert (servo.number, servo.joined) == (5, 5), "a refused one does not join"


def test_the_width_is_clamped_and_kept(kind) -> None:
    servo = begun(kind)
    for asked, got in ((0.03, 0.03), (-1.0, 0.03), (0.5, 0.08), (-0.01, 0.08), (0.0, 0.0)):
        ask(servo, HOME, width=asked)
        servo.step()
        assert servo.width == got


def test_a_servo_that_starts_again_forgets_its_fault_and_its_target(kind) -> None:
    servo, here = moving(kind)
    servo.step(here + 1.0)
    assert servo.mode == Mode.FAULT
    assert servo.start(here)
    assert (servo.mode, servo.fault) == (Mode.READY, Fault.NONE)
    assert (servo.run(30)[0] == here).all()


def test_without_the_native_servo_the_reference_runs_and_an_arm_in_real_time_does_not(monkeypatch) -> None:
    monkeypatch.setattr(room, "native", lambda: None)
    assert isinstance(make_servo(settings()), ReferenceServo)
    with pytest.raises(UserError, match="native servo: it was not built"):
        NativeServo(settings())


@needs_native
def test_the_native_servo_runs_where_it_was_built() -> None:
    assert isinstance(make_servo(settings()), NativeServo)


COUNTS = ("tick", "mode", "fault", "flags", "number", "joined", "age", "taken", "refused")


def states_of(servo):
    """All that both servos say about themselves after a tick, bit by bit."""
    if isinstance(servo, NativeServo):
        report = servo.report()
        names = ("speed", "acceleration", "goal")
        counts = [report[name] for name in COUNTS]
        return [*(report[name].tobytes() for name in names), [int(x) for x in counts], float(report["width"])]
    inner = servo._servo
    numbers = [m.speed for m in inner.motions], [m.acceleration for m in inner.motions], inner.goal
    counts = [getattr(inner, name) for name in COUNTS]
    return [*(np.array(row).tobytes() for row in numbers), [int(x) for x in counts], inner.width]


@needs_native
@pytest.mark.parametrize(("arm", "workspace", "seed"), [("panda", None, 1), ("panda", TIGHT, 2), ("fr3", TIGHT, 3)])
def test_the_native_servo_is_its_definition_bit_for_bit_in_a_storm(arm, workspace, seed) -> None:
    one, other = (kind(settings(arm, Watch(), workspace)) for kind in (NativeServo, ReferenceServo))
    for (commands, states), (expected, said) in zip(storm(one, 2000, seed), storm(other, 2000, seed), strict=True):
        assert commands.tobytes() == expected.tobytes()
        assert states.tobytes() == said.tobytes()
    assert states_of(one) == states_of(other)
    assert workspace is None or (states[:, 2] & Flag.BRAKED).any()


@needs_native
def test_the_native_servo_is_its_definition_bit_for_bit_on_an_arm_that_lags_and_misses_ticks() -> None:
    rng = np.random.default_rng(8)
    servos = [
        kind(settings(watch=replace(QUICK, fault=0.1), workspace=TIGHT)) for kind in (NativeServo, ReferenceServo)
    ]
    assert all(servo.start(HOME) for servo in servos)
    seen = set()
    for k in range(600):
        if servos[0].fault not in (Fault.NONE, Fault.STALE):
            here = servos[0].command
            assert all(servo.start(here) for servo in servos) or not any(servo.start(here) for servo in servos)
        message = gust(rng, servos[0].tick, servos[0].command)[:4] if k % 100 < 60 and rng.random() < 0.4 else None
        if servos[0].fault == Fault.STALE:
            message = (Kind.RESET, *NONE, -1.0)
        measured = servos[0].command + rng.normal(0, 0.09, JOINTS)
        if rng.random() < 0.01:
            measured[2] = np.nan
        elapsed = int(rng.choice([1, 1, 1, 2, 5, 20]))
        for servo in servos:
            if message:
                servo.post(*message)
            servo.step(measured, elapsed=elapsed)
        assert servos[0].command.tobytes() == servos[1].command.tobytes()
        assert states_of(servos[0]) == states_of(servos[1])
        seen.add(servos[0].fault)
    assert seen == {Fault.NONE, Fault.STALE, Fault.ASTRAY, Fault.SENSOR}


@needs_native
def test_a_storm_is_its_seed() -> None:
    def of(seed):
        return inspect(storm(NativeServo(settings()), 3000, seed), make_setup("panda").limits).hash

    assert of(1) == of(1)
    assert of(1) != of(2)


def test_an_arm_that_came_too_close_to_a_wall_can_leave_it_but_come_no_closer() -> None:
    servo = ReferenceServo(settings())
    assert servo.start(HOME)
    tool = pose_of(HOME)
    low, high = servo._servo.settings.walls
    servo._servo.settings = replace(servo._servo.settings, walls=((tool[0] - 0.001, *low[1:]), high))
    ask(servo, HOME + np.array([0.0, -0.2, 0.0, 0.0, 0.0, 0.0, 0.0]))
    commands, states = servo.run(200)
    assert (np.array([pose_of(row)[0] for row in commands[::20]]) >= tool[0] - 1e-9).all()
    assert (states[50:60, 2] & Flag.BRAKED).all()
    ask(servo, pose_of(HOME, (0.05, 0.0, 0.0)), kind=Kind.POSES)
    commands, _ = servo.run(500)
    assert pose_of(commands[-1])[0] > tool[0] + 0.045
