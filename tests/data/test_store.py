import itertools
import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from w4rl_fast.data import store as store_module
from w4rl_fast.data.check import check_store
from w4rl_fast.data.episode import Schema
from w4rl_fast.data.index import Index, decode_index, encode_index
from w4rl_fast.data.pending import save_pending
from w4rl_fast.data.store import Store, writing
from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.errors import UserError

TASKS = {"toy/push": {"horizon": 5}}
ARRAYS = ("frames", "actions", "proprio", "success", "landmarks")


@pytest.fixture(scope="session")
def episodes(make_episode):
    return [make_episode(seed, source=("expert", "noisy", "random")[seed % 3]) for seed in range(24)]


@pytest.fixture
def _small_segments(monkeypatch):
    """Segments of a few episodes, so that a handful of them makes many."""
    monkeypatch.setattr(store_module, "SEGMENT_ROWS", 30)


def sealed_files(path):
    """Every sealed file but the list of segments, by its place under segments."""
    files = (file for file in sorted((path / "segments").rglob("*")) if file.is_file())
    return {file.relative_to(path): file.read_bytes() for file in files}


# ---- round trip


def test_episodes_come_back_exactly(tmp_path, fill, episodes, same_episode):
    store = fill(tmp_path / "store", episodes)
    by_key = {episode.info.key: episode for episode in episodes}
    assert store.keys == sorted(by_key)
    assert len(store) == len(store.keys) == len(store.infos) == len(store.lengths)
    for number, key in enumerate(store.keys):
        assert same_episode(store.read(number), by_key[key])
        assert store.infos[number] == by_key[key].info
        assert store.lengths[number] == len(by_key[key])


def test_black_frames_and_zero_actions_come_back_exactly(tmp_path, fill, make_episode, same_episode):
    """Chunks of nothing but zeros are not written at all."""
    dark = make_episode(0, length=50)
    for name in ("frames", "actions", "proprio"):
        getattr(dark, name)[:] = 0
    dark.success[:] = False
    assert same_episode(fill(tmp_path / "store", [dark]).read(0), dark)


@pytest.mark.parametrize("length", [2, 19, 20, 21, 40, 41])
def test_episodes_on_either_side_of_a_chunk_come_back_exactly(tmp_path, fill, make_episode, same_episode, length):
    written = [make_episode(seed, length=length) for seed in range(4)]
    store = fill(tmp_path / "store", written)
    assert all(same_episode(store.read(seed), episode) for seed, episode in enumerate(written))


def test_rows_beyond_a_shard_go_to_the_next_file(tmp_path, fill, make_episode, same_episode, monkeypatch):
    monkeypatch.setattr("w4rl_fast.data.segment.CHUNK", 4)
    monkeypatch.setattr("w4rl_fast.data.segment.SHARD", 16)
    written = [make_episode(seed, length=11) for seed in range(6)]
    store = fill(tmp_path / "store", written)
    assert len(list((tmp_path / "store").rglob("data/img/c/*/0/0/0"))) == 5
    assert all(same_episode(store.read(seed), episode) for seed, episode in enumerate(written))


def test_a_robot_without_proprioception_is_stored_too(tmp_path, make_episode, same_episode):
    schema = Schema(image_size=8, action_low=(-1.0, -1.0), action_high=(1.0, 1.0), proprio_dim=0)
    episode = replace(make_episode(1), proprio=np.zeros((4, 0), np.float32), landmarks=None)
    with writing(tmp_path / "store", schema, TASKS) as writer:
        writer.add(episode)
    assert same_episode(Store(tmp_path / "store").read(0), episode)
    assert not check_store(tmp_path / "store").damage


