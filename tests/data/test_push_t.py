"""Push-T's recordings in Diffusion Policy's layout: read as what they are, written so again."""

import math
from dataclasses import replace

import numpy as np
import pytest
import zarr

pytest.importorskip("pymunk")

from w4rl_fast.data.foreign import open_store
from w4rl_fast.data.importers import diffusion_policy
from w4rl_fast.data.importers.diffusion_policy import DiffusionPolicyConfig
from w4rl_fast.data.store import Store, writing
from w4rl_fast.errors import UserError
from w4rl_fast.run import task_of_store
from w4rl_fast.tasks import default_config
from w4rl_fast.tasks.push_t.config import PushTConfig
from w4rl_fast.tasks.push_t.shape import coverage, landmarks_of

CONFIG = DiffusionPolicyConfig(task="push-t")
LENGTHS = (4, 9, 6)
ENDS = np.cumsum(LENGTHS)
GOAL = np.array(PushTConfig().goal)


@pytest.fixture
def states():
    """Disc and block anywhere; the block of the second episode is at its goal once, a full turn on."""
    rng = np.random.default_rng(0)
    states = rng.uniform((50, 50, 100, 100, 0), (450, 450, 400, 400, 2 * math.pi), (ENDS[-1], 5)).astype(np.float32)
    states[7, 2:] = np.add(GOAL, (0.5, 0.0, 2 * math.pi))
    return states


@pytest.fixture
def write(tmp_path, states):
    """Write a replay buffer of these states, or of their first columns."""

    def buffer(width=5):
        rng = np.random.default_rng(1)
        group = zarr.open_group(tmp_path / "push.zarr", mode="w", zarr_format=2)
        images = rng.integers(0, 256, (ENDS[-1], 16, 16, 3)).astype(np.float32)
        actions = rng.integers(10, 500, (ENDS[-1], 2)).astype(np.float32)
        for name, values in {"img": images, "action": actions, "state": states[:, :width]}.items():
            group.create_array(f"data/{name}", data=values)
        group.create_array("meta/episode_ends", data=ENDS)
        return tmp_path / "push.zarr"

    return buffer


def imported(cli, source, out):
    result = cli("data", "import", source, "--format", "diffusion-policy", "--task", "push-t", "--out", out)
    assert result.exit_code == 0, result.output
    return Store(out)


def exported(cli, store, out):
    assert cli("data", "export", store.path, "--format", "diffusion-policy", "--out", out).exit_code == 0
    return out


def test_the_columns_are_read_as_disc_and_block(cli, write, states, tmp_path):
    store = imported(cli, write(), tmp_path / "store")
    assert (store.schema.proprio_dim, store.schema.landmark_dim) == (2, 8)
    assert (store.schema.action_low, store.schema.action_high) == ((0.0, 0.0), (512.0, 512.0))
    for number, rows in enumerate(np.split(states, ENDS[:-1])):
        episode = store.read(number)
        np.testing.assert_array_equal(episode.proprio, rows[:, :2])
        np.testing.assert_array_equal(episode.landmarks, landmarks_of(rows[:, 2:]))
        covered = [coverage(tuple(pose), tuple(GOAL)) >= 0.95 for pose in rows[:, 2:].tolist()]
        assert episode.success.tolist() == covered
        assert episode.info.succeeded == any(covered) == (number == 1)


def test_the_store_knows_how_the_task_was_set_up(cli, write, tmp_path):
    store = imported(cli, write(), tmp_path / "store")
    expected = replace(default_config("push-t", image_size=16), horizon=max(LENGTHS) - 1)
    assert task_of_store(store, None) == expected
    assert expected.push_t.control == "absolute"
    assert len(imported(cli, write(), tmp_path / "store")) == 3, "twice is once"


def test_in_place_it_reads_alike(cli, write, tmp_path, same_episode):
    store, there = imported(cli, write(), tmp_path / "store"), open_store(write(), task="push-t")
    assert (there.schema, there.infos) == (store.schema, store.infos)
    assert all(same_episode(there.read(number), store.read(number)) for number in range(3))
    assert open_store(write()).schema.proprio_dim == 5, "without the task's name the columns mean nothing"


