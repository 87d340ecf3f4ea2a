import zipfile

import numpy as np
import pytest
import torch
import zarr

from w4rl_fast.data.foreign import ReplayStore, open_store
from w4rl_fast.data.store import Store
from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.errors import UserError

LENGTHS = (6, 9, 4)
ENDS = np.cumsum(LENGTHS)


@pytest.fixture
def arrays():
    """A replay buffer as Push-T has it: float images, actions in pixels, the row in every pixel."""
    rng = np.random.default_rng(0)
    images = np.zeros((ENDS[-1], 8, 8, 3), np.float32)
    images += np.arange(ENDS[-1])[:, None, None, None]
    return {
        "data/img": images,
        "data/action": rng.uniform(0, 512, (ENDS[-1], 2)).astype(np.float32),
        "data/state": rng.uniform(0, 512, (ENDS[-1], 5)).astype(np.float32),
        "meta/episode_ends": ENDS.astype(np.int64),
    }


@pytest.fixture
def buffer(tmp_path, arrays):
    path = tmp_path / "push.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2)
    for name, values in arrays.items():
        group.create_array(name, shape=values.shape, chunks=(3, *values.shape[1:]), dtype=values.dtype)[...] = values
    return path


def tree(path):
    return {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in [path, *path.rglob("*")]}


def check_windows(store, arrays):
    config = WindowConfig(history=3, future=1, held_out=0.0)
    windows = Windows(store, config)
    assert len(windows) == sum(LENGTHS) - len(LENGTHS)
    low, high = arrays["data/action"].min(0), arrays["data/action"].max(0)
    for batch in windows.in_order(7):
        starts = (ENDS - LENGTHS)[batch.episode]
        rows = starts[:, None] + np.maximum(batch.row[:, None] + np.arange(-2, 2), 0)
        shown = torch.round((batch.frames + 1) * 127.5).numpy()
        np.testing.assert_array_equal(shown, np.broadcast_to(rows[:, :, None, None, None], shown.shape))
        np.testing.assert_array_equal(batch.proprio.numpy(), arrays["data/state"][rows])
        actions = low + (batch.actions.numpy() + 1) / 2 * (high - low)
        real = batch.real[:, :-1].numpy()
        np.testing.assert_allclose(actions[real], arrays["data/action"][rows[:, :-1]][real], atol=1e-3)
        assert not batch.success.any()


def test_windows_are_cut_from_a_replay_buffer_where_it_lies(buffer, arrays):
    before = tree(buffer)
    store = open_store(buffer, task="push_t")
    assert isinstance(store, ReplayStore)
    assert (len(store), store.lengths, {info.task for info in store.infos}) == (3, list(LENGTHS), {"push_t"})
    check_windows(store, arrays)
    assert tree(buffer) == before, "nothing is written inside"
    assert {path.name for path in buffer.parent.iterdir()} == {"push.zarr", "push.zarr.cache", ".push.zarr.cache.lock"}


def test_a_zip_file_is_read_where_it_lies(buffer, arrays, tmp_path):
    path = tmp_path / "zipped" / "push.zarr.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for file in buffer.rglob("*"):
            archive.write(file, file.relative_to(buffer))
    content = path.read_bytes()
    check_windows(open_store(path), arrays)
    assert path.read_bytes() == content


def test_its_episodes_and_digest_are_the_same_each_time_and_follow_the_actions(buffer, same_episode):
    first, again = open_store(buffer), open_store(buffer)
    assert first.keys == again.keys
    assert first.digest == again.digest
    assert all(same_episode(first.read(number), again.read(number)) for number in range(3))
    digest = first.digest
    actions = zarr.open_group(buffer, mode="r+")["data/action"]
    actions[2:3] = actions[2:3] / 2
    assert open_store(buffer).digest != digest


def test_a_store_of_our_own_opens_as_such(mixed_store):
    opened = open_store(mixed_store.path)
    assert isinstance(opened, Store)
    assert opened.keys == mixed_store.keys


def test_a_read_only_buffer_is_read(buffer):
    for path in buffer.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert len(open_store(buffer).read(1)) == LENGTHS[1]
    for path in buffer.rglob("*"):
        path.chmod(0o755)


@pytest.mark.parametrize("name", ["nothing", "empty", "broken.zip"])
def test_what_is_neither_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.zip").write_bytes(b"PK no")
    with pytest.raises(UserError, match=name):
        open_store(tmp_path / name)


def test_a_buffer_whose_chunk_is_missing_is_refused(buffer):
    (buffer / "data" / "img" / "1.0.0.0").unlink()
    with pytest.raises(UserError, match="chunks"):
        open_store(buffer)
