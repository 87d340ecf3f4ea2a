import sys
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
import zarr
from numcodecs import Blosc

from w4rl_fast.data.episode import Episode, EpisodeInfo, Schema
from w4rl_fast.data.importers import diffusion_policy, robomimic
from w4rl_fast.data.importers.diffusion_policy import DiffusionPolicyConfig
from w4rl_fast.data.importers.robomimic import RobomimicConfig
from w4rl_fast.errors import MissingExtra, UserError

h5py = pytest.importorskip("h5py")

LENGTHS = (4, 7, 2)
ROWS = sum(LENGTHS)
ENDS = np.cumsum(LENGTHS)
SPANS = list(zip(ENDS - LENGTHS, ENDS, strict=True))
PUSH_T = DiffusionPolicyConfig(task="push_t")
ROBOT = RobomimicConfig()


def rows():
    """The arrays of a replay buffer as Push-T has them: float images, actions in pixels."""
    rng = np.random.default_rng(0)
    return {
        "data/img": rng.integers(0, 256, (ROWS, 8, 8, 3)).astype(np.float32),
        "data/action": rng.uniform(0, 512, (ROWS, 2)).astype(np.float32),
        "data/state": rng.uniform(0, 512, (ROWS, 5)).astype(np.float32),
        "data/keypoint": rng.uniform(0, 512, (ROWS, 9, 2)).astype(np.float32),
        "data/n_contacts": np.zeros((ROWS, 1), np.float32),
        "meta/episode_ends": ENDS.astype(np.int64),
    }


def write_buffer(path, arrays):
    group = zarr.open_group(path, mode="w", zarr_format=2)
    codec = Blosc("zstd", clevel=5, shuffle=Blosc.NOSHUFFLE)
    for name, values in arrays.items():
        array = group.create_array(
            name, shape=values.shape, chunks=(3, *values.shape[1:]), dtype=values.dtype, compressors=codec
        )
        array[...] = values
    return path


def episodes(count=3, size=8, actions=3, proprio=4):
    """Episodes of the store, one of them solved from its very first observation."""
    rng = np.random.default_rng(1)
    for seed in range(count):
        length = 3 + 2 * seed
        moves = rng.uniform(-1, 1, (length, actions)).astype(np.float32)
        moves[-1] = 0
        success = rng.random(length) < 0.5
        success[0] = seed == 1
        info = EpisodeInfo(
            task=f"metaworld/task-{seed % 2}-v3", source="noisy", seed=seed, succeeded=seed != 2, origin="x"
        )
        frames = rng.integers(0, 256, (length, size, size, 3), np.uint8)
        yield Episode(frames, moves, rng.normal(size=(length, proprio)).astype(np.float32), success, info)


SCHEMA = Schema(image_size=8, action_low=(-2.0, 0.0, 5.0), action_high=(2.0, 0.5, 6.0), proprio_dim=4)


