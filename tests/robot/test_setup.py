"""Laws of a setup: what a file may say, and what a servo gets of it."""

from dataclasses import replace

import numpy as np
import pytest

from w4rl_fast.errors import UserError
from w4rl_fast.robot.limits import limits_of
from w4rl_fast.robot.reference.kinematics import place
from w4rl_fast.robot.reference.servo import Servo
from w4rl_fast.robot.setup import READY, Setup, Watch, Workspace, make_setup, settings_of

WHOLE = """
arm = "fr3"
opening = 0.05

[limits]
speed = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]

[limits.scale]
acceleration = 0.5

[workspace]
low = [0.1, -0.4, 0.05]
high = [0.8, 0.4, 0.9]
keep_out = [[[0.3, -0.1, 0.0], [0.5, 0.1, 0.2]], [[-0.5, -0.5, 0.0], [-0.3, 0.5, 1.0]]]

[watch]
hold = 0.1
stop = 0.25
fault = 2.5
fading = 0.02
"""


@pytest.fixture
def file(tmp_path):
    """Write a file and say where it is."""

    def write(text):
        path = tmp_path / "arm.toml"
        path.write_text(text)
        return path

    return write


def test_without_a_file_an_arm_is_calmer_than_its_maker_allows() -> None:
    for arm in ("panda", "fr3"):
        setup, maker = make_setup(arm), limits_of(arm)
        assert setup.arm == arm
        for kind, share in (("speed", 0.35), ("acceleration", 1.0), ("jerk", 0.1)):
            assert getattr(setup.limits, kind) == tuple(share * x for x in getattr(maker, kind))
        assert (setup.limits.low, setup.limits.high) == (maker.low, maker.high)


def test_a_whole_file_is_read(file) -> None:
    setup, maker = make_setup("fr3", file(WHOLE)), limits_of("fr3")
    assert setup.arm == "fr3"
    assert setup.opening == 0.05
    calm = tuple(0.1 * x for x in maker.jerk)  # nothing is said of it, so it is as without a file
    half = tuple(0.5 * x for x in maker.acceleration)
    assert setup.limits == replace(maker, speed=(1.0,) * 7, acceleration=half, jerk=calm)
    assert setup.workspace.low == (0.1, -0.4, 0.05)
    assert setup.workspace.high == (0.8, 0.4, 0.9)
    assert setup.workspace.keep_out == (
        ((0.3, -0.1, 0.0), (0.5, 0.1, 0.2)),
        ((-0.5, -0.5, 0.0), (-0.3, 0.5, 1.0)),
    )
    assert setup.watch == Watch(hold=0.1, stop=0.25, fault=2.5, fading=0.02)


def test_an_empty_file_says_what_no_file_says(file) -> None:
    assert make_setup("panda", file("")) == make_setup("panda")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[limit]\n", r"arm\.toml: limit: there is no such part\. Did you mean limits"),
        ("wach = 3\n", r"arm\.toml: wach: there is no such part\. Did you mean watch"),
        ('arm = "fr3"\n', "is for a fr3: the arm is a panda"),
        ("[limits]\nsped = [1.0]\n", "sped: there is no such limit. Did you mean speed"),
        ("[limits]\nspeed = [9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]\n", r"speed of joint 1 is 9: the maker allows 2\.175"),
        ("[limits.scale]\nspeed = 1.5\n", "can only be tightened"),
        ("[workspace]\nlow = [0.0, 0.0, 2.0]\n", "workspace: box from"),
        ("[workspace]\nkeep_out = [[[0.0, 0.0, 0.0], [0.1, 0.0, 0.1]]]\n", "workspace: box from"),
        ("[workspace]\nlows = [0.0, 0.0, 0.0]\n", "workspace: .*lows"),
        ("[workspace]\nlow = [0.0, 0.0]\n", "workspace: "),
        ("[watch]\nhold = 0.5\nstop = 0.4\n", r"watch: hold 0\.5, stop 0\.4"),
        ("[watch]\nstop = 2.0\n", "watch: hold"),
        ("[watch]\nhold = 0.0\n", "watch: hold"),
        ("[watch]\nhold = nan\n", "watch: hold"),
        ("[watch]\nfading = -0.1\n", r"watch: fading=-0\.1: it lies between 0 and 1"),
        ("[watch]\njump = 4.0\n", "watch: jump"),
        ("[watch]\nleap = 1.5\n", "watch: leap"),
        ("[watch]\ntwist = 2.0\n", "watch: twist"),
        ("[watch]\nastray = 1.5\n", "watch: astray"),
        ("[watch]\nastray = nan\n", "watch: astray"),
        ("[watch]\nhodl = 0.1\n", "watch: .*hodl"),
        ('[watch]\nhold = "soon"\n', "watch: "),
        ("speed = [\n", "it is not TOML"),
    ],
)
def test_a_bad_file_is_refused_with_what_is_bad(file, text, said) -> None:
    with pytest.raises(UserError, match=said):
        make_setup("panda", file(text))


