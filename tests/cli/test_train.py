"""`w4rl train` and `w4rl evaluate`, from a store to a verdict, on a run small enough to wait for."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from w4rl_fast.cli import main
from w4rl_fast.config import to_json_dict
from w4rl_fast.data.episode import Episode, EpisodeInfo, Schema
from w4rl_fast.data.store import writing
from w4rl_fast.tasks import default_config

TASK = "metaworld/reach-v3"
FEW = ("--set", "head.steps=3", "--set", "denoiser.steps=3", "--set", "denoiser.bf16=false", "--set", "horizon=5",
       "--set", "denoiser.batch=4", "--set", "head.batch=4", "--set", "held_out=0.4")  # fmt: skip
SCHEMA = Schema(image_size=16, action_low=(-1.0,) * 4, action_high=(1.0,) * 4, proprio_dim=7)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Sixteen made-up episodes that claim to be of a real task, every second one a policy's that fails."""
    path = tmp_path_factory.mktemp("cli") / "store"
    settings = to_json_dict(default_config(TASK, image_size=16))
    with writing(path, SCHEMA, {TASK: settings}) as writer:
        for seed in range(16):
            rng = np.random.default_rng(seed)
            frames = rng.integers(0, 256, (8, 16, 16, 3), np.uint8)
            actions, proprio = (rng.uniform(-1, 1, (8, width)).astype(np.float32) for width in (4, 7))
            actions[-1] = 0
            success = np.arange(8) >= (8 if seed % 2 else 5)
            source = "policy" if seed % 2 else "expert"
            info = EpisodeInfo(task=TASK, source=source, seed=seed, succeeded=bool(success.any()))
            writer.add(Episode(frames, actions, proprio, success, info))
    return path


def call(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr


def test_a_policy_is_cloned_and_judged_in_the_real_simulator(store, tmp_path) -> None:
    pytest.importorskip("metaworld")
    run = tmp_path / "run"
    call("train", "policy", store, "--run", run, "--demos", 3, "--set", "fit.steps=3")
    said = json.loads(call("evaluate", "policy", run, "--episodes", 2, "--workers", 1, "--json").splitlines()[-1])
    (cloned,) = said["policies"].values()
    assert cloned["episodes"] == 2
    assert 0 <= cloned["low"] <= cloned["successes"] / 2 <= cloned["high"] <= 1
    assert cloned["imagined"] is None
    assert said["task"] == TASK
    assert "no policy was refined" in refused("evaluate", "policy", run, "--after", "--episodes", 2)
    assert all((tmp_path / "run" / picture.rsplit("/", 1)[-1]).exists() for picture in said["pictures"])


def test_a_world_is_trained_previewed_and_evaluated(store, tmp_path) -> None:
    run = tmp_path / "run"
    call("train", "world", store, "--run", run, "--threads", 1, "--set", "denoiser.save_seconds=0", *FEW)
    assert len(list((run / "world").glob("preview-*.png"))) == 3
    said = json.loads(call("evaluate", "world", run, store, "--json").splitlines()[-1])
    for key in ("psnr", "psnr_moving", "psnr_moving_repeat", "proprio_error_m"):
        assert len(said[key]) == 5, key
    assert len(said["action_response"]["correlation"]) == 3
    assert (run / "world-imagined.png").read_bytes().startswith(b"\x89PNG")


def test_a_classifier_is_trained_on_the_world_and_judged_with_it(store, tmp_path) -> None:
    run = tmp_path / "run"
    few = ("--threads", 1, "--set", "held_out=0.4", "--set", "validation=0.25", "--set", "fit.steps=3")
    assert "no trained world" in refused("train", "reward", store, "--run", run, *few)
    call("train", "reward", store, "--run", tmp_path / "real", "--real-only", *few)
    assert "failure_fidelity" not in json.loads(call("evaluate", "reward", tmp_path / "real", store, "--json"))
    call("train", "world", store, "--run", run, "--threads", 1, *FEW)
    call("train", "reward", store, "--run", run, *few)
    said = json.loads(call("evaluate", "reward", run, store, "--json").splitlines()[-1])
    assert 0 <= said["precision"] <= 1
    assert said["false_positives"]["episodes"] + said["found"]["episodes"] == said["failure_fidelity"]["imagined"][
        "n"
    ] + sum(each["n"] for source, each in said["failure_fidelity"]["by_source"].items() if source != "policy")
    assert "data:image/png" in (run / "reward.html").read_text()
    world = json.loads(call("evaluate", "world", run, store, "--json").splitlines()[-1])
    assert world["failure_fidelity"] == said["failure_fidelity"]
    assert "Do failures stay failures?" in (run / "world.html").read_text()


def test_what_cannot_be_trained_or_judged_is_said(store, tmp_path) -> None:
    run = tmp_path / "run"
    assert "holds 8" in refused("train", "policy", store, "--run", run, "--demos", 17)
    assert "metaworld/reach-v3" in refused("train", "policy", store, "--run", tmp_path / "x", "--task", "pusht")
    assert "longest episode" in refused("train", "world", store, "--run", run, "--set", "horizon=40")
    assert "no trained world" in refused("evaluate", "world", run, store)
    assert "no task.json" in refused("evaluate", "policy", tmp_path / "nothing")
    assert "from 1073741824 on" in refused_seed(run, store)


def refused_seed(run, store) -> str:
    call("train", "policy", store, "--run", run, "--set", "fit.steps=1")
    return refused("evaluate", "policy", run, "--first-seed", 5)


def test_a_run_is_about_one_task(store, tmp_path) -> None:
    run = tmp_path / "run"
    call("train", "policy", store, "--run", run, "--set", "fit.steps=1")
    other = tmp_path / "other"
    with writing(other, SCHEMA, {TASK: to_json_dict(default_config("metaworld/push-v3", image_size=16))}):
        pass
    assert "it is about metaworld/reach-v3" in refused("train", "policy", other, "--run", run)
