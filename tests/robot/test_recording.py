"""A journal of a robot's turns: what it holds after a crash at any byte, and how it gets into a store."""

import json
import os
import signal
import subprocess
import sys
import zlib

import numpy as np
import pytest

from w4rl_fast.data.episode import EpisodeInfo, Schema
from w4rl_fast.data.store import Store, writing
from w4rl_fast.errors import UserError
from w4rl_fast.robot.camera import Shot
from w4rl_fast.robot.recording import FOLDER, HEAD, MAGIC, SUFFIX, Journal, Recorder, read_journal, recover

INFO = EpisodeInfo(task="toy/push", source="policy", seed=7, succeeded=False, origin="0123-robot")
SCHEMA = Schema(image_size=8, action_low=(-1.0, -1.0), action_high=(1.0, 1.0), proprio_dim=3)


def row(number):
    """The frame, action, proprioception and success of a turn."""
    rng = np.random.default_rng(number)
    frame = rng.integers(0, 256, (8, 8, 3), np.uint8)
    return frame, rng.uniform(-1, 1, 2).astype(np.float32), rng.normal(size=3).astype(np.float32), number % 3 == 2


def written(path, count, info=INFO):
    journal = Journal(path, info)
    sizes = [path.stat().st_size]
    for number in range(count):
        journal.add(*row(number))
        sizes.append(path.stat().st_size)
    journal.close()
    return sizes


def assert_rows(episode, count, info=INFO):
    """The first rows, and nothing of any other; no action follows the last observation."""
    assert len(episode) == count
    assert episode.info == info
    for number in range(count):
        frame, action, proprio, success = row(number)
        np.testing.assert_array_equal(episode.frames[number], frame)
        np.testing.assert_array_equal(episode.actions[number], action if number < count - 1 else 0 * action)
        np.testing.assert_array_equal(episode.proprio[number], proprio)
        assert episode.success[number] == success


@pytest.fixture
def path(tmp_path):
    return tmp_path / FOLDER / (INFO.key + SUFFIX)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def opened(store):
    return writing(store, SCHEMA, {"toy/push": {"horizon": 5}})


# ---- the file


def test_a_journal_read_back_is_what_was_written(path) -> None:
    written(path, 5)
    assert_rows(read_journal(path), 5)


def test_every_turn_is_in_the_file_before_the_next(path) -> None:
    journal = Journal(path, INFO)
    for number in range(4):
        journal.add(*row(number))
        assert_rows_or_none(path, number + 1)
    journal.close()


def assert_rows_or_none(path, count):
    episode = read_journal(path)
    if count < 2:
        assert episode is None, "not a single action"
    else:
        assert_rows(episode, count)


def test_a_cut_at_any_byte_leaves_the_whole_records_before_it(path) -> None:
    sizes = written(path, 3)
    blob = path.read_bytes()
    assert sizes[-1] == len(blob)
    for cut in range(len(blob) + 1):
        path.write_bytes(blob[:cut])
        assert_rows_or_none(path, sum(size <= cut for size in sizes[1:]))


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_bit_ends_it_at_its_record(path, seed) -> None:
    sizes = written(path, 3)
    blob = path.read_bytes()
    rng = np.random.default_rng(seed)
    for at in rng.choice(len(blob), 150, replace=False):
        flipped = bytearray(blob)
        flipped[at] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        whole = sum(size <= at for size in sizes) - 1
        assert_rows_or_none(path, max(0, whole))


def test_a_record_whose_length_lies_ends_it(path) -> None:
    written(path, 3)
    with open(path, "ab") as file:
        file.write(HEAD.pack(1 << 31, 0) + b"x" * 50)
    assert_rows(read_journal(path), 3)
    with open(path, "ab") as file:
        file.write(HEAD.pack(0, zlib.crc32(b"")))
    assert_rows(read_journal(path), 3)


def test_an_empty_or_foreign_file_is_no_episode(path) -> None:
    path.parent.mkdir()
    for blob in (b"", MAGIC, b"W4RLEP01" + b"x" * 99):
        path.write_bytes(blob)
        assert read_journal(path) is None


# ---- into the store


def test_an_interrupted_episode_gets_into_the_store_once(store) -> None:
    with opened(store) as writer:
        written(store / FOLDER / (INFO.key + SUFFIX), 4)
        other = EpisodeInfo(**{**vars_of(INFO), "seed": 8})
        written(store / FOLDER / (other.key + SUFFIX), 1, other)
    with opened(store) as writer:
        assert recover(writer) == [INFO.key]
        assert recover(writer) == []
        assert list((store / FOLDER).iterdir()) == []
    kept = Store(store)
    assert kept.keys == [INFO.key]
    assert_rows(kept.read(0), 4)


def vars_of(info):
    return {name: getattr(info, name) for name in info.__slots__}


