"""`w4rl control` on a tiny run whose policy nobody has trained."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco")

from tests.native import needs_native
from tests.weights import awake
from w4rl_fast.data.store import Store
from w4rl_fast.policy import GaussianPolicy, PolicyConfig, policy_digest, save_policy
from w4rl_fast.run import keep_task
from w4rl_fast.tasks import default_config

NAME = "franka/push-button"
TASK = replace(default_config(NAME, image_size=16), horizon=6)
VIRTUAL = ("--arm", "virtual", "--json")
LOOSE = "[limits]\nspeed = [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 99.0]\n"


def write_run(folder, task=TASK):
    torch.manual_seed(0)
    size = task.image_size
    policy = awake(GaussianPolicy(PolicyConfig(image_size=size, action_dim=4, proprio_dim=7, history=2, widths=(8, 8))))
    keep_task(folder, task)
    save_policy(folder / "policy", policy)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture
def run(made, tmp_path):
    """A copy that may be changed."""
    return shutil.copytree(made, tmp_path / "run")


def told(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


# ---- an episode


def test_a_virtual_arm_is_driven_and_what_happened_is_told(cli, run) -> None:
    said = told(cli("control", run, *VIRTUAL))
    (episode,) = said["episodes"]
    assert (said["run"], said["arm"]) == (str(run), "virtual")
    assert (episode["seed"], episode["ended"], episode["turns"]) == (0, "horizon", TASK.horizon)
    assert (episode["overruns"], episode["refused"], episode["error"]) == (0, 0, None)
    assert episode["delay_ms"] == {"p50": 0.0, "p99": 0.0}
    assert isinstance(episode["succeeded"], bool)
    assert 0 < episode["tracking_error_mrad"] < 100
    assert episode["tick_us"] == episode["step_us"] == {}
    assert episode["recorded"]


def test_what_is_said_in_words_is_what_is_told(cli, run) -> None:
    result = cli("control", run, "--arm", "virtual", "--turns", 3, "--no-compensation")
    assert result.exit_code == 0, result.output
    assert "seed 0: did not succeed; 3 turns" in result.stdout
    assert "from seeing to moving 0 ms" in result.stdout
    assert f"recorded in {run / 'robot'}" in result.stdout


def test_two_episodes_are_recorded_in_a_store_that_is_sound(cli, run) -> None:
    said = told(cli("control", run, *VIRTUAL, "--episodes", 2, "--seed", 5))
    assert [episode["seed"] for episode in said["episodes"]] == [5, 6]
    checked = cli("data", "check", run / "robot")
    assert checked.exit_code == 0, checked.output
    assert "2 episodes" in checked.stdout
    store = Store(run / "robot")
    assert sorted(store.keys) == sorted(episode["recorded"] for episode in said["episodes"])
    assert store.schema.proprio_dim == 7 and store.schema.image_size == TASK.image_size
    for number, info in enumerate(store.infos):
        episode = store.read(number)
        assert (info.task, info.source, info.origin.split("-")[0]) == (NAME, "policy", policy_digest(run))
        assert len(episode) == TASK.horizon + 1
        assert episode.actions[:-1].any() and not episode.actions[-1].any()
        assert len({frame.tobytes() for frame in episode.frames}) > 1
    assert list((run / "robot" / "recording").iterdir()) == []


def test_the_same_seed_is_the_same_episode(cli, run, tmp_path, same_episode) -> None:
    stores = [tmp_path / name for name in ("one", "other")]
    for store in stores:
        told(cli("control", run, *VIRTUAL, "--record", store))
    assert same_episode(*(Store(store).read(0) for store in stores))


def test_what_was_recorded_is_what_the_policy_did(cli, run) -> None:
    """Each action is the policy's on the frames and the proprioception beside it."""
    from w4rl_fast.policy import load_policy
    from w4rl_fast.robot.decider import Decider

    told(cli("control", run, *VIRTUAL))
    episode, policy = Store(run / "robot").read(0), load_policy(run).eval()
    decider = Decider(policy, policy.config.history)
    for row in range(TASK.horizon):
        action = decider.decide(episode.frames[row], episode.proprio[row])[0]
        np.testing.assert_allclose(episode.actions[row], action, atol=1e-5)


