"""`w4rl evaluate world` on an untrained world: its JSON, its page, and what it refuses."""

import json
import re
import shutil

import pytest
import torch

from w4rl_fast.config import save_config
from w4rl_fast.world.checkpoint import save_world
from w4rl_fast.world.model import WorldModel


@pytest.fixture(scope="module")
def run(tmp_path_factory, point_config):
    folder = tmp_path_factory.mktemp("command") / "run"
    torch.manual_seed(0)
    save_world(folder / "world", WorldModel(point_config.world))
    save_config(folder / "world" / "train.json", point_config)
    return folder


@pytest.fixture
def evaluate(cli, run, point_store):
    def call(*options):
        result = cli("evaluate", "world", run, point_store.path, "--episodes", 7, "--simulated", 4, *options)
        assert result.exit_code == 0, result.output
        return result

    return call


def test_one_line_of_json_says_everything(evaluate, run, in_this_process):
    in_this_process()
    result = evaluate("--json", "--horizon", 4)
    assert result.stdout.count("\n") == 1
    said = json.loads(result.stdout)
    assert said == json.loads((run / "world-fidelity.json").read_text())
    for key in ("psnr", "psnr_moving", "psnr_moving_repeat", "psnr_moving_extrapolate", "ssim", "proprio_error_m"):
        assert len(said[key]) == 4, key
    assert said["episodes"] == sum(each["episodes"] for each in said["by_source"].values()) == 7
    assert said["by_source"].keys() == {"policy", "noisy", "random"}
    assert said["action_response"]["simulator"] == "used"
    assert said["action_response"]["kinds"].keys() == {"true", "shuffled", "zero", "mirrored"}
    assert not said.keys() & {"fid", "fvd", "lpips"}  # nobody gave a network
    assert said["environment"]["packages"]["torch"]


def test_the_page_is_whole_in_itself(evaluate, run, point_store, in_this_process):
    in_this_process()
    evaluate("--horizon", 4)
    html = (run / "world.html").read_text()
    sources = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]*)""", html)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"<script|<link|<iframe|@import|url\(|https?:", html, re.IGNORECASE)
    assert "prefers-color-scheme: dark" in html
    assert f"w4rl evaluate world {run} {point_store.path} --episodes 7 --horizon 4 --simulated 4<" in html


def test_without_a_simulator_the_page_says_why(evaluate, run):
    evaluate()
    assert re.search("The simulator was not asked: .*test/point", (run / "world.html").read_text())


def test_a_longer_horizon_is_warned_of_and_one_beyond_the_episodes_refused(evaluate, refusal, run, point_store):
    warned = evaluate("--horizon", 7)
    assert "warning: horizon 7 is beyond the 5 steps of training" in warned.stderr
    assert "warning" not in evaluate("--horizon", 5).stderr
    assert "--horizon 9 or less" in refusal("evaluate", "world", run, point_store.path, "--horizon", 10)


def test_networks_add_their_keys(evaluate, tmp_path):
    features = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    torch.jit.save(torch.jit.trace(features, torch.zeros(1, 3, 24, 24)), tmp_path / "net.ts")
    said = json.loads(evaluate("--json", "--feature-net", f"fid={tmp_path / 'net.ts'}").stdout)
    assert said["fid"] > 0
    assert said["fid_samples"] == 7 * 5
    assert not said.keys() & {"fvd", "lpips"}


def test_a_store_of_other_frames_is_refused(refusal, run, mixed_store, tmp_path):
    assert "image size 8" in refusal("evaluate", "world", run, mixed_store.path)
    shutil.copytree(run, tmp_path / "empty")
    (tmp_path / "empty" / "world" / "world.safetensors").unlink()
    assert "no trained world" in refusal("evaluate", "world", tmp_path / "empty", mixed_store.path)
