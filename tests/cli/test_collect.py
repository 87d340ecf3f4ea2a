import json
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("metaworld")

from w4rl_fast.data.collect import Worker
from w4rl_fast.data.store import Store
from w4rl_fast.policy import GaussianPolicy, PolicyConfig, policy_digest, save_policy
from w4rl_fast.policy.actor import PolicyActor
from w4rl_fast.tasks import default_config, make_task

NAME = "metaworld/reach-v3"
TINY = ["--size", "8", "--set", "horizon=3", "--set", "action_repeat=2"]
TASK = replace(default_config(NAME, image_size=8), horizon=3, action_repeat=2)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs whose policies have random weights of their own."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(("one", "other")):
        torch.manual_seed(seed)
        config = PolicyConfig(image_size=8, action_dim=4, proprio_dim=7, history=2, widths=(8, 8), hidden=16)
        save_policy(folder / name / "policy", GaussianPolicy(config))
    return folder


@pytest.fixture
def _in_this_process(monkeypatch):
    """Record here instead of in processes that have to start first."""

    def run(jobs, tasks, config, actor, out):
        yield from map(Worker(tasks, config, actor, out / "pending").run, jobs)

    monkeypatch.setattr("w4rl_fast.data.collect.run", run)


@pytest.fixture(scope="module")
def collected(tmp_path_factory, cli):
    """A store of two tiny experts."""
    path = tmp_path_factory.mktemp("collected") / "store"
    result = cli("collect", NAME, "--expert", 2, *TINY, "--out", path, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["store"], said["before"], said["added"], said["rows"]) == (str(path), 0, 2, 8)
    return path


@pytest.mark.usefixtures("_in_this_process")
def test_more_of_a_source_adds_what_is_missing(cli, collected, tmp_path, same_episode):
    import shutil

    shutil.copytree(collected, tmp_path / "store")
    result = cli("collect", NAME, "--expert", 4, "--random", 1, *TINY, "--out", tmp_path / "store")
    assert result.exit_code == 0, result.output
    assert "3 episodes added (12 frames), 2 were there" in result.stdout
    before, after = Store(collected), Store(tmp_path / "store")
    assert set(before.keys) < set(after.keys)
    assert sorted(info.source for info in after.infos) == ["expert"] * 4 + ["random"]
    for number, key in enumerate(before.keys):
        assert same_episode(before.read(number), after.read(after.keys.index(key)))
    assert after.index.tasks[NAME]["horizon"] == 3


def test_policies_are_rolled_out_under_their_own_names(cli, runs, tmp_path, request):
    """Each episode says whose weights, how much noise and bias; without these it is what the policy does by itself."""
    path = tmp_path / "store"
    origins = {}
    for run, noise in (("one", 0), ("other", 0), ("one", 0.3)):
        arguments = ["--policy", runs / run, "--rollouts", 2, "--noise", noise, "--bias", noise / 3]
        result = cli("collect", NAME, *arguments, *TINY, "--out", path)
        assert result.exit_code == 0, result.output
        assert "2 episodes added" in result.stdout
        request.getfixturevalue("_in_this_process")  # the first in a worker, the others here
        origins[f"{policy_digest(runs / run)} noise={noise:g} bias={noise / 3:g}"] = run
    store = Store(path)
    assert {info.source for info in store.infos} == {"policy"}
    assert {info.origin for info in store.infos} == set(origins)
    assert len(store) == 2 * len(origins), "same seeds, other origins: none replaces another"
    assert len({info.seed for info in store.infos}) == 2
    assert len({store.read(number).actions.tobytes() for number in range(len(store))}) == len(store)
    for number, info in enumerate(store.infos):
        if "noise=0 " in info.origin:
            check_rollout(store.read(number), runs / origins[info.origin])


def check_rollout(episode, run):
    """The task played by the policy, here and now."""
    from w4rl_fast.policy import load_policy

    task = make_task(TASK)
    actor = PolicyActor(load_policy(run))
    observation = task.reset(episode.info.seed)
    actor.begin(task, np.random.default_rng(0))
    for row in range(TASK.horizon):
        np.testing.assert_array_equal(observation.frame, episode.frames[row])
        action = actor.act(observation)
        np.testing.assert_allclose(action, episode.actions[row], atol=1e-6)
        observation = task.step(episode.actions[row])


@pytest.mark.usefixtures("_in_this_process")
def test_a_file_names_the_tasks(cli, tmp_path):
    (tmp_path / "tasks.txt").write_text(f"# two tasks\n{NAME}\n\nmetaworld/push-v3  # the second\n")
    result = cli("collect", "--tasks-file", tmp_path / "tasks.txt", "--random", 1, *TINY, "--out", tmp_path / "store")
    assert result.exit_code == 0, result.output
    assert [info.task for info in Store(tmp_path / "store").infos] == ["metaworld/push-v3", NAME]


# ---- bad input: one line, exit code 2, nothing made