@pytest.mark.usefixtures("_small_segments")
def test_a_store_without_landmarks_has_no_such_array_and_still_works(tmp_path, schema, make_episode, same_episode):
    path, written = tmp_path / "store", [replace(make_episode(seed), landmarks=None) for seed in range(8)]
    for some in (written[:3], written[3:]):
        with writing(path, replace(schema, landmark_dim=0), TASKS) as writer:
            for episode in some:
                writer.add(episode)
    store = Store(path)
    assert all(same_episode(store.read(seed), episode) for seed, episode in enumerate(written))
    batch = Windows(store, WindowConfig(history=2, held_out=0.0)).batch(0, 4)
    assert batch.landmarks is None
    assert not list(path.rglob("*landmarks*"))
    assert not check_store(path).damage


def test_a_store_of_before_there_were_landmarks_opens(schema):
    """Its schema does not speak of them."""
    said = json.loads(encode_index(Index(schema=replace(schema, landmark_dim=0), tasks={})))
    del said["schema"]["landmark_dim"]
    assert decode_index(said).schema.landmark_dim == 0


def test_a_hundred_thousand_frames_take_few_files(tmp_path, fill, make_episode):
    store = fill(tmp_path / "store", [make_episode(seed, length=500) for seed in range(20)])
    files = sum(path.is_file() for path in store.path.rglob("*"))
    assert sum(store.lengths) == 10_000
    assert files < 40, "5 shards of 2000 frames, a file for each other array, and what describes them"


def test_a_sealed_segment_opens_as_a_replay_buffer(tmp_path, fill, episodes):
    """What is sealed can be read with zarr alone, as the documentation says."""
    zarr = pytest.importorskip("zarr")
    store = fill(tmp_path / "store", episodes)
    group = zarr.open_group(tmp_path / "store" / "segments" / "000000", mode="r")
    ends = group["meta/episode_ends"][:]
    assert ends[-1] == sum(store.lengths) == group["data/img"].shape[0] == group["data/action"].shape[0]
    starts = np.concatenate([[0], ends[:-1]])
    for number, (first, last) in enumerate(zip(starts, ends, strict=True)):
        episode = store.read(number)
        np.testing.assert_array_equal(group["data/img"][first:last], episode.frames)
        np.testing.assert_array_equal(group["data/state"][first:last], episode.proprio)
        assert group["meta/seed"][number] == episode.info.seed


# ---- order


def contents(store):
    episodes = map(store.read, range(len(store)))
    arrays = [[getattr(episode, name).tobytes() for name in ARRAYS] for episode in episodes]
    return list(zip(store.keys, arrays, strict=True))


@pytest.mark.usefixtures("_small_segments")
def test_the_order_of_arrival_and_the_seals_between_do_not_show(tmp_path, fill, episodes):
    expected = None
    for number, (order, seal_every) in enumerate([(1, None), (-1, 1), (7, 5), (-5, 2)]):
        arrived = [episodes[(index * order) % 12] for index in range(12)]
        store = fill(tmp_path / str(number), arrived, seal_every=seal_every)
        found = contents(store)
        expected = expected or found
        assert found == expected
        assert not check_store(store.path).damage


def test_appended_later_is_as_written_at_once(tmp_path, fill, episodes):
    once = fill(tmp_path / "once", episodes)
    for first in range(0, len(episodes), 5):
        later = fill(tmp_path / "later", episodes[first : first + 5])
    assert len(later.index.segments) == 1, "small segments were put together"
    assert contents(later) == contents(once)
    assert later.index.schema == once.index.schema
    assert later.infos == once.infos


@pytest.mark.usefixtures("_small_segments")
def test_a_full_segment_is_never_written_again(tmp_path, fill, episodes):
    fill(tmp_path / "store", episodes[:12], seal_every=4)
    before = {path: (tmp_path / "store" / path).stat().st_mtime_ns for path in sealed_files(tmp_path / "store")}
    entries = Store(tmp_path / "store").index.segments
    full = [entry.name for entry in entries if entry.rows >= 15]
    assert full
    fill(tmp_path / "store", episodes[12:], seal_every=4)
    for path, stamp in before.items():
        if path.parts[1] in full:
            assert (tmp_path / "store" / path).stat().st_mtime_ns == stamp


