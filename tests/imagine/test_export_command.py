"""What `w4rl export` makes of bad input: one line that says what to do, and nothing half-written."""

import json

import numpy as np
import pytest
import torch

from w4rl_engines.errors import EngineError
from w4rl_engines.load import load
from w4rl_engines.registry import cannot_build, unavailable
from w4rl_fast.control.policy import decider_of
from w4rl_fast.imagine.artifacts import artifacts, rebuild_of
from w4rl_fast.imagine.export import Mean
from w4rl_fast.policy import load_policy, save_policy
from w4rl_fast.robot.decider import Decider
from w4rl_fast.run import keep_store

SMALL = ("--part", "policy", "--threads", 1, "--precision", "fp32")
FEW = ("--batch", 4, *SMALL)


@pytest.fixture
def kept(run, store):
    keep_store(run, store.path)
    return run


@pytest.fixture
def refused(cli):
    """The last line of what a command says that ends with 2; progress may stand before it."""

    def call(*arguments):
        result = cli(*arguments)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        last = result.stderr.strip().splitlines()[-1]
        assert last.startswith("error: ")
        return last

    return call


def left(run):
    return [path for path in (run / "engines").rglob("*") if path.is_file()] if (run / "engines").exists() else []


def test_an_unknown_engine_is_answered_with_those_that_work_here_and_why_not_the_others(kept, cli) -> None:
    result = cli("export", kept, *FEW, "--engine", "tensorflow")
    assert result.exit_code == 2
    assert "eager (ready)" in result.stderr
    assert f"tensorrt ({unavailable('tensorrt')})" in " ".join(result.stderr.split())
    assert not left(kept)


def test_a_missing_extra_is_named_with_the_command_that_brings_it(kept, refused, monkeypatch) -> None:
    monkeypatch.setattr("w4rl_engines.registry._is_installed", lambda module: module == "torch")
    said = refused("export", kept, *FEW, "--engine", "onnxruntime")
    assert 'pip install "w4rl-fast[onnx]"' in said
    assert "Available: eager" in said
    assert not left(kept)


@pytest.mark.parametrize("batch", ["0", "4,0", "-1"])
def test_a_batch_is_at_least_one(kept, refused, batch) -> None:
    assert "at least 1" in refused("export", kept, "--engine", "eager", "--precision", "fp32", "--batch", batch)


def test_targets_are_those_of_tensorrt_rtx_alone(kept, refused) -> None:
    assert "tensorrt-rtx alone" in refused("export", kept, *FEW, "--engine", "eager", "--target", "sm89")


@pytest.mark.skipif(cannot_build("tensorrt-rtx") is not None, reason=f"{cannot_build('tensorrt-rtx')}")
def test_an_architecture_that_is_not_supported_is_answered_with_those_that_are(kept, refused) -> None:
    said = refused("export", kept, *FEW, "--engine", "tensorrt-rtx", "--target", "sm89,sm90")
    assert "target sm90" in said
    assert "sm89" in said.split("builds for")[1]
    assert not left(kept)


def test_the_command_that_builds_again_names_the_targets(kept, monkeypatch) -> None:
    from types import SimpleNamespace

    folder = kept / "engines" / "world-3-step-tensorrt-rtx-float32"
    assert "--target" not in rebuild_of(folder)
    there = SimpleNamespace(identity=SimpleNamespace(targets=("sm89", "sm120")))
    monkeypatch.setattr("w4rl_fast.imagine.artifacts.read", lambda _: there)
    assert rebuild_of(folder).endswith("--precision fp32 --target sm89,sm120 --batch {batches}")


def test_a_refined_policy_is_driven_by_an_engine_of_its_own(kept, refused, cli) -> None:
    other = load_policy(kept)
    with torch.no_grad():
        for weights in other.parameters():
            weights.mul_(1.1)
    save_policy(kept / "refined" / "best", other)
    one = ("--batch", 1, *SMALL, "--engine", "eager")
    assert "of this part a run has one" in refused("export", kept, *one, "--part", "world", "--policy", "refined")
    assert "There are: cloned, refined" in refused("export", kept, *one, "--policy", "repair-1")
    assert cli("export", kept, *one, "--policy", "refined").exit_code == 0
    assert not artifacts(kept), "the cloned policy has none"
    folder, decider = decider_of(kept, "last")
    (artifact,) = artifacts(folder)
    assert (folder, decider.name) == (kept / "refined" / "best", artifact.name)
    frame, proprio = np.full((16, 16, 3), 90, np.uint8), np.ones(2, np.float32)
    decided = decider.decide(frame, proprio)
    torch.testing.assert_close(decided, Decider(Mean(other.eval()), other.config.history).decide(frame, proprio))
    assert decider_of(kept, "cloned")[1].name == Decider(Mean(other), 1).name, "its engine is of other weights"
    command = rebuild_of(artifact, kept, "refined")
    assert command.startswith(f"w4rl export {kept} --part policy --policy refined --engine eager")


def test_it_is_an_error_where_nothing_could_be_built(kept, refused, monkeypatch) -> None:
    def refuse(*_, **__):
        raise EngineError("an engine", "it cannot be built", "Choose another")

    monkeypatch.setattr("w4rl_fast.imagine.export.export_one", refuse)
    assert "none of them could be built" in refused("export", kept, *FEW, "--engine", "all")


def test_targets_that_nothing_was_built_for_are_an_error(kept, refused, monkeypatch) -> None:
    monkeypatch.setattr("w4rl_fast.cli.export.chosen", lambda *_: [("eager", "float32")])
    assert "--target sm90: tensorrt-rtx was not built" in refused("export", kept, *FEW, "--target", "sm90")
    assert left(kept), "what could be built is kept"


def test_a_folder_that_cannot_be_written_is_named(kept, refused) -> None:
    (kept / "engines").write_text("a file in the way")
    assert "cannot write" in refused("export", kept, *FEW, "--engine", "eager")


def test_a_full_disk_leaves_nothing(kept, refused, small_disk) -> None:
    (kept / "engines").symlink_to(small_disk)
    (small_disk / "ballast").write_bytes(bytes(1010 << 10))
    assert "No space left" in refused("export", kept, *FEW, "--engine", "eager")
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]


def test_an_interrupted_export_keeps_what_was_finished(kept, cli, monkeypatch) -> None:
    assert cli("export", kept, *FEW, "--engine", "eager").exit_code == 0
    before = sorted(left(kept))

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("w4rl_engines.build.measure", interrupt)
    result = cli("export", kept, "--batch", "2,4", *SMALL, "--engine", "eager")
    assert result.exit_code == 130
    assert sorted(left(kept)) == before


def test_a_batch_that_is_not_there_is_answered_with_the_command_that_adds_it(kept, cli) -> None:
    result = cli("export", kept, *FEW, "--engine", "eager", "--json")
    assert len(json.loads(result.stdout)["rows"]) == 1
    (folder,) = artifacts(kept)
    with pytest.raises(EngineError, match=f"holds 4. Add another by: w4rl export {kept} --part policy .*--batch 8"):
        load(folder, batch=8, rebuild=rebuild_of(folder))
    assert cli("export", kept, "--batch", 8, *SMALL, "--engine", "eager").exit_code == 0
    assert [load(folder, batch=batch).batch for batch in (4, 8)] == [4, 8]
