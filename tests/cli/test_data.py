import dataclasses
import json
import shutil

import numpy as np
import pytest

from w4rl_fast.data.pending import save_pending
from w4rl_fast.data.store import Store, writing


@pytest.fixture
def store(mixed_store, tmp_path):
    """A copy to be changed."""
    shutil.copytree(mixed_store.path, tmp_path / "store", ignore=shutil.ignore_patterns("cache"))
    return tmp_path / "store"


# ---- info


def test_info_counts_what_is_there(cli, mixed_store):
    said = json.loads(cli("data", "info", mixed_store.path, "--json").stdout)
    assert (said["episodes"], said["frames"]) == (len(mixed_store), sum(mixed_store.lengths))
    assert said["image_size"] == 8
    assert said["digest"] == mixed_store.digest
    assert sum(line["episodes"] for line in said["sources"]) == 60
    assert sum(line["succeeded"] for line in said["sources"]) == sum(info.succeeded for info in mixed_store.infos)
    text = cli("data", "info", mixed_store.path).stdout
    assert "60 episodes" in text
    assert "toy/pull expert" in text


# ---- check


def test_check_says_that_every_checksum_fits(cli, store):
    result = cli("data", "check", store)
    assert result.exit_code == 0
    assert "60 episodes" in result.stdout
    assert "every checksum fits" in result.stdout


def test_check_names_the_file_and_the_episode_of_a_flipped_byte(cli, store, make_episode):
    key = make_episode(77).info.key
    file = save_pending(store / "pending", make_episode(77))
    body = bytearray(file.read_bytes())
    body[-1] ^= 1
    file.write_bytes(body)
    result = cli("data", "check", store)
    assert result.exit_code == 2
    assert f"damaged: pending/{file.name}" in result.stderr
    assert f"episodes: {key}" in result.stderr
    assert "Traceback" not in result.output
    said = cli("data", "check", store, "--json")
    assert said.exit_code == 2
    assert json.loads(said.stdout)["damage"][0]["episodes"] == [key]


def test_check_names_the_episodes_of_a_flipped_frame(cli, store):
    file = next(store.rglob("data/img/c/0/0/0/0"))
    body = bytearray(file.read_bytes())
    body[50] ^= 1
    file.write_bytes(body)
    (damage,) = json.loads(cli("data", "check", store, "--json").stdout)["damage"]
    assert damage["file"].endswith("data/img/c/0/0/0/0")
    assert Store(store).segments[0].infos[0].key in damage["episodes"]
    assert len(damage["episodes"]) < 8


# ---- sheet


def test_sheet_writes_pictures_that_open(cli, mixed_store, tmp_path):
    images = pytest.importorskip("PIL.Image")
    result = cli("data", "sheet", mixed_store.path, "--episodes", 5, "--out", tmp_path / "sheet")
    assert result.exit_code == 0
    still, moving = result.stdout.split()
    assert (still, moving) == (str(tmp_path / "sheet.png"), str(tmp_path / "sheet-moving.png"))
    with images.open(still) as picture:
        picture.load()
        assert picture.size[0] > 8
    with images.open(moving) as film:
        assert film.n_frames > 3


def test_a_sheet_lies_beside_the_store_and_spreads_over_what_there_is(cli, store):
    result = cli("data", "sheet", store, "--episodes", 12)
    assert result.exit_code == 0
    assert {path.name for path in store.parent.iterdir()} == {"store", "store-sheet.png", "store-sheet-moving.png"}


def test_the_chosen_episodes_are_of_every_kind(mixed_store):
    from w4rl_fast.cli.data import spread

    kinds = {(info.task, info.source, info.succeeded) for info in mixed_store.infos}
    for count in (len(kinds), len(kinds) + 3):
        chosen = spread(mixed_store, count)
        assert len(set(chosen)) == count
        infos = [mixed_store.infos[number] for number in chosen]
        assert {(info.task, info.source, info.succeeded) for info in infos} == kinds
    assert sorted(spread(mixed_store, 10_000)) == list(range(len(mixed_store)))