def test_an_episode_added_twice_is_there_once(tmp_path, fill, episodes, same_episode):
    store = fill(tmp_path / "store", [episodes[0], episodes[0], episodes[1]], seal_every=1)
    store = fill(tmp_path / "store", [episodes[1], episodes[0]])
    assert len(store) == 2
    assert same_episode(store.read(0), episodes[0])


def test_a_store_without_episodes_opens(tmp_path, fill):
    store = fill(tmp_path / "store", [])
    assert (len(store), store.keys) == (0, [])
    assert not check_store(tmp_path / "store").damage


def test_the_digest_follows_the_episodes(tmp_path, fill, episodes):
    digests = [fill(tmp_path / "store", episodes[:count]).digest for count in (0, 1, 1, 5)]
    assert digests[1] == digests[2]
    assert len(set(digests)) == 3


def test_pending_and_sealed_episodes_are_read_alike(tmp_path, schema, episodes, same_episode):
    with writing(tmp_path / "store", schema, TASKS) as writer:
        writer.add(episodes[3])
        writer.seal()
        writer.add(episodes[1])
        store = Store(tmp_path / "store")
        assert writer.keys() == set(store.keys) == {episodes[1].info.key, episodes[3].info.key}
        assert same_episode(store.read(store.keys.index(episodes[1].info.key)), episodes[1])
        assert same_episode(store.read(store.keys.index(episodes[3].info.key)), episodes[3])


# ---- refusals


def put(array, value, *at):
    array = array.copy()
    array[at] = value
    return array


MISFITS = {
    "float frames": (lambda e: {"frames": e.frames.astype(np.float32)}, "frames .* float32.*uint8"),
    "wide frames": (lambda _: {"frames": np.zeros((5, 8, 9, 3), np.uint8)}, r"\(5, 8, 9, 3\).*\(5, 8, 8, 3\)"),
    "double actions": (lambda e: {"actions": e.actions.astype(np.float64)}, "actions .* float64.*float32"),
    "three actions": (lambda _: {"actions": np.zeros((5, 3), np.float32)}, r"actions .*\(5, 3\).*\(5, 2\)"),
    "a row too few": (lambda e: {"success": e.success[:-1]}, r"success .*\(4,\).*\(5,\)"),
    "large actions": (lambda e: {"actions": put(e.actions, 1.5, 0, 0)}, r"within \[-1, 1\]"),
    "an action that is no number": (lambda e: {"actions": put(e.actions, np.nan, 1, 1)}, "finite"),
    "proprioception that is no number": (lambda e: {"proprio": put(e.proprio, np.inf, 1, 2)}, "finite"),
    "landmarks that are no number": (lambda e: {"landmarks": put(e.landmarks, np.nan, 1, 2)}, "landmarks are finite"),
    "three landmarks": (lambda e: {"landmarks": e.landmarks[:, :3]}, r"landmarks .*\(5, 3\).*\(5, 4\)"),
    "a row of landmarks too few": (lambda e: {"landmarks": e.landmarks[:-1]}, r"landmarks .*\(4, 4\).*\(5, 4\)"),
    "double landmarks": (lambda e: {"landmarks": e.landmarks.astype(np.float64)}, "landmarks .* float64.*float32"),
    "no landmarks": (lambda _: {"landmarks": None}, r"landmarks .* missing.*\(5, 4\)"),
    "one row": (lambda e: {name: getattr(e, name)[:1] for name in ARRAYS}, "at least two observations"),
    "strange source": (lambda e: {"info": replace(e.info, source="human")}, "'human'.*expert, noisy"),
}


