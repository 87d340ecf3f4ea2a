"""What several rooms share: small made-up episodes and stores, and the command line in and out of this process."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Without a GPU, Triton's kernels run through its interpreter; that is decided when anything first imports triton.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
# Most tests of stores wait for the disk and nothing else: memory answers at once. It has to hold some hundred MB.
MEMORY_DISK = Path("/dev/shm")  # noqa: S108
if MEMORY_DISK.is_dir() and shutil.disk_usage(MEMORY_DISK).free > 2 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY_DISK))

ROOT = Path(__file__).parents[1]
SOURCES = ("expert", "noisy", "random")


def same_episode(first, second):
    """Whether two episodes are equal in every bit and in where they come from."""
    arrays = ("frames", "actions", "proprio", "success", "landmarks")
    pairs = [(getattr(first, name), getattr(second, name)) for name in arrays]
    equal = all(one is other or (one.dtype == other.dtype and np.array_equal(one, other)) for one, other in pairs)
    return equal and first.info == second.info


@pytest.fixture(scope="session", autouse=True)
def short_timings():
    """No test asserts a time, so engines that are built in them are not timed for a second each."""
    from w4rl_engines import latency

    latency.BUDGET_S = 0.0


@pytest.fixture(scope="session", name="same_episode")
def fixture_same_episode():
    return same_episode


@pytest.fixture(scope="session")
def schema():
    from w4rl_fast.data.episode import Schema

    return Schema(image_size=8, action_low=(-1.0, -0.5), action_high=(1.0, 2.0), proprio_dim=3, landmark_dim=4)


@pytest.fixture(scope="session")
def make_episode(schema):
    """A made-up episode whose every pixel, action, proprioception and landmark tells its seed and its row."""
    from w4rl_fast.data.episode import Episode, EpisodeInfo

    def make(seed, *, length=None, task="toy/push", source="expert", origin="", size=schema.image_size):
        rng = np.random.default_rng(seed)
        rows = np.arange(length or 3 + seed % 7)
        frames = rng.integers(0, 256, (len(rows), size, size, 3), np.uint8)
        frames[..., 0], frames[..., 1] = seed % 256, rows[:, None, None] % 256
        actions = np.stack([rows / 1024, np.full(len(rows), -(seed % 64) / 64)], 1).astype(np.float32)
        actions[-1] = 0
        proprio = np.stack([rows, np.full(len(rows), seed), rng.normal(size=len(rows))], 1).astype(np.float32)
        landmarks = proprio[:, [1, 0, 2, 2]] / 1024
        success = rows >= len(rows) - seed % 3
        info = EpisodeInfo(task=task, source=source, seed=seed, succeeded=bool(seed % 3), origin=origin)
        return Episode(frames, actions, proprio, success, info, landmarks)

    return make


@pytest.fixture(scope="session")
def fill(schema):
    """Write episodes into a store, sealing after every so many, and open it."""
    from w4rl_fast.data.store import Store, writing

    def write(path, episodes, *, seal_every=None):
        tasks = {episode.info.task: {"horizon": 5} for episode in episodes}
        with writing(path, schema, tasks) as writer:
            for number, episode in enumerate(episodes, 1):
                writer.add(episode)
                if seal_every and number % seal_every == 0:
                    writer.seal()
        return Store(path)

    return write


@pytest.fixture(scope="session")
def mixed_episodes(make_episode):
    """Sixty episodes of two tasks and three sources."""
    return [
        make_episode(seed, task=f"toy/{'push' if seed % 4 else 'pull'}", source=SOURCES[seed % 3]) for seed in range(60)
    ]


@pytest.fixture(scope="session")
def mixed_store(tmp_path_factory, fill, mixed_episodes):
    """The sixty episodes in a sealed store, to be read only."""
    return fill(tmp_path_factory.mktemp("mixed") / "store", mixed_episodes)


@pytest.fixture(scope="session")
def python_environment():
    """The environment of another process that imports this tree."""
    paths = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "engines")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture(scope="session")
def run_python(python_environment):
    """Run code in a process of its own; returns what it printed."""

    def run(code, *arguments):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(command, env=python_environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def cli():
    """Call `w4rl` in this process; the result has exit_code, stdout and stderr."""
    from click.testing import CliRunner

    from w4rl_fast.cli import main

    def call(*arguments):
        return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="w4rl")

    return call


@pytest.fixture(scope="session")
def refusal(cli):
    """Call `w4rl` with bad input; returns its one line on stderr, after checking that it is one and the exit code 2."""

    def call(*arguments):
        result = cli(*arguments)
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1, result.stderr
        assert "Traceback" not in result.output
        return result.stderr

    return call


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of one megabyte; skipped where nobody may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    except OSError as error:
        pytest.skip(f"no small disk: {error}")
    if mounted.returncode:
        pytest.skip(f"no small disk: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def failing_disk(monkeypatch):
    """Let the nth fsync from now on, and all that follow, find the disk full; 0 heals it."""
    real = os.fsync
    state = {"left": None}

    def fsync(descriptor):
        if state["left"] is not None:
            state["left"] -= 1
            if state["left"] <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    def fail_at(call):
        state["left"] = call or None

    monkeypatch.setattr(os, "fsync", fsync)
    return fail_at


@pytest.fixture
def disk_log(monkeypatch):
    """What is brought to the disk and what takes its name, in order: ("sync" or "name", path)."""
    log = []
    fsync, replace, rename = os.fsync, os.replace, os.rename

    def logged_fsync(descriptor):
        log.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def logged(real):
        def call(source, target):
            log.append(("name", Path(target)))
            real(source, target)

        return call

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "replace", logged(replace))
    monkeypatch.setattr(os, "rename", logged(rename))
    return log
