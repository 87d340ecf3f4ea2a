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
SCHEMA = Schema(image_size=16, action_low=(-1.0,) * 4, action_high=(1.0,) * 4, proprio_dim=4)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Sixteen made-up episodes that claim to be of a real task."""
    path = tmp_path_factory.mktemp("cli") / "store"
    settings = to_json_dict(default_config(TASK, image_size=16))
    with writing(path, SCHEMA, {TASK: settings}) as writer:
        for seed in range(16):
            rng = np.random.default_rng(seed)
            frames = rng.integers(0, 256, (8, 16, 16, 3), np.uint8)
            actions, proprio = (rng.uniform(-1, 1, (8, 4)).astype(np.float32) for _ in range(2))
            actions[-1] = 0
            info = EpisodeInfo(task=TASK, source="expert", seed=seed, succeeded=True)
            writer.add(Episode(frames, actions, proprio, np.zeros(8, np.bool_), info))
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
    assert said["episodes"] == 2
    assert 0 <= said["low"] <= said["successes"] / 2 <= said["high"] <= 1
    assert said["task"] == TASK
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


def test_what_cannot_be_trained_or_judged_is_said(store, tmp_path) -> None:
    run = tmp_path / "run"
    assert "holds 16" in refused("train", "policy", store, "--run", run, "--demos", 17)
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