def same(first, second):
    for name in ("frames", "actions", "proprio", "success"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
    return first.info == second.info


@contextmanager
def refused(folder, match):
    """A refusal that names `match` and leaves the folder as it was."""
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    with pytest.raises(UserError, match=match):
        yield
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before


def test_a_replay_buffer_is_cut_at_its_ends_and_its_last_actions_are_zeroed(tmp_path, caplog):
    arrays = rows()
    schema, found = diffusion_policy.read_episodes(write_buffer(tmp_path / "push.zarr", arrays), PUSH_T)
    assert schema.action_low == tuple(arrays["data/action"].min(0).tolist())
    assert schema.action_high == tuple(arrays["data/action"].max(0).tolist())
    assert "data/{keypoint,n_contacts}" in caplog.text
    found = list(found)
    assert [len(episode) for episode in found] == list(LENGTHS)
    assert len({episode.info.key for episode in found}) == len(LENGTHS)
    low, high = np.array(schema.action_low), np.array(schema.action_high)
    for seed, (episode, (first, last)) in enumerate(zip(found, SPANS, strict=True)):
        np.testing.assert_array_equal(episode.frames, arrays["data/img"][first:last])
        np.testing.assert_array_equal(episode.proprio, arrays["data/state"][first:last])
        restored = low + (episode.actions[:-1] + 1) / 2 * (high - low)
        np.testing.assert_allclose(restored, arrays["data/action"][first : last - 1], rtol=0, atol=1e-4)
        assert not episode.actions[-1].any()
        assert not episode.success.any()
        assert (episode.info.source, episode.info.seed, episode.info.succeeded) == ("imported", seed, False)


@pytest.mark.parametrize("folder", ["", "push/push.zarr/"])
def test_a_zip_file_reads_as_its_folder(tmp_path, folder):
    path = write_buffer(tmp_path / "push.zarr", rows())
    with zipfile.ZipFile(tmp_path / "push.zarr.zip", "w") as archive:
        for file in path.rglob("*"):
            archive.write(file, folder + str(file.relative_to(path)))
    schema, zipped = diffusion_policy.read_episodes(tmp_path / "push.zarr.zip", PUSH_T)
    plain_schema, plain = diffusion_policy.read_episodes(path, PUSH_T)
    assert schema == plain_schema
    for one, other in zip(zipped, plain, strict=True):
        same(one, other)


def test_the_given_range_and_columns_are_used_and_a_still_dimension_becomes_zero(tmp_path):
    arrays = rows()
    arrays["data/action"][:, 1] = 7
    path = write_buffer(tmp_path / "push.zarr", arrays)
    schema, found = diffusion_policy.read_episodes(path, DiffusionPolicyConfig(task="push_t", state_dim=2))
    assert (schema.action_low[1], schema.action_high[1], schema.proprio_dim) == (6, 8, 2)
    found = list(found)
    assert all(not episode.actions[:, 1].any() for episode in found)
    np.testing.assert_array_equal(found[0].proprio, arrays["data/state"][: LENGTHS[0], :2])
    wide = DiffusionPolicyConfig(task="push_t", state=None, action_low=(0.0, 0.0), action_high=(512.0, 512.0))
    schema, found = diffusion_policy.read_episodes(path, wide)
    assert (schema.action_low, schema.action_high, schema.proprio_dim) == ((0, 0), (512, 512), 0)
    np.testing.assert_allclose(next(found).actions[0], arrays["data/action"][0] / 256 - 1, atol=1e-6)


def bad(name, change):
    def spoil(arrays):
        arrays[name] = change(arrays[name])

    return spoil


def put(value, *at):
    def change(array):
        array = array.copy()
        array[at] = value
        return array

    return change


WRONG_BUFFERS = {
    "no image": (lambda arrays: arrays.pop("data/img"), "no array data/img"),
    "no state": (lambda arrays: arrays.pop("data/state"), "no array data/state.*action, img"),
    "no ends": (lambda arrays: arrays.pop("meta/episode_ends"), "no array meta/episode_ends"),
    "ends fall": (bad("meta/episode_ends", lambda ends: ends[[1, 0, 2]]), "grow by 2 or more"),
    "ends stand": (bad("meta/episode_ends", lambda ends: ends[[0, 0, 2]]), "grow by 2 or more"),
    "ends stop early": (bad("meta/episode_ends", lambda ends: ends[:2]), f"number of rows, {ROWS}"),
    "ends overrun": (bad("meta/episode_ends", lambda ends: ends + 1), f"number of rows, {ROWS}"),
    "ends are float": (bad("meta/episode_ends", lambda ends: ends.astype(float)), "ends are integers"),
    "ends are unsigned and fall": (bad("meta/episode_ends", lambda e: e[[1, 0, 2]].astype(np.uint32)), "grow by 2"),
    "no episodes": (bad("meta/episode_ends", lambda ends: ends[:0]), "0 episodes"),
    "actions too short": (bad("data/action", lambda actions: actions[:-1]), "data/action is float32"),
    "actions flat": (bad("data/action", lambda actions: actions[:, 0]), "data/action is float32"),
    "states are integers": (bad("data/state", lambda states: states.astype(np.int32)), "data/state is int32"),
    "an action is nan": (bad("data/action", put(np.nan, 5, 1)), "action of row 5"),
    "images oblong": (bad("data/img", lambda images: images[:, :6]), "6 x 8.*Crop them to 6 x 6"),
    "images colours first": (bad("data/img", lambda images: images.transpose(0, 3, 1, 2)), "colours last"),
    "images int16": (bad("data/img", lambda images: images.astype(np.int16)), "data/img is int16"),
    "images in 0 to 1": (bad("data/img", lambda images: images / 255), "image of row 0 .*times 255"),
    "an image is not whole": (bad("data/img", put(0.5, 9, 0, 0, 0)), "image of row 9"),
    "an image is too bright": (bad("data/img", put(256, 9, 0, 0, 0)), "image of row 9"),
    "an image is nan": (bad("data/img", put(np.nan, 9, 0, 0, 0)), "image of row 9"),
    "a state is infinite": (bad("data/state", put(np.inf, 9, 0)), "proprioception and landmarks are finite"),
}


@pytest.mark.parametrize("name", WRONG_BUFFERS)
def test_a_wrong_replay_buffer_is_refused(tmp_path, name):
    spoil, match = WRONG_BUFFERS[name]
    arrays = rows()
    spoil(arrays)
    path = write_buffer(tmp_path / "push.zarr", arrays)
    with refused(tmp_path, match):
        list(diffusion_policy.read_episodes(path, PUSH_T)[1])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"action_low": (0.0, 0.0), "action_high": (100.0, 512.0)}, r"action of row \d+"),
        ({"action_low": (0.0,), "action_high": (512.0,)}, "for each of the 2 dimensions"),
        ({"action_low": (0.0, 0.0)}, "or neither"),
        ({"action_low": (0.0, 9.0), "action_high": (512.0, 9.0)}, "larger upper bound"),
        ({"action_low": (0.0, 0.0), "action_high": (512.0, float("inf"))}, "finite"),
        ({"state_dim": 6}, "state_dim 6"),
        ({"image": "image"}, "data holds: action, img"),
    ],
)
def test_a_wrong_option_is_refused_before_the_first_episode(tmp_path, options, match):
    path = write_buffer(tmp_path / "push.zarr", rows())
    with refused(tmp_path, match):
        diffusion_policy.read_episodes(path, DiffusionPolicyConfig(task="push_t", **options))


