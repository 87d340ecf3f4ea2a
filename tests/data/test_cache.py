import fcntl
import multiprocessing
import shutil
import threading

import numpy as np
import pytest

from w4rl_fast.data.cache import NAMES, Mapped, build, columns_of, decoded
from w4rl_fast.data.store import Store
from w4rl_fast.errors import UserError


@pytest.fixture
def store(fill, make_episode, tmp_path):
    return fill(tmp_path / "store", [make_episode(seed) for seed in range(6)])


def arrays_of(folder, store):
    """The decoded arrays, mapped as windows map them."""
    rows, size = sum(store.lengths), store.schema.image_size
    shapes = {
        "frames": (np.uint8, (rows, size, size, 3)),
        "actions": (np.float32, (rows, store.schema.action_dim)),
        "proprio": (np.float32, (rows, store.schema.proprio_dim)),
        "success": (np.bool_, (rows,)),
        "landmarks": (np.float32, (rows, store.schema.landmark_dim)),
    }
    return {name: Mapped(folder / f"{name}.raw", *shapes[name], 1 << 20).array for name in columns_of(store)}


def check_content(folder, store):
    episodes = [store.read(number) for number in range(len(store))]
    for name, array in arrays_of(folder, store).items():
        np.testing.assert_array_equal(array, np.concatenate([getattr(episode, name) for episode in episodes]))


def stamps(path, *, without="cache"):
    return {
        file: (file.stat().st_mtime_ns, file.stat().st_size)
        for file in path.rglob("*")
        if file.is_file() and without not in file.parts and file.name != ".cache.lock"
    }


def test_it_holds_every_row_in_the_order_of_the_store(store):
    check_content(decoded(store), store)


def test_it_is_made_once_and_touches_nothing_else(store):
    before = stamps(store.path)
    folder = decoded(store)
    made = stamps(folder, without="nothing")
    assert decoded(store) == decoded(Store(store.path)) == folder
    assert stamps(folder, without="nothing") == made
    assert stamps(store.path) == before


def test_more_episodes_make_another_one_and_the_old_one_goes(store, fill, make_episode):
    first = decoded(store)
    grown = fill(store.path, [make_episode(500)])
    second = decoded(grown)
    assert first != second
    assert list((store.path / "cache").iterdir()) == [second]
    check_content(second, grown)


@pytest.mark.parametrize("name", [*(f"{name}.raw" for name in NAMES), "cache.json"])
@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_a_damaged_one_is_made_anew(store, name, how):
    file = decoded(store) / name
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    if how == "remove":
        file.unlink()
    else:
        file.write_bytes(body if how == "flip" else body[:-1])
    check_content(decoded(store), store)


def test_one_whose_making_was_interrupted_is_made(store):
    leftover = store.path / "cache" / f".{store.digest}.tmp"
    leftover.mkdir(parents=True)
    (leftover / "frames.raw").write_bytes(b"half")
    check_content(decoded(store), store)
    assert not leftover.exists()


@pytest.mark.parametrize("call", [1, 2, 4, 7])
def test_a_full_disk_is_a_clear_error_and_leaves_no_half_cache(store, failing_disk, call):
    failing_disk(call)
    with pytest.raises(UserError, match=r"cannot write .*No space left on device"):
        decoded(store)
    failing_disk(0)
    check_content(decoded(store), store)


def decode(path, barrier):
    barrier.wait()
    decoded(Store(path))


def test_of_two_processes_at_once_one_decodes_and_both_find_it_whole(fill, make_episode, tmp_path):
    store = fill(tmp_path / "store", [make_episode(seed, length=60) for seed in range(30)])
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        barrier = context.Barrier(2)
        both = [context.Process(target=decode, args=(store.path, barrier)) for _ in range(2)]
        for process in both:
            process.start()
        for process in both:
            process.join()
        assert [process.exitcode for process in both] == [0, 0]
        check_content(decoded(store), store)
        shutil.rmtree(store.cache)


def test_another_process_that_decodes_is_waited_for(store):
    """Without a second cache: what the other made while this one waited is taken."""
    with open(store.path / ".cache.lock", "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = threading.Thread(target=decoded, args=(store,))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        folder = build(store, store.cache / store.digest)
        before = stamps(folder, without="nothing")
    waiting.join()
    assert stamps(folder, without="nothing") == before


def test_a_whole_cache_is_read_where_nothing_may_be_written(store, monkeypatch):
    folder = decoded(store)
    monkeypatch.setattr("builtins.open", refuse_to_write(open))
    assert decoded(store) == folder


def refuse_to_write(real):
    def call(file, mode="r", *rest, **settings):
        if "r" not in mode:
            raise OSError(30, "Read-only file system")
        return real(file, mode, *rest, **settings)

    return call


def test_a_disk_too_small_is_said_before_anything_is_written(store, monkeypatch):
    usage = shutil.disk_usage(store.path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(UserError, match="decode needs"):
        decoded(store)
    assert not (store.path / "cache").exists()


def test_rows_without_numbers_are_decoded_too(tmp_path, schema, make_episode):
    from dataclasses import replace

    from w4rl_fast.data.store import writing

    bare = replace(schema, proprio_dim=0, landmark_dim=0)
    with writing(tmp_path / "store", bare, {}) as writer:
        for seed in range(3):
            episode = make_episode(seed)
            writer.add(replace(episode, proprio=np.zeros((len(episode), 0), np.float32), landmarks=None))
    store = Store(tmp_path / "store")
    check_content(decoded(store), store)


def test_a_mapped_array_may_be_changed_without_reaching_the_file(tmp_path):
    (tmp_path / "rows.raw").write_bytes(bytes(range(12)))
    mapped = Mapped(tmp_path / "rows.raw", np.uint8, (4, 3), 1 << 20)
    mapped.array[:] = 0
    assert (tmp_path / "rows.raw").read_bytes() == bytes(range(12))


@pytest.mark.parametrize("rows", [3, 5])
def test_a_mapped_file_of_another_size_is_refused(tmp_path, rows):
    (tmp_path / "rows.raw").write_bytes(bytes(12))
    with pytest.raises(UserError, match="12 bytes"):
        Mapped(tmp_path / "rows.raw", np.uint8, (rows, 3), 1 << 20)