@pytest.mark.parametrize(("change", "match"), MISFITS.values(), ids=MISFITS)
def test_an_episode_that_does_not_fit_is_refused_and_the_others_stay(tmp_path, schema, make_episode, change, match):
    good = make_episode(2, length=5)
    with writing(tmp_path / "store", schema, TASKS) as writer:
        writer.add(make_episode(1))
        with pytest.raises(UserError, match=match):
            writer.add(replace(good, **change(good)))
    assert len(Store(tmp_path / "store")) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_size": 16}, "8x8 frames"),
        ({"proprio_dim": 4}, "3 proprioception"),
        ({"landmark_dim": 0}, "4 landmark"),
        ({"action_low": (-1.0, -1.0)}, "holds"),
        ({"action_low": (0.0,), "action_high": (1.0,)}, "2 action"),
    ],
)
def test_another_schema_is_refused(tmp_path, schema, fill, episodes, change, words):
    fill(tmp_path / "store", episodes[:3])
    before = (tmp_path / "store" / "store.json").read_bytes()
    with (
        pytest.raises(UserError, match=f"{words}.*another --out"),
        writing(tmp_path / "store", replace(schema, **change), TASKS),
    ):
        pass
    assert (tmp_path / "store" / "store.json").read_bytes() == before
    assert len(Store(tmp_path / "store")) == 3


def test_a_task_with_other_settings_is_refused_and_a_new_task_is_not(tmp_path, schema, fill, episodes):
    fill(tmp_path / "store", episodes[:3])
    with (
        pytest.raises(UserError, match=r"toy/push.*recorded with horizon=5"),
        writing(tmp_path / "store", schema, {"toy/push": {"horizon": 6}}),
    ):
        pass
    with writing(tmp_path / "store", schema, {"toy/pull": {"horizon": 6}}):
        pass
    assert Store(tmp_path / "store").index.tasks == {"toy/push": {"horizon": 5}, "toy/pull": {"horizon": 6}}


FOREIGN = {
    "a file of a user": "notes.txt",
    "a zarr group": "data/img/zarr.json",
    "segments of somebody else": "segments/mine/data.bin",
    "something pending of somebody else": "pending/letter.txt",
}


@pytest.mark.parametrize("file", FOREIGN.values(), ids=FOREIGN)
def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path, schema, file):
    theirs = tmp_path / "out" / file
    theirs.parent.mkdir(parents=True)
    theirs.write_text("precious")
    with pytest.raises(UserError, match=r"not a store.*another --out"), writing(tmp_path / "out", schema, TASKS):
        pass
    assert theirs.read_text() == "precious"
    assert sum(path.is_file() for path in (tmp_path / "out").rglob("*")) == 1


def test_a_store_that_lost_its_index_is_refused_and_left_alone(tmp_path, schema, fill, episodes):
    fill(tmp_path / "store", episodes[:3])
    (tmp_path / "store" / "store.json").unlink()
    (tmp_path / "store" / "lock").unlink()
    before = sealed_files(tmp_path / "store")
    with pytest.raises(UserError, match="not a store"), writing(tmp_path / "store", schema, TASKS):
        pass
    assert sealed_files(tmp_path / "store") == before
    with pytest.raises(UserError, match=r"no store\.json"):
        Store(tmp_path / "store")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path, schema):
    (tmp_path / "out").write_text("precious")
    for path in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(UserError, match=str(path)), writing(path, schema, TASKS):
            pass
    assert (tmp_path / "out").read_text() == "precious"


@pytest.mark.parametrize(
    "left", [[], ["segments"], ["segments", "pending"], ["segments", "pending", ".store.json.7.tmp"]]
)
def test_a_store_whose_making_was_interrupted_is_made(tmp_path, fill, episodes, left):
    for name in left:
        (tmp_path / "store" / name).mkdir(parents=True)
    if "." in "".join(left):
        (tmp_path / "store" / left[-1]).rmdir()
        (tmp_path / "store" / left[-1]).write_text("{")
    assert len(fill(tmp_path / "store", episodes[:2])) == 2