def test_what_comes_before_a_bad_image_is_still_read(tmp_path):
    arrays = rows()
    arrays["data/img"][-1, 0, 0, 0] = 0.5
    found = diffusion_policy.read_episodes(write_buffer(tmp_path / "push.zarr", arrays), PUSH_T)[1]
    assert [len(next(found)), len(next(found))] == list(LENGTHS[:2])
    with pytest.raises(UserError, match=f"image of row {ROWS - 1}"):
        next(found)


def test_a_broken_copy_of_a_replay_buffer_is_refused(tmp_path):
    path = write_buffer(tmp_path / "push.zarr", rows())
    chunk = path / "data" / "img" / "1.0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:40])
    with refused(tmp_path, "cannot be read as a Diffusion Policy replay buffer"):
        list(diffusion_policy.read_episodes(path, PUSH_T)[1])
    chunk.unlink()
    with refused(tmp_path, "4 of its 5 chunks"):
        diffusion_policy.read_episodes(path, PUSH_T)


@pytest.mark.parametrize(("importer", "config"), [(diffusion_policy, PUSH_T), (robomimic, ROBOT)])
def test_what_is_no_such_file_is_refused(tmp_path, importer, config):
    with refused(tmp_path, "nothing of that name"):
        importer.read_episodes(tmp_path / "absent", config)
    (tmp_path / "notes.txt").write_text("neither zip nor hdf5")
    with refused(tmp_path, "cannot be read as a"):
        importer.read_episodes(tmp_path / "notes.txt", config)
    with refused(tmp_path, "cannot be read as a"):
        importer.read_episodes(tmp_path, config)