def test_a_journal_of_an_episode_that_the_store_has_adds_nothing(store) -> None:
    """As when a crash came between keeping it and removing its journal."""
    with opened(store) as writer:
        for _ in range(2):
            written(store / FOLDER / (INFO.key + SUFFIX), 4)
            recover(writer)
    assert len(Store(store)) == 1


def shot_of(number):
    return Shot(row(number)[0], number)


class Turn:
    """What a recorder takes of a turn."""

    def __init__(self, number):
        self.shot, (_, self.action, self.proprio, _) = shot_of(number), row(number)


def recorded(writer, turns, judge=lambda: False, end=True, info=INFO):
    recorder = Recorder(writer, info, judge)
    for number in range(turns):
        recorder.turn(Turn(number))
    if end:
        recorder.end(None, shot_of(turns), row(turns)[2])
    return recorder


@pytest.mark.parametrize("succeeded", [True, False])
def test_an_episode_that_is_kept_says_whether_it_succeeded(store, succeeded) -> None:
    with opened(store) as writer:
        looks = iter([False, False, succeeded, False, False])
        recorder = recorded(writer, 4, lambda: next(looks))
        assert recorder.succeeded is succeeded
        assert recorder.keep(recorder.succeeded) is True
        assert list((store / FOLDER).iterdir()) == []
    kept = Store(store)
    episode = kept.read(0)
    assert (kept.infos[0].succeeded, kept.keys, len(episode)) == (succeeded, [INFO.key], 5)
    assert episode.success.tolist() == [False, False, succeeded, False, False]
    np.testing.assert_array_equal(episode.actions[:4], [row(number)[1] for number in range(4)])
    np.testing.assert_array_equal(episode.actions[4], 0)
    np.testing.assert_array_equal(episode.proprio[4], row(4)[2])


def test_an_episode_without_an_action_is_not_kept(store) -> None:
    with opened(store) as writer:
        assert recorded(writer, 0).keep(True) is False
        assert list((store / FOLDER).iterdir()) == []
    assert len(Store(store)) == 0


def test_an_episode_that_the_store_has_is_refused_before_anything_is_written(store) -> None:
    with opened(store) as writer:
        recorded(writer, 2).keep(False)
        with pytest.raises(UserError, match="the store has it already"):
            Recorder(writer, INFO, lambda: False)
        assert list((store / FOLDER).iterdir()) == []


# ---- what goes wrong


WRITER = """
import sys
from pathlib import Path
from tests.robot.test_recording import INFO, Journal, row
journal = Journal(Path(sys.argv[1]), INFO)
for number in range(100000):
    print(number, flush=True)
    journal.add(*row(number))
"""


def test_a_writer_that_is_killed_loses_at_most_the_turn_in_progress(path, python_environment) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], env=python_environment, stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if int(line) == 20:
            break
    os.kill(process.pid, signal.SIGKILL)
    told = [int(line) for line in process.stdout]
    process.wait()
    begun = told[-1] if told else 20
    episode = read_journal(path)
    assert begun <= len(episode) <= begun + 1
    assert_rows(episode, len(episode))


def test_a_full_disk_is_told_and_what_was_written_before_is_whole(small_disk) -> None:
    path = small_disk / FOLDER / (INFO.key + SUFFIX)
    journal = Journal(path, INFO)
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    added = 0
    with pytest.raises(UserError, match=r"cannot write .*journal"):
        for _ in range(200):
            journal.add(frame, *row(0)[1:])
            added += 1
    with pytest.raises(UserError, match="cannot write"):
        journal.add(frame, *row(0)[1:])
    journal.close()
    assert 10 < added < 100
    assert len(read_journal(path)) == added


def test_what_fits_after_a_part_of_a_record_is_not_mistaken_for_the_next(path) -> None:
    """A disk that took a part of one turn and then, with room again, all of the next: neither is believed."""
    journal = Journal(path, INFO)
    journal.add(*row(0))
    journal.add(*row(1))
    real = journal._file

    class Short:
        def write(self, record):
            return real.write(record[: len(record) // 2])

    journal._file = Short()
    with pytest.raises(UserError, match="took a part of it"):
        journal.add(*row(2))
    journal._file = real
    journal.add(*row(3))
    journal.close()
    assert_rows(read_journal(path), 2)


def test_a_folder_that_cannot_be_written_is_told(tmp_path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UserError, match="cannot write"):
        Journal(tmp_path / "file" / "x.journal", INFO)


def test_what_an_episode_is_called_is_its_first_record(path) -> None:
    written(path, 1)
    blob = path.read_bytes()
    length, _ = HEAD.unpack_from(blob, len(MAGIC))
    assert json.loads(blob[len(MAGIC) + HEAD.size :][:length]) == vars_of(INFO)
