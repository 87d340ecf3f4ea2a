import pytest

from w4rl_fast.errors import UserError
from w4rl_fast.files import disk_errors, publish, sync_tree

OLD, NEW = b"old" * 1000, b"new" * 5000


def test_what_is_published_is_there_alone(tmp_path):
    publish(tmp_path / "file", OLD)
    publish(tmp_path / "file", NEW)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == NEW


KILLED_AT_EVERY_STEP = """
import os, signal, sys
from pathlib import Path
from w4rl_fast.files import publish

folder, old, new = Path(sys.argv[1]), b"old" * 1000, b"new" * 5000
changing = os.O_WRONLY | os.O_RDWR

def die_at(step):
    left = [step]

    def hook(event, arguments):
        if event in ("os.rename", "os.remove") or event == "open" and arguments[2] & changing:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)

for step in range(1, 20):
    path = folder / str(step)
    path.write_bytes(old)
    if not (child := os.fork()):
        die_at(step)
        publish(path, new)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert path.read_bytes() in (old, new), step
    if status == 0:
        print(step, path.read_bytes() == new)
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
"""


def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path, run_python):
    steps, arrived = run_python(KILLED_AT_EVERY_STEP, tmp_path).split()
    assert int(steps) > 2
    assert arrived == "True"


def test_bytes_reach_the_disk_before_the_name_and_the_name_before_the_return(tmp_path, disk_log):
    publish(tmp_path / "file", NEW)
    (first, written), (second, named), (third, folder) = disk_log
    assert (first, second, third) == ("sync", "name", "sync")
    assert written.parent == tmp_path
    assert (named, folder) == (tmp_path / "file", tmp_path)


@pytest.mark.parametrize("step", [1, 2])
def test_a_full_disk_is_a_clear_error_and_loses_nothing(tmp_path, failing_disk, step):
    publish(tmp_path / "file", OLD)
    failing_disk(step)
    with pytest.raises(UserError, match=r"cannot write .*file: .*No space left on device.*Free some space"):
        publish(tmp_path / "file", NEW)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == (OLD if step == 1 else NEW)


def test_a_disk_that_is_really_full_keeps_the_old_file(small_disk):
    publish(small_disk / "file", OLD)
    with pytest.raises(UserError, match="No space left on device"):
        publish(small_disk / "file", NEW * 1000)
    assert [path.name for path in small_disk.iterdir()] == ["file"]
    assert (small_disk / "file").read_bytes() == OLD


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        publish(tmp_path / "nowhere" / "file", NEW)


def test_other_errors_pass_through_unchanged(tmp_path):
    with pytest.raises(KeyError), disk_errors(tmp_path):
        raise KeyError


def test_a_tree_is_brought_to_the_disk_whole(tmp_path, disk_log):
    for name in ("a", "b/c", "b/d/e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(OLD)
    sync_tree(tmp_path)
    assert {path for _, path in disk_log} == {tmp_path, *tmp_path.rglob("*")}