def test_an_exported_replay_buffer_is_zarr_2_in_the_robots_units_and_reads_back(tmp_path):
    path, given = tmp_path / "out.zarr", list(episodes())
    done = diffusion_policy.write_episodes(path, SCHEMA, iter(given))
    rows_written = sum(len(episode) - 1 for episode in given)
    assert (done.episodes, done.rows) == (3, rows_written)
    assert "final observation" in done.note
    group = zarr.open_group(path, mode="r", zarr_format=2)
    assert group["data/img"].dtype == np.uint8
    np.testing.assert_array_equal(group["meta/episode_ends"][:], np.cumsum([len(episode) - 1 for episode in given]))
    assert {array.shape[0] for _, array in group["data"].arrays()} == {rows_written}
    low, high = np.array(SCHEMA.action_low), np.array(SCHEMA.action_high)
    units = np.concatenate([low + (episode.actions[:-1] + 1) / 2 * (high - low) for episode in given])
    np.testing.assert_allclose(group["data/action"][:], units, atol=1e-6)
    config = DiffusionPolicyConfig(task="t", action_low=SCHEMA.action_low, action_high=SCHEMA.action_high)
    schema, found = diffusion_policy.read_episodes(path, config)
    assert schema == SCHEMA
    for episode, back in zip(given, found, strict=True):
        np.testing.assert_array_equal(back.frames, episode.frames[:-1])
        np.testing.assert_array_equal(back.proprio, episode.proprio[:-1])
        np.testing.assert_allclose(back.actions[:-1], episode.actions[:-2], atol=1e-6)


def test_black_frames_and_no_proprioception_survive_an_export(tmp_path):
    schema = Schema(image_size=8, action_low=(-1.0,), action_high=(1.0,), proprio_dim=0)
    info = EpisodeInfo(task="t", source="random", seed=0, succeeded=False)
    black = Episode(np.zeros((3, 8, 8, 3), np.uint8), np.zeros((3, 1), np.float32), np.zeros((3, 0), np.float32),
                    np.zeros(3, np.bool_), info)  # fmt: skip
    diffusion_policy.write_episodes(tmp_path / "out.zarr", schema, [black])
    _, found = diffusion_policy.read_episodes(tmp_path / "out.zarr", DiffusionPolicyConfig(task="t", state=None))
    assert [episode.frames.shape for episode in found] == [(2, 8, 8, 3)]
    robomimic.write_episodes(tmp_path / "out.hdf5", schema, [black])
    back_schema, found = robomimic.read_episodes(tmp_path / "out.hdf5", ROBOT)
    assert back_schema == schema
    assert [same(black, episode) for episode in found] == [True]


EXPORTS = [(diffusion_policy, "out.zarr"), (robomimic, "out.hdf5")]


@pytest.mark.parametrize(("exporter", "name"), EXPORTS)
def test_an_export_that_fails_leaves_nothing(tmp_path, exporter, name):
    def breaks(error):
        yield from episodes(2)
        raise error

    with refused(tmp_path, "0 episodes"):
        exporter.write_episodes(tmp_path / name, SCHEMA, [])
    with refused(tmp_path, "this store holds"):
        exporter.write_episodes(tmp_path / name, SCHEMA, [*episodes(2), *episodes(1, size=4)])
    with refused(tmp_path, "cannot write"):
        exporter.write_episodes(tmp_path / name, SCHEMA, breaks(OSError(28, "No space left on device")))
    with pytest.raises(KeyboardInterrupt):
        exporter.write_episodes(tmp_path / name, SCHEMA, breaks(KeyboardInterrupt()))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("exporter", "name"), EXPORTS)
def test_an_export_never_replaces_anything(tmp_path, exporter, name):
    (tmp_path / name).write_text("dear")
    with refused(tmp_path, "never replaces"):
        exporter.write_episodes(tmp_path / name, SCHEMA, episodes())
    assert (tmp_path / name).read_text() == "dear"
    with refused(tmp_path, "cannot write"):
        exporter.write_episodes(tmp_path / name / "below a file", SCHEMA, episodes())


def write_demos(path, *, next_obs=True, scale=1.0, change=None):
    """A file as robomimic writes it, its demonstrations out of order; returns the arrays by demonstration."""
    rng = np.random.default_rng(2)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = 3 * 5
        data.attrs["env_args"] = '{"env_name": "Lift", "type": 1, "env_kwargs": {}}'
        for number in (10, 2, 0):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = 5
            demo["actions"] = rng.uniform(-scale, scale, (5, 7))
            demo["rewards"] = np.array([0, 0, 1, 0, number > 0], np.float64)
            demo["dones"] = np.array([0, 0, 1, 0, 1])
            long = {
                "agentview_image": rng.integers(0, 256, (6, 8, 8, 3), np.uint8),
                "robot0_eef_pos": rng.normal(size=(6, 3)),
                "robot0_gripper_qpos": rng.normal(size=(6, 2)),
                "object": rng.normal(size=(6, 10)),
            }
            for key, values in long.items():
                demo[f"obs/{key}"] = values[:-1]
                if next_obs:
                    demo[f"next_obs/{key}"] = values[1:]
        file["mask/train"] = np.array([b"demo_10", b"demo_0"])
        if change:
            change(file)
    return path