def test_nothing_moves_and_nothing_is_recorded_on_a_dry_run(cli, run, monkeypatch) -> None:
    from w4rl_fast.robot import simulated

    arms = []
    real = simulated.SimArm.__init__

    def note(arm, *args, **options):
        real(arm, *args, **options)
        arms.append((arm, arm.scene.joints))

    monkeypatch.setattr(simulated.SimArm, "__init__", note)
    (episode,) = told(cli("control", run, *VIRTUAL, "--dry-run"))["episodes"]
    assert (episode["turns"], episode["recorded"], episode["delay_ms"]) == (TASK.horizon, None, {})
    ((arm, before),) = arms
    assert arm.servo.tick > 500
    np.testing.assert_array_equal(arm.scene.joints, before)
    assert not (run / "robot").exists()
    assert "nothing moved (--dry-run)" in cli("control", run, "--arm", "virtual", "--dry-run").stdout


def test_nothing_is_recorded_where_nothing_is_to_be(cli, run) -> None:
    (episode,) = told(cli("control", run, *VIRTUAL, "--no-record"))["episodes"]
    assert episode["recorded"] is None
    assert not (run / "robot").exists()


@needs_native
def test_a_scene_on_the_wall_clock_is_driven_and_its_ticks_are_told(cli, run) -> None:
    (episode,) = told(cli("control", run, "--arm", "sim", "--json", "--turns", 4, "--allow-non-realtime"))["episodes"]
    assert (episode["ended"], episode["turns"]) == ("horizon", 4)
    assert set(episode["tick_us"]) == set(episode["step_us"]) == {"p50", "p90", "p99", "p99.9", "p99.99", "most"}
    assert 900 < episode["tick_us"]["p50"] < 1100
    assert episode["recorded"]


# ---- how it ends


def raising(error, at):
    """A decision that fails in some turn; those before are the policy's."""
    from w4rl_fast.robot.decider import Decider

    real, calls = Decider.decide, []

    def decide(self, *seen):
        calls.append(1)
        if len(calls) == at + 21:  # after those that its time is taken of
            raise error
        return real(self, *seen)

    return decide


def test_ctrl_c_stops_and_keeps_the_episode(cli, run, monkeypatch) -> None:
    monkeypatch.setattr("w4rl_fast.robot.decider.Decider.decide", raising(KeyboardInterrupt(), 3))
    result = cli("control", run, *VIRTUAL, "--episodes", 3)
    assert result.exit_code == 130
    (episode,) = json.loads(result.stdout)["episodes"]
    assert (episode["ended"], episode["turns"]) == ("interrupted", 3)
    assert Store(run / "robot").keys == [episode["recorded"]]
    assert Store(run / "robot").lengths == [4]


def test_an_engine_that_fails_stops_it_keeps_the_episode_and_is_told(cli, run, monkeypatch) -> None:
    monkeypatch.setattr("w4rl_fast.robot.decider.Decider.decide", raising(ValueError("an engine broke"), 2))
    result = cli("control", run, *VIRTUAL, "--episodes", 3)
    assert isinstance(result.exception, ValueError), "a mistake of ours keeps its traceback"
    (episode,) = json.loads(result.stdout)["episodes"]
    assert (episode["ended"], episode["turns"], episode["error"]) == ("error", 2, "an engine broke")
    assert Store(run / "robot").lengths == [3]


def test_a_disk_that_is_full_is_told_in_one_line_and_the_rest_is_found_by_the_next_call(cli, run, monkeypatch) -> None:
    from w4rl_fast.robot import recording

    real, calls = recording.Journal._append, []

    def append(journal, payload):
        calls.append(1)
        if len(calls) > 4:
            with recording.disk_errors(journal.path):
                raise OSError(28, "No space left on device")
        real(journal, payload)

    monkeypatch.setattr(recording.Journal, "_append", append)
    result = cli("control", run, *VIRTUAL)
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr and "Traceback" not in result.output
    monkeypatch.undo()
    told(cli("control", run, *VIRTUAL, "--seed", 9))
    store = Store(run / "robot")
    assert sorted(store.lengths) == [3, TASK.horizon + 1]