ONE = ["--random", "1", *TINY]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([NAME, *TINY], ["0 episodes", "--expert N"]),
        ([NAME, *TINY, "--expert", "-3"], ["expert=-3", "zero or more"]),
        ([NAME, *ONE, "--workers", "0"], ["workers=0", "--workers 1"]),
        ([NAME, *ONE, "--noise", "-1"], ["noise=-1"]),
        (["metaworld/raech-v3", *ONE], ["metaworld/raech-v3", "metaworld/reach-v3"]),
        (["reach-v3", *ONE], ["'reach-v3'", "metaworld/reach-v3"]),
        (ONE, ["give one of the two"]),
        ([NAME, *ONE, "--tasks-file", "x"], ["give one of the two"]),
        ([*ONE, "--tasks-file", "nowhere.txt"], ["nowhere.txt"]),
        ([NAME, *ONE, "--seed", "1024"], ["seed 1024", "0..1023"]),
        ([NAME, *ONE, "--seed", "-1"], ["seed -1"]),
        ([NAME, *ONE, "--rollouts", "3"], ["rollouts 3", "--policy"]),
        ([NAME, *ONE, "--policy", "run"], ["rollouts 0", "--policy"]),
        ([NAME, *ONE, "--policy", "run", "--rollouts", "1"], ["run", "there is no policy"]),
        ([NAME, "--random", "1", "--size", "4"], ["image_size=4", "8 and 1024"]),
        ([NAME, *ONE, "--set", "horizn=3"], ["horizn", "horizon"]),
        ([NAME, *ONE, "--set", "horizon=three"], ["horizon", "three"]),
        ([NAME, *ONE, "--set", "horizon=400"], ["horizon 400", "at most 500"]),
        ([NAME, *ONE, "--set", "camera.distance=-1"], ["camera", "distance"]),
    ],
)
def test_bad_input_is_refused_in_one_line(refusal, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    said = refusal("collect", *arguments, "--out", tmp_path / "store")
    assert [word for word in words if word not in said] == []
    store = tmp_path / "store"
    assert not store.exists() or len(Store(store)) == 0


@pytest.mark.parametrize("content", ["", "# nothing\n\n", f"{NAME}\nmetaworld/raech-v3\n"])
def test_a_file_that_names_no_task_or_a_wrong_one_is_refused(refusal, tmp_path, content):
    (tmp_path / "tasks.txt").write_text(content)
    said = refusal("collect", "--tasks-file", tmp_path / "tasks.txt", *ONE, "--out", tmp_path / "store")
    assert "names no task" in said or "metaworld/raech-v3" in said
    assert not (tmp_path / "store").exists()


def test_a_file_that_is_no_text_is_refused(refusal, tmp_path):
    (tmp_path / "tasks.txt").write_bytes(b"\xff\xfe\x00")
    assert "tasks.txt" in refusal("collect", "--tasks-file", tmp_path / "tasks.txt", *ONE, "--out", tmp_path / "store")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (["--size", "16", *TINY[2:]], ["8x8 frames", "16x16", "another --out"]),
        ([*TINY, "--set", "horizon=4"], [NAME, "horizon=3", "another --out"]),
        ([*TINY, "--set", "camera.azimuth=10"], [NAME, "camera"]),
    ],
)
def test_a_store_of_other_settings_is_refused_and_left_alone(refusal, collected, other, words):
    before = {path: path.stat().st_mtime_ns for path in collected.rglob("*") if path.name != "lock"}
    said = refusal("collect", NAME, "--random", 1, *other, "--out", collected)
    assert [word for word in words if word not in said] == []
    assert {path: path.stat().st_mtime_ns for path in collected.rglob("*") if path.name != "lock"} == before


def test_an_out_that_cannot_be_written_is_refused(refusal, tmp_path):
    (tmp_path / "file").write_text("precious")
    for out in (tmp_path / "file", tmp_path / "file" / "store", "/proc/store"):
        assert str(out) in refusal("collect", NAME, *ONE, "--out", out)
    assert (tmp_path / "file").read_text() == "precious"


def test_an_out_that_holds_something_else_is_refused(refusal, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    assert "not a store" in refusal("collect", NAME, *ONE, "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_damaged_store_is_refused(refusal, collected, tmp_path):
    import shutil

    shutil.copytree(collected, tmp_path / "store")
    file = tmp_path / "store" / "store.json"
    file.write_bytes(file.read_bytes().replace(b"8", b"9", 1))
    assert "store.json" in refusal("collect", NAME, *ONE, "--out", tmp_path / "store")


@pytest.mark.usefixtures("_in_this_process")
def test_a_policy_that_does_not_fit_the_task_is_refused(cli, runs, tmp_path):
    arguments = ["--policy", runs / "one", "--rollouts", 1, "--size", 16, *TINY[2:]]
    result = cli("collect", NAME, *arguments, "--out", tmp_path / "store")
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "sees 8x8" in line
    assert "--size 8" in line
    assert "Traceback" not in result.output