def test_a_copy_without_its_empty_folders_is_written_to(tmp_path, fill, episodes):
    fill(tmp_path / "store", [])
    for name in ("segments", "pending"):
        (tmp_path / "store" / name).rmdir()
    assert len(Store(tmp_path / "store")) == 0
    assert not check_store(tmp_path / "store").damage
    assert len(fill(tmp_path / "store", episodes[:2])) == 2


HOLD = """
import sys
from pathlib import Path
from w4rl_fast.data.store import Store, writing
path = Path(sys.argv[1])
with writing(path, Store(path).schema, {}):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_is_refused_while_the_first_lives(tmp_path, schema, fill, episodes, python_environment):
    fill(tmp_path / "store", episodes[:2])
    command = [sys.executable, "-c", HOLD, str(tmp_path / "store")]
    with subprocess.Popen(
        command, env=python_environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process is writing"), writing(tmp_path / "store", schema, TASKS):
            pass
        assert len(Store(tmp_path / "store")) == 2, "readers are welcome"
        holder.kill()
    assert len(fill(tmp_path / "store", episodes[:3])) == 3


def test_two_writers_in_one_process_are_refused_too(tmp_path, schema):
    with (
        writing(tmp_path / "store", schema, TASKS),
        pytest.raises(UserError, match="another process"),
        writing(tmp_path / "store", schema, TASKS),
    ):
        pass


def test_a_missing_shard_is_refused_at_open(tmp_path, fill, episodes):
    fill(tmp_path / "store", episodes)
    rows = [file for file in (tmp_path / "store" / "segments").rglob("data/*/c/**/*") if file.is_file()]
    assert len(rows) == 5
    for file in rows:
        kept = file.read_bytes()
        file.unlink()
        with pytest.raises(UserError, match=f"{'/'.join(file.parts[-3:])}.*missing"):
            Store(tmp_path / "store")
        file.write_bytes(kept)
    assert len(Store(tmp_path / "store")) == len(episodes)


def test_any_other_missing_or_changed_file_is_refused_at_open(tmp_path, fill, episodes):
    """Rows apart: those are met when they are decoded."""
    fill(tmp_path / "store", episodes)
    describing = [
        file for file in sealed_files(tmp_path / "store") if "data" not in file.parts or "c" not in file.parts
    ]
    assert len(describing) > 8
    for name in [*describing, Path("store.json")]:
        file = tmp_path / "store" / name
        kept = file.read_bytes()
        for damage in (kept[:-1], kept[:-1] + bytes([kept[-1] ^ 4]), b""):
            file.write_bytes(damage)
            with pytest.raises(UserError, match=file.name):
                Store(tmp_path / "store")
        file.write_bytes(kept)


def test_a_changed_frame_is_refused_when_it_is_read(tmp_path, fill, episodes):
    store = fill(tmp_path / "store", episodes)
    file = next(store.path.rglob("data/img/c/0/0/0/0"))
    body = bytearray(file.read_bytes())
    body[100] ^= 1
    file.write_bytes(body)
    store = Store(store.path)
    with pytest.raises(UserError, match=store.keys[0]):
        store.read(0)


def test_a_folder_without_a_store_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(UserError, match=r"no store\.json"):
            Store(path)


# ---- a full disk


@pytest.mark.parametrize("call", range(1, 60, 7))
def test_a_disk_that_fills_up_keeps_what_was_finished(tmp_path, schema, episodes, same_episode, failing_disk, call):
    """Whichever write fails, the error says so, every finished episode is there, and the rest can follow."""
    finished = []
    path = tmp_path / "store"
    with writing(path, schema, TASKS):
        pass

    def append():
        with writing(path, schema, TASKS) as writer:
            for number, episode in enumerate(episodes[:8]):
                writer.add(episode)
                finished.append(episode.info.key)
                if number in (2, 5):
                    writer.seal()

    failing_disk(call)
    with pytest.raises(UserError, match=r"cannot write .*No space left on device"):
        append()
    failing_disk(0)
    store = Store(path)
    assert set(finished) <= set(store.keys)
    assert not check_store(path).damage
    append()
    store = Store(path)
    assert len(store) == 8
    assert all(same_episode(store.read(n), next(e for e in episodes if e.info.key == store.keys[n])) for n in range(8))


def test_a_disk_that_is_really_full_keeps_what_was_finished(small_disk, schema, make_episode, same_episode):
    finished = {}
    with (
        pytest.raises(UserError, match="No space left on device"),
        writing(small_disk / "store", schema, TASKS) as writer,
    ):
        for seed in range(1000):
            episode = make_episode(seed, length=100)
            writer.add(episode)
            finished[episode.info.key] = episode
    store = Store(small_disk / "store")
    assert len(finished) > 20
    assert set(store.keys) >= set(finished)
    assert all(
        same_episode(store.read(number), finished[key]) for number, key in enumerate(store.keys) if key in finished
    )
    assert not check_store(small_disk / "store").damage


def test_everything_reaches_the_disk_before_it_counts(tmp_path, schema, episodes, disk_log):
    """A machine that loses its power keeps what was synced: files first, then their names, then the index."""
    with writing(tmp_path / "store", schema, TASKS) as writer:
        writer.add(episodes[0])
        disk_log.clear()
    index = next(at for at, (what, path) in enumerate(disk_log) if what == "name" and path.name == "store.json")
    synced = {path for what, path in disk_log[:index] if what == "sync"}
    segment = tmp_path / "store" / "segments" / "000000"
    renamed = disk_log.index(("name", segment))
    assert ("sync", segment.parent) in disk_log[renamed:index]
    temporary = segment.with_name(".000000.tmp")
    inside = {path.relative_to(segment) for path in [segment, *segment.rglob("*")]}
    assert {path.relative_to(temporary) for path in synced if temporary in (path, *path.parents)} == inside


@pytest.mark.parametrize("when", ["before", "after"])
def test_ctrl_c_around_the_commit_of_a_seal_loses_nothing(
    tmp_path, schema, make_episode, monkeypatch, when, same_episode
):
    """The index on disk decides what counts, and no folder that it names is ever removed."""
    path, episodes = tmp_path / "store", [make_episode(seed) for seed in range(4)]
    publish, remove, commits = store_module.publish_index, shutil.rmtree, []

    def interrupted(*arguments):
        commits.append(arguments)
        if len(commits) == 3 and when == "before":
            raise KeyboardInterrupt
        publish(*arguments)
        if len(commits) == 3:
            raise KeyboardInterrupt

    def careful(folder):
        assert folder.name not in [entry.name for entry in store_module.read_index(path).segments]
        remove(folder)

    with writing(path, schema, TASKS) as writer:
        writer.add(episodes[0])
        writer.seal()
        monkeypatch.setattr(store_module, "publish_index", interrupted)
        monkeypatch.setattr(shutil, "rmtree", careful)
        commits += [None, None]
        for episode in episodes[1:]:
            writer.add(episode)
        with pytest.raises(KeyboardInterrupt):
            writer.seal()
    store = Store(path)
    assert [entry.episodes for entry in store.index.segments] == [4], "and none of them twice"
    assert all(same_episode(store.read(number), episode) for number, episode in enumerate(episodes))


# ---- kills

WORKING = """
import sys, time
from pathlib import Path
from w4rl_fast.data.pending import load_pending, save_pending

