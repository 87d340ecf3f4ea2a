"""Recordings that the simulator is asked to repeat."""

import json
from dataclasses import replace

import numpy as np
import pytest

from w4rl_fast.config import to_json_dict
from w4rl_fast.data.actors import Expert, Random
from w4rl_fast.data.record import Job, record_episode, schema_of
from w4rl_fast.data.store import Store, writing
from w4rl_fast.errors import UserError
from w4rl_fast.tasks import default_config, make_task
from w4rl_fast.truth.replayed import replay_episode, replay_store, summarise

PUSH_T = replace(default_config("push-t", image_size=16), horizon=30)
REACH = replace(default_config("metaworld/reach-v3", image_size=8), horizon=12, action_repeat=1)
WORST = 1e-3
"""Units, or degrees: of what is stored in 32 bits."""


@pytest.fixture(scope="module")
def record():
    """Episodes of the expert, and one of random motion."""

    def episodes(config, count):
        task = make_task(config)
        for seed in range(count):
            yield record_episode(task, Expert(), Job(task=config.name, source="expert", seed=seed))
        yield record_episode(task, Random(), Job(task=config.name, source="random", seed=1 << 20))
        task.close()

    return episodes


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, record):
    pytest.importorskip("pymunk")
    return keep(tmp_path_factory.mktemp("replayed") / "store", PUSH_T, record(PUSH_T, 4))


def keep(path, config, episodes):
    with writing(path, schema_of(make_task(config)), {config.name: to_json_dict(config)}) as writer:
        for episode in episodes:
            writer.add(episode)
    return Store(path)


def worst(astray):
    return {error.of: max(each.p95 for each in astray.errors if each.of == error.of) for error in astray.errors}


def test_a_recording_of_our_own_is_repeated(recorded):
    astray = replay_store(recorded, range(5))
    assert (astray.episodes, astray.agreed) == (5, 5)
    assert max(worst(astray).values()) < WORST
    assert [(error.of, error.step) for error in astray.errors] == [
        (of, step) for of in ("disc", "block", "angle") for step in (1, 10, None)
    ], "no episode has fifty actions"


def test_one_altered_action_is_seen(recorded):
    episode = next(recorded.read(n) for n in range(4) if np.ptp(recorded.read(n).landmarks, axis=0).max() > 0.05)
    touched = int(np.flatnonzero((np.diff(episode.landmarks, axis=0) != 0).any(1))[0])
    altered = episode.actions.copy()
    altered[touched] = -altered[touched]
    course = replay_episode(make_task(PUSH_T), replace(episode, actions=altered))
    for name in ("disc", "block", "angle"):
        assert course.errors[name][: touched + 1].max() < WORST
        assert course.errors[name][touched + 1 :].max() > 0.1
    assert course.errors["disc"][touched + 1] > 1.0


def test_a_verdict_that_differs_is_counted(recorded):
    episode = recorded.read(0)
    other = replace(episode, info=replace(episode.info, succeeded=not episode.info.succeeded))
    task = make_task(PUSH_T)
    assert summarise([replay_episode(task, each) for each in (episode, other)]).agreed == 1


def test_angles_are_compared_the_short_way_round(recorded):
    from w4rl_fast.tasks.push_t.shape import landmarks_of

    episode, task = recorded.read(0), make_task(PUSH_T)
    task.reset(episode.info.seed)
    x, y, angle = task.pose
    for turn in (0.1, 2 * np.pi - 0.1):
        landmarks = episode.landmarks.copy()
        landmarks[0] = landmarks_of((x, y, angle + turn))
        error = replay_episode(task, replace(episode, landmarks=landmarks)).errors["angle"]
        assert error[0] == pytest.approx(np.degrees(0.1), abs=1e-3) and error[1] < WORST


def test_what_was_exported_and_imported_is_repeated(cli, recorded, tmp_path):
    """From disc and block of its first row: nobody knows its seed."""
    assert (
        cli("data", "export", recorded.path, "--format", "diffusion-policy", "--out", tmp_path / "x.zarr").exit_code
        == 0
    )
    arguments = ["--format", "diffusion-policy", "--task", "push-t", "--out", tmp_path / "again"]
    assert cli("data", "import", tmp_path / "x.zarr", *arguments).exit_code == 0
    said = json.loads(cli("data", "replay", tmp_path / "again", "--json").stdout)
    assert said["episodes"] == said["agreed"] == 5
    assert max(error["p95"] for error in said["errors"]) < WORST
    shown = cli("data", "replay", tmp_path / "again", "--episodes", 2).stdout
    assert "2 of 2 replayed episodes" in shown
    assert "block at step 10" in shown and "angle at last step" in shown and "degrees" in shown


def test_metaworld_is_judged_by_its_proprioception(record, tmp_path):
    pytest.importorskip("metaworld")
    store = keep(tmp_path / "store", REACH, record(REACH, 1))
    astray = replay_store(store, range(2))
    assert worst(astray) == {"proprioception": 0.0} and astray.agreed == 2
    episode = store.read(0)
    course = replay_episode(make_task(REACH), replace(episode, actions=-episode.actions))
    assert course.errors["proprioception"][0] == 0 < 0.01 < course.errors["proprioception"][-1]


def test_what_no_simulator_can_repeat_is_refused(refusal, recorded, tmp_path):
    pytest.importorskip("metaworld")
    episode = recorded.read(0)
    foreign = replace(episode, info=replace(episode.info, source="imported"), landmarks=None)
    with pytest.raises(UserError, match="where it started"):
        replay_episode(make_task(REACH), foreign)
    with writing(tmp_path / "store", recorded.schema, {"push-t": {}}) as writer:
        writer.add(episode)
    assert "no settings" in refusal("data", "replay", tmp_path / "store")
    assert "store.json" in refusal("data", "replay", tmp_path)
