import functools
import gc
import getpass
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from w4rl_fast import measure
from w4rl_fast.errors import UserError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only moves when a test moves its single entry."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_timing_is_the_order_statistics_of_the_samples_after_warm_up(clock: list[float]) -> None:
    calls = iter(range(1000))

    def slower_each_time() -> None:
        clock[0] += next(calls)

    timing = measure.time_blocks({"only": slower_each_time}, warmup=4, samples=150)["only"]
    durations = range(4, 154)
    assert timing.samples == len(durations)
    assert timing.median_s == statistics.median(durations)
    assert timing.minimum_s == min(durations)
    assert sum(duration <= timing.p99_s for duration in durations) == math.ceil(0.99 * 150)


def test_alternatives_take_turns_and_each_is_equally_often_first() -> None:
    calls: list[str] = []
    names = ["a", "b", "c"]
    measure.time_blocks({name: functools.partial(calls.append, name) for name in names}, warmup=2, samples=4)
    rounds = [calls[start : start + 3] for start in range(0, len(calls), 3)]
    assert [sorted(turn) for turn in rounds] == [names] * 6
    assert sorted(turn[0] for turn in rounds) == sorted(names * 2)


def test_what_the_device_still_owes_counts_for_the_one_that_asked(clock: list[float]) -> None:
    owed = [0.0]

    def launch(seconds: float) -> None:
        owed[0] += seconds

    def synchronize() -> None:
        clock[0] += owed[0]
        owed[0] = 0.0

    alternatives = {"long": lambda: launch(5.0), "short": lambda: launch(1.0)}
    timings = measure.time_blocks(alternatives, synchronize=synchronize)
    assert (timings["long"].median_s, timings["short"].p99_s) == (5.0, 1.0)


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_off_while_timing_and_as_before_after_it(enabled: bool) -> None:
    seen: list[bool] = []

    def fail_at_last() -> None:
        seen.append(gc.isenabled())
        if len(seen) == 5:
            raise RuntimeError

    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(RuntimeError):
            measure.time_blocks({"a": fail_at_last})
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
    assert seen == [False] * 5


@pytest.mark.parametrize(("names", "warmup", "samples"), [("a", 0, 0), ("a", -1, 1), ("", 0, 1)])
def test_impossible_counts_are_refused(names: str, warmup: int, samples: int) -> None:
    with pytest.raises(UserError):
        measure.time_blocks({name: lambda: None for name in names}, warmup=warmup, samples=samples)


def test_memory_readings_see_what_is_held_and_what_was_held() -> None:
    size = 256 * 2**20
    before = measure.resident_bytes()
    block = np.ones(size, dtype=np.uint8)
    during = measure.resident_bytes()
    assert during.total - before.total > 0.9 * size
    del block
    after = measure.resident_bytes()
    assert during.total - after.total > 0.5 * size  # others may hold on to more meanwhile
    assert measure.peak_memory_bytes() > 0.99 * during.total
    if during.anonymous is not None and during.file is not None and during.shared is not None:
        assert during.anonymous + during.file + during.shared == during.total
        assert before.anonymous is not None
        assert during.anonymous - before.anonymous > 0.9 * size


def test_memory_readings_without_proc_fall_back_to_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    told = measure.peak_memory_bytes()
    monkeypatch.setattr(measure, "_read", lambda _: "")
    assert measure.peak_memory_bytes() > 0.9 * told
    assert measure.resident_bytes() == measure.Resident(total=measure.peak_memory_bytes())


def test_the_roofline_is_positive_and_leaves_the_threads_as_they_were() -> None:
    import torch

    before = torch.get_num_threads()
    peaks = measure.roofline(before + 1)
    assert torch.get_num_threads() == before
    assert set(peaks) == {"gemm_fp32_gflops", "gemm_bf16_gflops", "copy_gb_per_s"}
    assert all(peak > 0 for peak in peaks.values())


def test_the_card_names_no_machine_user_or_folder() -> None:
    card = measure.environment_card()
    text = json.dumps(card)
    words = json.dumps([value for value in card.values() if isinstance(value, str)])
    assert platform.node() not in words or len(platform.node()) < 3
    assert str(Path.home()) not in text
    assert str(Path.cwd()) not in text
    assert getpass.getuser() not in words
    assert {"cpu", "physical_cores", "memory_bytes", "python", "packages", "git", "date_utc"} <= set(card)


def test_the_commit_is_told_only_for_a_checkout_that_tracks_the_package(tmp_path: Path) -> None:
    def git(*command: str) -> None:
        identity = ["-c", "user.name=n", "-c", "user.email=e"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *command], check=True, capture_output=True)

    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    assert measure._git_state(package) is None
    git("init")
    assert measure._git_state(package) is None
    git("add", ".")
    git("commit", "-m", "first")
    state = measure._git_state(package)
    assert state is not None
    assert not state["dirty"]
    results = tmp_path / "bench" / "results"
    results.mkdir(parents=True)
    (results / "speed.json").touch()
    assert measure._git_state(package) == state
    (tmp_path / "new.py").touch()
    assert measure._git_state(package) == {**state, "dirty": True}


def test_a_result_is_written_with_its_card_and_ends_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    timing = measure.Timing(median_s=1.0, p10_s=0.6, p99_s=2.0, minimum_s=0.5, samples=3)
    print("some words")
    path = measure.write_result("speed", {"ratio": np.float32(1.5), "count": np.int64(3), "timing": timing})
    expected = {
        "ratio": 1.5,
        "count": 3,
        "timing": {"median_s": 1.0, "p10_s": 0.6, "p99_s": 2.0, "minimum_s": 0.5, "samples": 3},
    }
    assert path == tmp_path / "bench" / "results" / "speed.json"
    written = json.loads(path.read_text())
    assert (written["name"], written["result"]) == ("speed", expected)
    assert written["environment"]["python"] == platform.python_version()
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == expected


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b"])
def test_a_result_stays_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="name"):
        measure.write_result(name, {})
    assert list(tmp_path.iterdir()) == []


def test_the_small_modules_load_nothing_heavy() -> None:
    modules = ("config", "measure", "metrics", "progress", "doctor", "cli.doctor")
    lines = [f"import sys, w4rl_fast.{module}" for module in modules]
    probe = "print({'torch', 'zarr', 'mujoco', 'numba', 'numpy', 'rich'} & sys.modules.keys())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command_line = [sys.executable, "-c", "\n".join([*lines, probe])]
    output = subprocess.run(command_line, env=environment, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "set()"