@pytest.mark.parametrize("next_obs", [True, False])
def test_robomimic_demonstrations_read_in_order_with_rewards_one_row_later(tmp_path, next_obs):
    path = write_demos(tmp_path / "lift.hdf5", next_obs=next_obs)
    schema, found = robomimic.read_episodes(path, ROBOT)
    assert schema == Schema(image_size=8, action_low=(-1.0,) * 7, action_high=(1.0,) * 7, proprio_dim=5)
    found = list(found)
    assert [episode.info.seed for episode in found] == [0, 2, 10]
    assert {(episode.info.task, episode.info.source) for episode in found} == {("Lift", "imported")}
    with h5py.File(path) as file:
        for episode in found:
            demo, length = file[f"data/demo_{episode.info.seed}"], 5 + next_obs
            assert len(episode) == length
            np.testing.assert_array_equal(episode.frames[:5], demo["obs/agentview_image"][:])
            np.testing.assert_array_equal(
                episode.proprio[:5, 3:], demo["obs/robot0_gripper_qpos"][:].astype(np.float32)
            )
            np.testing.assert_array_equal(
                episode.actions[: length - 1], demo["actions"][: length - 1].astype(np.float32)
            )
            assert not episode.actions[-1].any()
            expected = [False, False, False, True, False, episode.info.seed > 0][:length]
            np.testing.assert_array_equal(episode.success, expected)
            assert episode.info.succeeded
            if next_obs:
                np.testing.assert_array_equal(episode.frames[5], demo["next_obs/agentview_image"][-1])
                np.testing.assert_array_equal(
                    episode.proprio[5, :3], demo["next_obs/robot0_eef_pos"][-1].astype(np.float32)
                )


def test_robomimic_filters_task_and_proprioception_can_be_chosen(tmp_path):
    path = write_demos(tmp_path / "lift.hdf5")
    config = RobomimicConfig(task="mine/lift", proprio=("object",), mask="train", success_reward=2.0)
    schema, found = robomimic.read_episodes(path, config)
    assert schema.proprio_dim == 10
    infos = [episode.info for episode in found]
    assert [(info.task, info.seed, info.succeeded) for info in infos] == [
        ("mine/lift", 0, False),
        ("mine/lift", 10, False),
    ]


def test_robomimic_actions_beyond_one_are_normalised(tmp_path):
    path = write_demos(tmp_path / "lift.hdf5", scale=3.0)
    schema, found = robomimic.read_episodes(path, ROBOT)
    low, high = np.array(schema.action_low), np.array(schema.action_high)
    with h5py.File(path) as file:
        everything = np.concatenate([file[f"data/{name}/actions"][:] for name in file["data"]])
        np.testing.assert_array_equal(low, everything.min(0))
        np.testing.assert_array_equal(high, everything.max(0))
        for episode in found:
            units = low + (episode.actions[:-1] + 1) / 2 * (high - low)
            np.testing.assert_allclose(units, file[f"data/demo_{episode.info.seed}/actions"][:], atol=1e-6)
    given = RobomimicConfig(action_low=(-4.0,) * 7, action_high=(4.0,) * 7)
    assert robomimic.read_episodes(path, given)[0].action_high == (4.0,) * 7


def test_robomimic_gives_back_exactly_what_was_exported(tmp_path):
    path, given = tmp_path / "out.hdf5", list(episodes(12))
    done = robomimic.write_episodes(path, SCHEMA, iter(given))
    assert (done.episodes, done.rows) == (12, sum(len(episode) - 1 for episode in given))
    with h5py.File(path) as file:
        assert file["data"].attrs["total"] == done.rows
        assert all(demo["dones"][-1] and not demo["dones"][:-1].any() for demo in file["data"].values())
    schema, found = robomimic.read_episodes(path, ROBOT)
    assert schema == SCHEMA
    assert all(same(episode, back) for episode, back in zip(given, found, strict=True))