episodes = [load_pending(file) for file in sorted(Path(sys.argv[1]).iterdir())]
print("ready", flush=True)
for episode in episodes:
    save_pending(Path(sys.argv[2]), episode)
    time.sleep(0.003)
"""


def test_sealing_does_not_disturb_those_who_finish_episodes_meanwhile(
    tmp_path, schema, make_episode, python_environment, same_episode
):
    """Workers write into the folder of pending episodes all the time, and their half-written files are their own."""
    episodes = {episode.info.key: episode for episode in (make_episode(seed) for seed in range(200))}
    (tmp_path / "source").mkdir()
    for episode in episodes.values():
        save_pending(tmp_path / "source", episode)
    with writing(tmp_path / "store", schema, TASKS) as writer:
        command = [sys.executable, "-c", WORKING, tmp_path / "source", tmp_path / "store" / "pending"]
        with subprocess.Popen(
            command, env=python_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as worker:
            assert worker.stdout.readline() == "ready\n"
            half = tmp_path / "store" / "pending" / ".somebody.episode.7.tmp"
            while worker.poll() is None:
                half.write_bytes(b"half")
                writer.seal()
                assert half.exists(), "its owner is about to give it its name"
            assert worker.returncode == 0, worker.stderr.read()
    store = Store(tmp_path / "store")
    assert len(store.index.segments) == 1
    assert store.index.next_segment > 2
    assert set(store.keys) == set(episodes)
    assert all(same_episode(store.read(number), episodes[key]) for number, key in enumerate(store.keys))


APPENDING = """
import os, signal, sys
from pathlib import Path