def test_at_most_sixteen_boxes_are_kept_out_of() -> None:
    box = ((0.0, 0.0, 0.0), (0.1, 0.1, 0.1))
    assert len(Workspace(keep_out=(box,) * 16).keep_out) == 16
    with pytest.raises(ValueError, match="17 boxes to keep out of: at most 16"):
        Workspace(keep_out=(box,) * 17)


def test_a_servo_counts_ticks_of_a_millisecond(file) -> None:
    assert settings_of(Setup()).patience == (150, 400, 1000)
    settings = settings_of(make_setup("fr3", file(WHOLE)))
    assert settings.patience == (100, 250, 2500)
    assert settings.fading == 20
    assert settings_of(Setup(watch=Watch(hold=0.0014, stop=0.0026, fault=0.0026))).patience == (1, 3, 3)


def test_a_servo_gets_what_was_set_up(file) -> None:
    setup = make_setup("fr3", file(WHOLE))
    settings = settings_of(setup)
    assert settings.walls == (setup.workspace.low, setup.workspace.high)
    assert settings.keep_out == setup.workspace.keep_out
    assert settings.opening == 0.05
    assert settings.astray == setup.watch.astray
    assert settings.jump == (setup.watch.jump, setup.watch.leap, setup.watch.twist / 2)
    for joint, axis in enumerate(settings.axes):
        limits = setup.limits
        assert limits.low[joint] < axis.low < limits.low[joint] + 1e-3
        assert limits.high[joint] - 1e-3 < axis.high < limits.high[joint]
        for kind, within in (("speed", 0.99), ("acceleration", 0.999)):
            assert within * getattr(limits, kind)[joint] < getattr(axis, kind) < getattr(limits, kind)[joint]
        assert axis.jerk < limits.jerk[joint]
        assert axis.braking.most < axis.acceleration
        assert axis.ending.most <= min(limits.ending[joint], axis.braking.most)


def test_every_arm_may_begin_where_it_is_ready() -> None:
    for arm in ("panda", "fr3"):
        assert Servo(settings_of(make_setup(arm))).start(list(READY))
    low, high = np.array(Workspace().low), np.array(Workspace().high)
    assert ((low < place(list(READY)).tool) & (place(list(READY)).tool < high)).all()


@pytest.mark.parametrize(
    "text",
    [
        "[limits]\nspeed = [nan, 1, 1, 1, 1, 1, 1]",
        "[limits.scale]\nspeed = nan",
        "[limits]\nspeed = 1",
        "[limits]\nscale = 0.5",
        "[limits]\nspeed = 'fast'",
        "[limits.scale]\nscale = 0.5",
        "limits = 3",
        "workspace = 1",
        "watch = 'x'",
        "[watch]\nfault = inf",
        "[workspace]\nlow = [nan, nan, nan]",
        "[workspace]\nlow = [0, 0]",
        "[workspace]\nkeep_out = [[[nan, 0, 0], [0.9, 0.9, 0.9]]]",
        "opening = -1.0",
        "opening = nan",
        "opening = 'x'",
        "stiffness = [1, 2]",
        "lead = 1.0",
    ],
)
def test_what_is_no_setup_is_refused_with_its_file(tmp_path, text):
    file = tmp_path / "arm.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=r"arm\.toml"):
        make_setup("panda", file)