@pytest.mark.parametrize("count", [0, -1])
def test_a_sheet_of_nothing_is_refused(refusal, mixed_store, count):
    assert f"episodes {count}" in refusal("data", "sheet", mixed_store.path, "--episodes", count)


def test_a_sheet_of_an_empty_store_is_refused(refusal, tmp_path, schema):
    with writing(tmp_path / "store", schema, {}):
        pass
    assert "at least one episode" in refusal("data", "sheet", tmp_path / "store")


# ---- import and export


@pytest.mark.parametrize("kind", ["diffusion-policy", "robomimic"])
def test_what_is_exported_is_imported_again(cli, mixed_store, tmp_path, kind):
    """Every frame, action and proprioception that the format has a place for, in the robot's own units."""
    if kind == "robomimic":
        pytest.importorskip("h5py")
    out = tmp_path / ("data.hdf5" if kind == "robomimic" else "data.zarr")
    result = cli("data", "export", mixed_store.path, "--format", kind, "--out", out)
    assert result.exit_code == 0, result.output
    assert "60 episodes" in result.stdout
    settings = []
    if kind == "diffusion-policy":  # the other says itself what its actions mean
        for bound in ("action_low", "action_high"):
            settings += ["--set", f"{bound}={json.dumps(getattr(mixed_store.schema, bound))}"]
    result = cli("data", "import", out, "--format", kind, "--task", "toy", *settings, "--out", tmp_path / "again")
    assert result.exit_code == 0, result.output
    again = Store(tmp_path / "again")
    assert (len(again), again.schema) == (60, dataclasses.replace(mixed_store.schema, landmark_dim=0))
    episodes = {again.infos[number].seed: again.read(number) for number in range(60)}
    for number in range(60):
        first, second = mixed_store.read(number), episodes[number]
        rows = len(second)
        assert rows in (len(first), len(first) - 1), "the last observation has no place in a replay buffer"
        np.testing.assert_array_equal(second.frames, first.frames[:rows])
        np.testing.assert_array_equal(second.proprio, first.proprio[:rows])
        np.testing.assert_allclose(second.actions[:-1], first.actions[: rows - 1], atol=1e-6)
        assert second.info.source in ("imported", first.info.source)
    assert cli("data", "check", tmp_path / "again").exit_code == 0


def test_a_replay_buffer_is_shown_where_it_lies(cli, mixed_store, tmp_path):
    cli("data", "export", mixed_store.path, "--format", "diffusion-policy", "--out", tmp_path / "data.zarr")
    said = json.loads(cli("data", "info", tmp_path / "data.zarr", "--json").stdout)
    assert said["episodes"] == 60


def test_an_export_never_replaces_what_is_there(refusal, mixed_store, tmp_path):
    (tmp_path / "data.zarr").write_text("precious")
    arguments = ["--format", "diffusion-policy", "--out", tmp_path / "data.zarr"]
    assert "never replaces" in refusal("data", "export", mixed_store.path, *arguments)
    assert (tmp_path / "data.zarr").read_text() == "precious"


# ---- bad input


@pytest.mark.parametrize("command", ["info", "check", "sheet"])
@pytest.mark.parametrize("name", ["nothing", "empty", "file"])
def test_what_is_no_store_is_refused(refusal, tmp_path, command, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("precious")
    assert str(tmp_path / name) in refusal("data", command, tmp_path / name)


@pytest.mark.parametrize("kind", ["diffusion-policy", "robomimic"])
def test_an_import_of_what_is_not_there_or_something_else_is_refused(refusal, tmp_path, kind):
    (tmp_path / "file").write_bytes(b"something else")
    for name in ("nothing", "file"):
        arguments = ["--format", kind, "--task", "toy", "--out", tmp_path / "store"]
        assert name in refusal("data", "import", tmp_path / name, *arguments)
    assert not (tmp_path / "store").exists()


def test_a_store_that_lost_a_shard_is_refused(refusal, store):
    next(store.rglob("data/img/c/0/0/0/0")).unlink()
    for command in ("info", "sheet"):
        assert "missing" in refusal("data", command, store)