import zarr

from w4rl_fast.data import store
from w4rl_fast.data.pending import load_pending
from w4rl_fast.data.store import Store, writing

store.SEGMENT_ROWS = 100
path, said = Path(sys.argv[1]), sys.argv[3]
episodes = [load_pending(file) for file in sorted(Path(sys.argv[2]).iterdir())]
CHANGING = os.O_WRONLY | os.O_RDWR


def die_at(kind, step):
    "Kill this process before it changes anything in the store, or only one of the names that count, for the n-th time."
    left = [step]
    naming = ("os.rename", "os.remove")
    counted = naming if kind == "name" else (*naming, "open", "os.mkdir", "os.rmdir")
    places = (path, path / "pending", path / "segments")

    def hook(event, arguments):
        if event not in counted or kind == "name" and Path(str(arguments[0])).parent not in places:
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & CHANGING):
            return
        if str(arguments[0]).startswith(str(path)):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def append(seal_every):
    log = os.open(said, os.O_WRONLY | os.O_APPEND)
    with writing(path, SCHEMA, {"toy/push": {"horizon": 5}}) as writer:
        there = writer.keys()
        for number, episode in enumerate(episode for episode in episodes if episode.info.key not in there):
            writer.add(episode)
            os.write(log, (episode.info.key + chr(10)).encode())
            if number % seal_every == seal_every - 1:
                writer.seal()


