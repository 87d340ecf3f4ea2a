"""A refinement that is killed, interrupted or finds the disk full goes on, and ends as if nothing had happened."""

import dataclasses
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from w4rl_fast.errors import UserError
from w4rl_fast.policy import save_policy
from w4rl_fast.refine import PPO, refine
from w4rl_fast.refine.checkpoint import CHECKPOINT

FILES = ("best/policy.safetensors", "last/policy.safetensors", "value/value.safetensors", "metrics.jsonl")
REFINE = """
import dataclasses, runpy, signal, sys, tempfile
from pathlib import Path
from w4rl_fast.policy import load_policy
from w4rl_fast.refine import PPO, refine

toy, clone, folder, iterations, save_seconds = sys.argv[1:]
toy = runpy.run_path(toy)
config = dataclasses.replace(toy["CONFIG"], iterations=int(iterations), save_seconds=float(save_seconds))
line, policy = toy["Line"](config.worlds), load_policy(Path(clone))
with tempfile.TemporaryDirectory() as warm_up:  # the first step of an optimizer imports half of torch
    refine(PPO(policy, line, dataclasses.replace(config, iterations=2), Path(warm_up)), line.success)
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored
print("ready", flush=True)
refine(PPO(policy, line, config, Path(folder)), line.success)
"""


def same(one: Path, other: Path) -> None:
    for name in FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert not list(one.rglob("*.tmp")), "what was half written is cleared away"


@pytest.fixture
def begin(clone, tmp_path, python_environment):
    """Refine into a folder in a process of its own, which has just begun to."""
    save_policy(tmp_path / "clone", clone)

    def begin(folder, save_seconds=0.0, iterations=40) -> subprocess.Popen:
        toy = Path(__file__).with_name("conftest.py")
        given = [toy, tmp_path / "clone", tmp_path / folder, iterations, save_seconds]
        command = [sys.executable, "-c", REFINE, *map(str, given)]
        with (tmp_path / "said").open("w") as said:
            running = subprocess.Popen(command, env=python_environment, stdout=subprocess.PIPE, stderr=said, text=True)
        assert running.stdout.readline() == "ready\n"
        return running

    return begin


@pytest.mark.slow
@pytest.mark.parametrize(("how", "save_seconds"), [("SIGKILL", 0.0), ("SIGINT", 0.0), ("SIGKILL", 1e9)])
def test_ended_at_any_moment_it_goes_on_bit_for_bit(begin, tmp_path, how, save_seconds) -> None:
    whole, started = begin("whole", save_seconds), time.monotonic()
    assert whole.wait() == 0
    seconds, rng, ended = time.monotonic() - started, random.Random(0), 0
    while True:
        running = begin("pieces", save_seconds)
        if ended < 4:
            time.sleep(rng.uniform(0, seconds / 3))
            running.send_signal(signal.Signals[how])
        if running.wait() == 0:
            break
        said = (tmp_path / "said").read_text()
        assert running.returncode == -signal.Signals[how] or "KeyboardInterrupt" in said, said
        ended += 1
    assert ended >= 2
    same(tmp_path / "pieces", tmp_path / "whole")


@pytest.mark.parametrize("nth", [1, 2, 5, 9, 14, 20])
def test_a_full_disk_is_said_and_costs_nothing(clone, line, config, tmp_path, failing_disk, nth) -> None:
    config = dataclasses.replace(config, save_seconds=0.0)
    refine(PPO(clone, line, config, tmp_path / "whole"), line.success)
    failing_disk(nth)
    with pytest.raises(UserError, match=r"cannot write .*No space left.*Free some space"):
        refine(PPO(clone, line, config, tmp_path / "pieces"), line.success)
    failing_disk(0)
    refine(PPO(clone, line, config, tmp_path / "pieces"), line.success)
    same(tmp_path / "pieces", tmp_path / "whole")


def test_the_checkpoint_before_a_full_disk_stays(clone, line, config, tmp_path, failing_disk) -> None:
    kept = {}

    def fill(iteration) -> dict[str, float]:
        if iteration == 4:
            kept["before"] = (tmp_path / "run" / CHECKPOINT).read_bytes()
            failing_disk(1)
        return {}

    config = dataclasses.replace(config, save_seconds=0.0)
    with pytest.raises(UserError, match=r"cannot write"):
        refine(PPO(clone, line, config, tmp_path / "run"), guard=fill)
    assert (tmp_path / "run" / CHECKPOINT).read_bytes() == kept["before"]


def test_a_disk_that_is_really_full(clone, line, config, tmp_path, small_disk) -> None:
    config = dataclasses.replace(config, save_seconds=0.0)
    refine(PPO(clone, line, config, tmp_path / "whole"), line.success)
    filler = small_disk / "filler"

    def fill(iteration) -> dict[str, float]:
        if iteration == 3:
            with pytest.raises(OSError, match="No space"), filler.open("wb") as file:
                while True:
                    file.write(bytes(4096))
        return {}

    with pytest.raises(UserError, match=r"cannot write .*No space left"):
        refine(PPO(clone, line, config, small_disk / "pieces"), line.success, guard=fill)
    filler.unlink()
    refine(PPO(clone, line, config, small_disk / "pieces"), line.success)
    same(small_disk / "pieces", tmp_path / "whole")