def replace(name, change):
    def spoil(file):
        values = file[name][:]
        del file[name]
        file[name] = change(values)

    return spoil


def remove(name):
    def spoil(file):
        del file[name]

    return spoil


WRONG_DEMOS = {
    "no data": (remove("data"), ROBOT, "no group data"),
    "no rewards": (remove("data/demo_2/rewards"), ROBOT, "cannot be read as a robomimic HDF5 file.*rewards"),
    "no demonstrations": (lambda file: file["data"].clear(), ROBOT, "0 episodes"),
    "strange name": (lambda file: file["data"].create_group("mine"), ROBOT, "demonstration 'mine'"),
    "mask names nothing": (
        replace("mask/train", lambda names: np.array([b"demo_7"], names.dtype)),
        RobomimicConfig(mask="train"),
        "demo_7",
    ),
    "no such mask": (None, RobomimicConfig(mask="trian"), "Did you mean train"),
    "no such image": (None, RobomimicConfig(image="wrist_image"), "has no wrist_image.*agentview_image"),
    "no such proprio": (None, RobomimicConfig(proprio=("eef",)), "has no eef"),
    "two images": (
        lambda file: [demo["obs"].copy("agentview_image", "wrist_image") for demo in file["data"].values()],
        ROBOT,
        "2 images.*agentview_image, wrist_image",
    ),
    "oblong": (replace("data/demo_0/obs/agentview_image", lambda images: images[:, :6]), ROBOT, "6 x 8.*Crop"),
    "other size": (
        replace("data/demo_2/obs/agentview_image", lambda images: images[:, :6, :6]),
        ROBOT,
        "demo_2/obs/agentview",
    ),
    "float images": (replace("data/demo_2/obs/agentview_image", lambda images: images / 255), ROBOT, "is float64"),
    "wide images": (
        replace("data/demo_2/obs/agentview_image", lambda images: images.astype(np.uint16)),
        ROBOT,
        "is uint16",
    ),
    "short next": (
        replace("data/demo_2/next_obs/agentview_image", lambda images: images[1:]),
        ROBOT,
        "demo_2/next_obs",
    ),
    "short proprio": (
        replace("data/demo_10/obs/robot0_eef_pos", lambda pos: pos[1:]),
        ROBOT,
        "demo_10/obs/robot0_eef_pos",
    ),
    "short rewards": (replace("data/demo_10/rewards", lambda rewards: rewards[1:]), ROBOT, "demo_10/rewards"),
    "other actions": (replace("data/demo_10/actions", lambda actions: actions[:, :6]), ROBOT, "demo_10/actions"),
    "nan action": (replace("data/demo_10/actions", lambda actions: actions * np.nan), ROBOT, "actions are finite"),
    "num_samples": (lambda file: file["data/demo_2"].attrs.create("num_samples", 4), ROBOT, "num_samples 4"),
    "no task": (lambda file: file["data"].attrs.pop("env_args"), ROBOT, "names no task"),
    "garbled env_args": (lambda file: file["data"].attrs.create("env_args", "{"), ROBOT, "cannot be read"),
    "range too small": (None, RobomimicConfig(action_low=(-0.1,) * 7, action_high=(0.1,) * 7), "action of row 0"),
}


@pytest.mark.parametrize("name", WRONG_DEMOS)
def test_a_wrong_robomimic_file_is_refused_before_the_first_episode(tmp_path, name):
    change, config, match = WRONG_DEMOS[name]
    path = write_demos(tmp_path / "lift.hdf5", change=change)
    with refused(tmp_path, match):
        robomimic.read_episodes(path, config)


def test_a_truncated_robomimic_file_is_refused(tmp_path):
    path = write_demos(tmp_path / "lift.hdf5")
    whole = path.read_bytes()
    for kept in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with refused(tmp_path, "cannot be read as a robomimic HDF5 file"):
            robomimic.read_episodes(path, ROBOT)


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    path = write_demos(tmp_path / "lift.hdf5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with refused(tmp_path, r"w4rl-fast\[hdf5\]"):
        robomimic.read_episodes(path, ROBOT)
    with pytest.raises(MissingExtra):
        robomimic.write_episodes(tmp_path / "out.hdf5", SCHEMA, episodes())
