"""The benchmark for a GPU can be run where there is none, on little more than torch, and says what it cannot do."""

import json
import subprocess
import sys
import textwrap

import pytest
import torch

BARE = """
import runpy, sys

ABSENT = {absent!r}

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path = [Without(finder) for finder in sys.meta_path]
sys.argv = ["bench.gpu", *{arguments!r}]
runpy.run_module("bench.gpu", run_name="__main__")
"""
ABSENT = (
    "diffusers", "gymnasium", "h5py", "huggingface_hub", "hypothesis", "metaworld", "mujoco", "nncf", "numcodecs",
    "onnxruntime", "onnxscript", "openvino", "packaging", "pytest", "rich", "ruckig", "safetensors",
    "stable_baselines3", "tensorboard", "tensorrt", "tensorrt_rtx", "zarr",
)  # fmt: skip


def bare(*arguments, environment):
    """Run the benchmark in a process where nothing finds these packages."""
    code = textwrap.dedent(BARE).format(absent=ABSENT, arguments=arguments)
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_dry_run_on_a_bare_machine_reaches_the_end_and_agrees_with_itself(python_environment, tmp_path) -> None:
    done = bare("--dry", environment={**python_environment, "OUT": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "gpu.json").read_text())["result"]
    assert result == json.loads(done.stdout.splitlines()[-1])
    assert result["failed"] == {}
    assert "gymnasium" in result["stood_in_for"]
    assert all(each["error"] < 1e-2 for each in result["kernels"].values())
    assert {(row["engine"], row["steps"], row["worlds"]) for row in result["rollouts"]} == {
        ("baseline", 3, 2), ("eager", 3, 2), ("eager", 1, 2),
    }  # fmt: skip
    assert all(row["parity_p99"] <= 1 for row in result["rollouts"] if row["precision"] == "float32")
    assert [(row["backend"], row["passed"]) for row in result["engines"]] == [("eager", True)]
    assert all(row["grey_level_error"]["sample, graph, to eager"] == 0 for row in result["denoising"])
    assert {row["batch"] for row in result["denoising"]} == {1, 2}
    assert "rollouts: CUDA graphs" in result["left_out"]
    assert {(row["op"], row["gradient"]) for row in result["ops"]["rows"]} == {
        ("attention", False), ("attention", True), ("norm_act", False), ("norm_act", True), ("edm_step", False),
        ("noise", False),
    }  # fmt: skip
    assert all(row["errors"]["torch"] < 2e-2 for row in result["ops"]["rows"] if row["op"] != "noise")
    assert result["ops"]["measured"] == {}
    assert {row["graph"] for row in result["rollouts"]} == {"", "rollout"}
    assert any("our kernels" in name for name in result["left_out"])
    assert result["trace"]["auto"]["reads"] == {}
    assert result["trace"]["auto"]["waits"] is None
    assert (tmp_path / "trace-auto.json.gz").exists()
    assert {(each["value"], each["met"]) for each in result["targets"]} == {(None, None)}
    page = (tmp_path / "gpu.html").read_text()
    assert "not measured" in page
    assert "frames/s" in page


@pytest.mark.slow
def test_a_section_that_fails_stops_no_other_and_shows_in_the_status(python_environment, tmp_path) -> None:
    code = "from bench.qualify import peaks\npeaks.run = lambda session: 1 / 0\n"
    code += "import bench.gpu\nraise SystemExit(bench.gpu.main(['--dry', 'kernels']))"
    environment = {**python_environment, "OUT": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    result = json.loads((tmp_path / "gpu.json").read_text())["result"]
    assert list(result["failed"]) == ["peaks"]
    assert "ZeroDivisionError" in result["failed"]["peaks"]
    assert result["kernels"]["noise"]["error"] == 0


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(python_environment) -> None:
    command = [sys.executable, "-m", "bench.gpu"]
    done = subprocess.run(command, env=python_environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout.startswith("error: device cuda")


def test_what_stands_in_for_a_package_can_be_imported_subclassed_and_nothing_else(run_python) -> None:
    said = run_python(
        """
        import sys
        from bench.qualify import bare
        bare.PACKAGES = ("json", "surely_absent")
        assert bare.stand_in() == ("surely_absent",)
        import json
        assert json.loads("1") == 1
        import surely_absent.inside
        from surely_absent.inside import Mixin, Other, function
        class Own(Mixin, Other, name="own"):
            kind: Mixin[int] | None = Other.kind
        assert Own.__mro__[1:] == (bare.Base, object)
        assert function(Own) is Own
        assert not isinstance(1, Mixin)
        try:
            function(1)
        except ModuleNotFoundError as error:
            print(error)
        """.replace("\n        ", "\n")
    )
    assert (
        said.strip() == "surely_absent.inside.function: surely_absent is not installed here; pip install surely_absent"
    )