def test_an_episode_that_a_crash_cut_off_is_put_into_the_store_by_the_next_call(cli, run, python_environment) -> None:
    code = """
import os, signal, sys
from w4rl_fast.robot import recording
real, calls = recording.Journal.add, []
def add(*rows):
    real(*rows)
    calls.append(1)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
recording.Journal.add = add
from w4rl_fast.cli import main
main(["control", sys.argv[1], "--arm", "virtual"])
"""
    killed = subprocess.run([sys.executable, "-c", code, str(run)], env=python_environment, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    told(cli("control", run, *VIRTUAL, "--seed", 1))
    store = Store(run / "robot")
    assert [(info.seed, length) for info, length in zip(store.infos, store.lengths, strict=True)] == [
        (0, 4),
        (1, TASK.horizon + 1),
    ]


# ---- what is refused, in one line, before anything moves


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rate", "20"], ["--rate 20", "10 times a second", "action_repeat=25"]),
        (["--policy", "refined"], ["policy 'refined'", "there is none", "cloned"]),
        (["--arm", "ur5"], ["arm='ur5'", "fci://HOST"]),
        (["--arm", "fci://"], ["fci://HOST"]),
        (["--episodes", "0"], ["episodes=0"]),
        (["--limits", "nowhere.toml"], ["nowhere.toml", "no such file"]),
        (["--limits", "loose.toml"], ["loose.toml", "speed of joint 7 is 99", "maker allows"]),
        (["--arm", "fci://127.0.0.9"], ["camera", "--camera 0"]),
        (["--arm", "fci://127.0.0.9", "--camera", "nowhere.avi"], ["nowhere.avi", "cannot be opened"]),
        (["--arm", "fci://127.0.0.9", "--camera", "scene:w4rl-none"], ["w4rl-none", "none of that name"]),
    ],
)
def test_what_does_not_fit_is_refused(refusal, run, tmp_path, monkeypatch, arguments, words) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loose.toml").write_text(LOOSE)
    if "nowhere.avi" in arguments:
        pytest.importorskip("cv2", reason="pip install opencv-python-headless")
    said = refusal("control", run, "--arm", "virtual", *arguments)
    assert [word for word in words if word not in said] == []
    assert not (run / "robot").exists() or len(Store(run / "robot")) == 0


def test_a_run_about_another_robot_is_refused(refusal, tmp_path) -> None:
    other = write_run(tmp_path / "other", replace(TASK, name="metaworld/reach-v3"))
    said = refusal("control", other, "--arm", "virtual")
    assert "metaworld/reach-v3" in said and "Franka" in said
    assert "task.json" in refusal("control", tmp_path / "nowhere")


def test_the_same_episode_twice_is_refused(cli, refusal, run) -> None:
    told(cli("control", run, *VIRTUAL))
    assert "the store has it already" in refusal("control", run, "--arm", "virtual")
    assert len(Store(run / "robot")) == 1


def test_a_policy_that_is_too_slow_is_refused(refusal, run, monkeypatch) -> None:
    monkeypatch.setattr("w4rl_fast.robot.decider.Decider.latency", lambda *_: 0.09)
    said = refusal("control", run, "--arm", "virtual")
    assert "takes 90 ms" in said and "w4rl export" in said


NOBODY = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
os.sched_setscheduler = lambda *_: (_ for _ in ()).throw(PermissionError(1, "Operation not permitted"))
sys.argv = ["serve"]
from w4rl_fast.robot.serve import main
sys.exit(main())
"""


@needs_native
def test_without_real_time_nothing_is_moved_unless_somebody_says_so(refusal, cli, run, tmp_path, monkeypatch) -> None:
    """The servo's process runs where the system grants no priority."""
    python = tmp_path / "python"
    (tmp_path / "nobody.py").write_text(NOBODY)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path / "nobody.py"}"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    said = refusal("control", run, "--arm", "sim")
    assert "real-time priority" in said and "--allow-non-realtime" in said
    (episode,) = told(cli("control", run, "--arm", "sim", "--json", "--turns", 2, "--allow-non-realtime"))["episodes"]
    assert episode["turns"] == 2


# ---- a robot