SCHEMA = store.read_index(path).schema
for line in sys.stdin:
    kind, value = line.split()
    child = os.fork()
    if not child:
        if kind != "seconds":
            die_at(kind, int(value))
        append(2)
        os._exit(0)
    if kind == "seconds":
        signal.setitimer(signal.ITIMER_REAL, float(value))
        signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    _, status = os.waitpid(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(status, flush=True)
"""


class Victim:
    """A process that appends to a store in children of its own, to be killed; `said` holds the keys it finished."""

    def __init__(self, folder, schema, episodes, environment):
        self.path, self.said = folder / "store", folder / "said"
        source = folder / "source"
        source.mkdir()
        for episode in episodes:
            save_pending(source, episode)
        self.episodes = {episode.info.key: episode for episode in episodes}
        self.read = set()
        with writing(self.path, schema, TASKS):
            pass
        self.said.touch()
        arguments = [str(self.path), str(source), str(self.said)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", APPENDING, *arguments],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def append(self, kind, value):
        """Append until the end or the kill; returns the exit status."""
        self.process.stdin.write(f"{kind} {value}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def check(self, same_episode):
        """Nothing that was finished is lost, nothing is half there."""
        store = Store(self.path)
        assert set(store.keys) >= set(self.said.read_text().split())
        for number, key in enumerate(store.keys):
            place = store._places[number]
            place = place if isinstance(place, Path) else (place[0].path, place[1])
            if place not in self.read:  # sealed or pending, it cannot change without check_store finding it
                assert same_episode(store.read(number), self.episodes[key])
                self.read.add(place)
        report = check_store(self.path)
        assert not report.damage
        assert report.episodes >= len(store), "one that is sealed and still pending counts twice"
        return store

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def victim(tmp_path, schema, python_environment):
    victims = []

    def make(episodes):
        victims.append(Victim(tmp_path, schema, episodes, python_environment))
        return victims[-1]

    yield make
    for each in victims:
        each.close()


def test_a_kill_at_any_moment_loses_no_finished_episode(victim, make_episode, same_episode):
    """Twenty random moments, on the way from an empty store to a large one; most of the time is spent sealing."""
    killed = victim([make_episode(seed) for seed in range(90)])
    rng = np.random.default_rng()
    moments, sizes = rng.uniform(0.005, 0.2, 20), [0]
    for moment in moments:
        assert killed.append("seconds", moment) in (0, 9), f"moments {moments}"
        sizes.append(len(killed.check(same_episode)))
    assert sizes == sorted(sizes)
    assert killed.append("seconds", 60) == 0
    assert len(killed.check(same_episode)) == 90
    assert not list((killed.path / "pending").iterdir())


def check_every_step(victim, make_episode, same_episode, tmp_path, kind):
    """Kill before the n-th change of the disk, for every n up to the last one; then finish the work."""
    killed = victim([make_episode(seed, length=4) for seed in range(4)])
    fresh = tmp_path / "fresh"
    shutil.copytree(killed.path, fresh)
    for step in itertools.count(1):
        shutil.rmtree(killed.path)
        shutil.copytree(fresh, killed.path)
        killed.said.write_text("")
        killed.read.clear()
        status = killed.append(kind, step)
        killed.check(same_episode)
        assert killed.append("step", 10**9) == 0
        store = killed.check(same_episode)
        assert len(store) == 4
        left = {path.name for path in killed.path.iterdir()} | {
            path.name for path in (killed.path / "segments").iterdir()
        }
        assert left == {"lock", "pending", "segments", "store.json"} | {entry.name for entry in store.index.segments}
        if status == 0:
            break
        assert status == 9
    return step


def test_a_kill_before_any_file_gets_or_loses_its_name_loses_nothing(victim, make_episode, same_episode, tmp_path):
    """These are the moments at which what counts changes."""
    assert check_every_step(victim, make_episode, same_episode, tmp_path, "name") > 10


@pytest.mark.slow
def test_a_kill_between_any_two_changes_loses_nothing(victim, make_episode, same_episode, tmp_path):
    assert check_every_step(victim, make_episode, same_episode, tmp_path, "step") > 60


def test_store_json_says_what_the_documentation_says(tmp_path, fill, episodes):
    fill(tmp_path / "store", episodes[:3])
    said = json.loads((tmp_path / "store" / "store.json").read_text())
    assert (said["format"], said["version"]) == ("w4rl-store", 1)
    assert said["schema"] == {
        "image_size": 8,
        "action_low": [-1, -0.5],
        "action_high": [1, 2],
        "proprio_dim": 3,
        "landmark_dim": 4,
    }
    assert said["segments"][0]["episodes"] == 3
    assert not list((tmp_path / "store" / "pending").iterdir())


def test_it_opens_at_any_moment_while_another_seals(tmp_path, make_episode, schema):
    """Every opening finds at least the episodes that were finished before it, and never half of a change."""
    path = tmp_path / "store"
    stop, finished = threading.Event(), []

    def keep_sealing():
        with writing(path, schema, {}) as writer:
            for seed in itertools.count():
                if stop.is_set():
                    return
                writer.add(make_episode(seed))
                finished.append(seed)
                writer.seal()

    with writing(path, schema, {}) as writer:
        writer.add(make_episode(10**6))
    thread = threading.Thread(target=keep_sealing)
    thread.start()
    try:
        for _ in range(60):
            before = len(finished)
            assert len(Store(path)) >= before + 1
    finally:
        stop.set()
        thread.join()
