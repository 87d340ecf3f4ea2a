import shutil
import struct

import numpy as np
import pytest

from w4rl_fast.data.cache import decoded
from w4rl_fast.data.check import check_store
from w4rl_fast.data.pending import save_pending
from w4rl_fast.data.store import Store
from w4rl_fast.errors import UserError

CHUNK, SHARD = 4, 40


@pytest.fixture(scope="module")
def whole(tmp_path_factory, fill, make_episode):
    """A store of everything there can be: two sealed segments of several shards, a pending episode, a cache."""
    path = tmp_path_factory.mktemp("check") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("w4rl_fast.data.segment.CHUNK", CHUNK)
        patch.setattr("w4rl_fast.data.segment.SHARD", SHARD)
        patch.setattr("w4rl_fast.data.store.SEGMENT_ROWS", 100)
        fill(path, [make_episode(seed, length=5 + seed % 4) for seed in range(20)], seal_every=10)
    decoded(Store(path))
    save_pending(path / "pending", make_episode(90))
    return path


@pytest.fixture
def copied(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "store")
    return tmp_path / "store"


def files_of(path):
    return sorted(file for file in path.rglob("*") if file.is_file() and "lock" not in file.name)


def flip(file, at, bit=0):
    body = bytearray(file.read_bytes())
    body[at] ^= 1 << bit
    file.write_bytes(body)


def test_a_whole_store_has_no_damage(whole):
    report = check_store(whole)
    assert (report.damage, report.notes) == ([], [])
    store = Store(whole)
    assert (report.episodes, report.rows) == (len(store), sum(store.lengths))
    kinds = {file.relative_to(whole).parts[0] for file in files_of(whole)}
    assert kinds == {"store.json", "segments", "pending", "cache"}
    assert len(store.segments) == 2
    assert len(list(whole.rglob("data/img/c/*/0/0/0"))) >= 4


def check_flip(path, file, at, bit):
    """A flipped bit is found in the file it is in, and in no other."""
    kept = file.read_bytes()
    flip(file, at, bit)
    found = check_store(path).damage
    file.write_bytes(kept)
    assert [damage.file for damage in found] == [file.relative_to(path).as_posix()], f"{file} {at} {bit}"
    return found[0]


def test_a_flipped_byte_is_found_at_twenty_random_places(whole, copied):
    """Places drawn over all bytes of all files, so most lie in frames and their cache."""
    files = files_of(copied)
    sizes = np.cumsum([file.stat().st_size for file in files])
    rng = np.random.default_rng()
    for place in rng.integers(sizes[-1], size=20):
        number = int(np.searchsorted(sizes, place, side="right"))
        at = int(place - (sizes[number - 1] if number else 0))
        check_flip(copied, files[number], at, int(rng.integers(8)))
    assert not check_store(copied).damage
    assert files_of(whole)


def test_a_flipped_bit_is_found_in_every_file(copied):
    rng = np.random.default_rng()
    for file in files_of(copied):
        size = file.stat().st_size
        for at in {0, size - 1, int(rng.integers(size))}:
            check_flip(copied, file, at, int(rng.integers(8)))


def chunks_of(file, length):
    """First byte, size and number of every chunk in a shard, read from the index at its end."""
    body = file.read_bytes()
    count = SHARD // CHUNK
    index = np.array(struct.unpack(f"<{2 * count}Q", body[-16 * count - 4 : -4]), dtype=np.uint64).reshape(-1, 2)
    used = [(int(first), int(size), number) for number, (first, size) in enumerate(index) if first != 2**64 - 1]
    assert sum(size for _, size, _ in used) + 16 * count + 4 == len(body) == length
    return used


def rows_of(segment, first, last):
    """The episodes of a segment that have rows in [first, last)."""
    spans = map(segment.rows, range(len(segment.infos)))
    return {info.key for info, (start, end) in zip(segment.infos, spans, strict=True) if start < last and end > first}


def test_a_flip_in_the_frames_names_exactly_the_episodes_of_that_chunk(copied):
    store = Store(copied)
    rng = np.random.default_rng()
    named = 0
    for segment in store.segments:
        for file in sorted(segment.path.glob("data/img/c/*/0/0/0")):
            shard = int(file.parts[-4])
            for first, size, number in chunks_of(file, file.stat().st_size):
                start = shard * SHARD + number * CHUNK
                damage = check_flip(copied, file, first + int(rng.integers(size)), int(rng.integers(8)))
                assert set(damage.episodes) == rows_of(segment, start, start + CHUNK)
                named += 1
    assert named > 20


def test_a_flip_in_the_index_of_a_shard_names_every_episode_in_it(copied):
    store = Store(copied)
    segment = store.segments[0]
    file = segment.path / "data" / "img" / "c" / "0" / "0" / "0" / "0"
    damage = check_flip(copied, file, file.stat().st_size - 10, 3)
    assert set(damage.episodes) == rows_of(segment, 0, SHARD)


@pytest.mark.parametrize("array", ["img", "action", "state", "success", "landmarks"])
@pytest.mark.parametrize("left", [0, 10, -1])
def test_a_cut_shard_is_found_and_names_its_episodes(copied, array, left):
    store = Store(copied)
    segment = store.segments[0]
    file = next(file for file in sorted((segment.path / "data" / array / "c").rglob("*")) if file.is_file())
    file.write_bytes(file.read_bytes()[:left])
    (damage,) = check_store(copied).damage
    assert damage.file == file.relative_to(copied).as_posix()
    rows = SHARD if array == "img" else 10**6
    assert set(damage.episodes) == rows_of(segment, 0, rows)


def test_any_missing_file_of_a_segment_or_a_cache_is_found(copied):
    store = Store(copied)
    for file in [file for file in files_of(copied) if file.relative_to(copied).parts[0] in ("segments", "cache")]:
        kept = file.read_bytes()
        file.unlink()
        (damage,) = check_store(copied).damage
        assert damage.file == file.relative_to(copied).as_posix()
        assert damage.file.startswith("cache") or damage.episodes
        file.write_bytes(kept)
    assert not check_store(copied).damage
    assert len(store) == 21


def test_a_missing_segment_is_found(copied):
    store = Store(copied)
    shutil.rmtree(copied / "segments" / store.segments[0].path.name)
    (damage,) = check_store(copied).damage
    assert "all 10 episodes" in damage.episodes[0]
    shutil.rmtree(copied / "segments")
    assert len(check_store(copied).damage) == 2


def test_a_damaged_pending_episode_is_named(copied, make_episode):
    key = make_episode(90).info.key
    flip(copied / "pending" / f"{key}.episode", 60)
    (damage,) = check_store(copied).damage
    assert damage.episodes == (key,)


def test_several_damaged_files_are_all_found(copied):
    spoilt = [file for file in files_of(copied) if file.parts[-2] == "0" or file.suffix == ".raw"][:6]
    for file in spoilt:
        flip(file, 5)
    found = {damage.file for damage in check_store(copied).damage}
    assert found == {file.relative_to(copied).as_posix() for file in spoilt}


def test_what_an_interrupted_append_left_is_a_note_and_no_damage(copied):
    (copied / "segments" / ".000009.tmp").mkdir()
    report = check_store(copied)
    assert not report.damage
    assert len(report.notes) == 1


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no store\.json"):
        check_store(tmp_path)


def test_checking_changes_nothing(copied):
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files_of(copied)}
    check_store(copied)
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files_of(copied)} == before
