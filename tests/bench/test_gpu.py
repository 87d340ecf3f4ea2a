"""The benchmark for a GPU can be run where there is none, and says so where it cannot measure."""

import json
import subprocess
import sys

import pytest
import torch


@pytest.mark.slow
def test_a_dry_run_reaches_the_end_and_agrees_with_itself(python_environment, tmp_path) -> None:
    environment = {**python_environment, "OUT": str(tmp_path)}
    command = [sys.executable, "-m", "bench.gpu", "--dry"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    result = json.loads((tmp_path / "gpu.json").read_text())["result"]
    assert all(error < 1e-2 for form in result["two_hot"] for error in form["relative_error"].values())
    assert all(row["grey_level_error"]["sample, graph, to eager"] == 0 for row in result["worlds"])
    assert {row["batch"] for row in result["worlds"]} == {1, 2}


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(python_environment) -> None:
    command = [sys.executable, "-m", "bench.gpu"]
    done = subprocess.run(command, env=python_environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout.startswith("error: device cuda")