def test_import_export_and_import_is_the_same(cli, write, states, tmp_path):
    first = imported(cli, write(), tmp_path / "first")
    path = exported(cli, first, tmp_path / "out.zarr")
    group, rows = zarr.open_group(path, mode="r"), np.delete(np.arange(ENDS[-1]), ENDS - 1)
    np.testing.assert_allclose(group["data/state"][:, :4], states[rows, :4], rtol=0, atol=1e-4)
    turned = group["data/state"][:, 4] - states[rows, 4]
    np.testing.assert_allclose((turned + 1) % (2 * math.pi) - 1, 0, atol=1e-5)
    source = zarr.open_group(tmp_path / "push.zarr", mode="r")
    np.testing.assert_allclose(group["data/action"][:], source["data/action"][:][rows], rtol=0, atol=1e-4)
    second = imported(cli, path, tmp_path / "second")
    assert second.schema == first.schema
    for number in range(3):
        one, other = first.read(number), second.read(number)
        np.testing.assert_array_equal(other.frames, one.frames[:-1])
        np.testing.assert_array_equal(other.proprio, one.proprio[:-1])
        np.testing.assert_array_equal(other.success, one.success[:-1])
        np.testing.assert_allclose(other.actions[:-1], one.actions[:-2], rtol=0, atol=2e-7)
        np.testing.assert_allclose(other.landmarks, one.landmarks[:-1], rtol=0, atol=4e-7)


def test_relative_actions_are_exported_as_they_are(make_episode, tmp_path):
    """They are ways from where the disc is, and the layout has no word for that."""
    from w4rl_fast.data.record import schema_of
    from w4rl_fast.tasks import make_task

    config = replace(default_config("push-t", image_size=8), push_t=PushTConfig(control="relative", reach=50.0))
    schema, episode = schema_of(make_task(config)), make_episode(3, task="push-t")
    landmarks = landmarks_of(np.tile(GOAL, (len(episode), 1)))
    episode = replace(episode, proprio=episode.proprio[:, :2], landmarks=landmarks)
    diffusion_policy.write_episodes(tmp_path / "out.zarr", schema, [episode])
    group = zarr.open_group(tmp_path / "out.zarr", mode="r")
    np.testing.assert_allclose(group["data/action"][:], 50 * episode.actions[:-1], atol=1e-5)
    np.testing.assert_allclose(group["data/state"][:, 2:], np.tile(GOAL, (len(episode) - 1, 1)), atol=1e-4)


def test_a_state_of_another_width_is_refused_unless_its_columns_are_chosen(write, states):
    path = write(4)
    for call in (diffusion_policy.read_episodes, diffusion_policy.task_settings):
        with pytest.raises(UserError, match=r"4 columns.*angle of the block.*state_dim"):
            call(path, CONFIG)
    chosen = replace(CONFIG, state_dim=2)
    schema, episodes = diffusion_policy.read_episodes(path, chosen)
    assert (schema.proprio_dim, schema.landmark_dim) == (2, 0)
    np.testing.assert_array_equal(next(episodes).proprio, states[: LENGTHS[0], :2])
    assert diffusion_policy.task_settings(path, chosen) == {}


def test_a_block_that_is_nowhere_is_refused(write, states):
    states[5, 3] = np.nan
    _, episodes = diffusion_policy.read_episodes(write(), CONFIG)
    next(episodes)
    with pytest.raises(UserError, match="landmarks are finite"):
        next(episodes)


def test_a_store_of_other_settings_takes_no_recordings(cli, write, tmp_path):
    store = imported(cli, write(), tmp_path / "store")
    settings = {"push-t": {**store.index.tasks["push-t"], "action_repeat": 5}}
    with pytest.raises(UserError, match="action_repeat=10"), writing(store.path, store.schema, settings):
        pass