@contextmanager
def robot(*arguments):
    """The checking server with a scene that is shown; its name."""
    pytest.importorskip("pylibfranka", reason="pip install pylibfranka==0.21.3")
    pytest.importorskip("franky_sim", reason="pip install franky-sim==1.0.4")
    from tests.robot.fci.process import running

    share = f"w4rl-test-control-{os.getpid()}"
    scene = ("--plant", "scene", "--scene", NAME, "--share", share, "--gripper")
    with running("--wait-ms", 100, *scene, *arguments) as server:
        yield server, ("--arm", f"fci://{server.host}", "--camera", f"scene:{share}", "--allow-non-realtime")


@needs_native
def test_a_robot_is_driven_and_recorded_without_a_reflex(cli, run) -> None:
    with robot() as (server, where):
        (episode,) = told(cli("control", run, *where, "--json", "--turns", 4))["episodes"]
        summary = server.stop()
    assert (episode["ended"], episode["turns"], episode["refused"]) == ("horizon", 4, 0)
    assert (summary["reflexes"], summary["motions"]) == ([], 1)
    assert max(summary["velocity"], summary["acceleration"], summary["jerk"]) < 1
    assert Store(run / "robot").lengths == [5]


@needs_native
def test_an_episode_that_a_reflex_ended_is_told_and_kept(cli, run, monkeypatch) -> None:
    from w4rl_fast.robot.decider import Decider

    real, calls = Decider.decide, []
    with robot() as (server, where):

        def decide(self, *seen):
            calls.append(1)
            if len(calls) == 24:  # the fourth turn, after those that its time is taken of
                server.inject(drop_commands=100)
            return real(self, *seen)

        monkeypatch.setattr(Decider, "decide", decide)
        result = cli("control", run, *where, "--json", "--episodes", 3)
        summary = server.stop()
    assert len(summary["reflexes"]) == 1
    assert result.exit_code == 2
    assert "communication_constraints_violation" in result.stderr and "--recover" in result.stderr
    (episode,) = json.loads(result.stdout)["episodes"]
    assert episode["ended"] == "lost" and episode["turns"] >= 4
    assert Store(run / "robot").lengths == [episode["turns"] + 1]


@needs_native
def test_what_is_refused_is_refused_before_a_robot_moves(cli, refusal, run, tmp_path) -> None:
    (tmp_path / "loose.toml").write_text(LOOSE)
    with robot() as (server, where):
        for wrong in (["--rate", 20], ["--policy", "refined"], ["--limits", tmp_path / "loose.toml"]):
            refusal("control", run, *where, *wrong)
        refusal("control", run, *where[:2], "--allow-non-realtime")
        assert told(cli("control", run, *where, "--dry-run", "--json", "--turns", 2))["episodes"][0]["turns"] == 2
        assert server.stop()["motions"] == 0


@needs_native
@pytest.mark.parametrize("wrong", ["camera", pytest.param("policy", marks=pytest.mark.slow), "seed"])
def test_what_is_too_slow_or_there_already_is_refused_before_a_robot_moves(
    cli, refusal, run, monkeypatch, wrong
) -> None:
    if wrong == "camera":
        monkeypatch.setattr("w4rl_fast.robot.camera.DrawnCamera._timed", lambda _: 0.5)
    elif wrong == "policy":
        monkeypatch.setattr("w4rl_fast.robot.decider.Decider.latency", lambda *_: 0.09)
    else:
        told(cli("control", run, *VIRTUAL))
    with robot() as (server, where):
        refusal("control", run, *where)
        assert server.stop()["velocity"] == 0


def test_an_episode_that_a_fault_ended_is_a_failure_that_says_what_was_refused(cli, run, tmp_path) -> None:
    strict = tmp_path / "strict.toml"
    strict.write_text("[watch]\nhold = 0.02\nstop = 0.03\nfault = 0.05\n")  # a turn takes a tenth of a second
    result = cli("control", run, "--arm", "virtual", "--limits", strict, "--episodes", 3)
    assert result.exit_code == 2
    assert "ended by fault: stale" in result.output
    assert "then start again" in result.output
    assert len(Store(run / "robot")) == 1


def test_what_the_servo_alone_refuses_is_counted(cli, run, tmp_path) -> None:
    strict = tmp_path / "strict.toml"
    strict.write_text("[watch]\nleap = 0.0001\nhold = 2.0\nstop = 2.0\nfault = 2.0\n")
    (episode,) = told(cli("control", run, *VIRTUAL, "--limits", strict))["episodes"]
    assert episode["refused"] == episode["turns"] == TASK.horizon
