"""Calls of engines beside eager torch: which there are, and that nothing else is ever timed in their place."""

import json
from pathlib import Path

import pytest

from w4rl_engines.backends import backend_module
from w4rl_engines.build import BuildConfig
from w4rl_engines.eager import ModuleEngine
from w4rl_engines.errors import FellBack
from w4rl_engines.registry import unavailable
from w4rl_fast.imagine.artifacts import Name, folder_of, rebuild_of
from w4rl_fast.imagine.export import export_one
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.imagine.step import WorldStep
from w4rl_fast.speed.engines import measure_engines

FEW = ("--samples", 2, "--threads", 1)


@pytest.fixture
def built(run, put):
    put(run, "policy", (1, 3))
    put(run, "world", (3,), 1)
    return run


def test_every_batch_stands_beside_eager_torch_on_the_same_rows(built) -> None:
    rows, refused = measure_engines(built, samples=2)
    assert not refused
    assert [(row.part, row.artifact, row.batch) for row in rows] == [
        ("world, 1 step", None, 3),
        ("world, 1 step", "world-1-step-eager-float32", 3),
        ("policy", None, 1),
        ("policy", "policy-eager-float32", 1),
        ("policy", None, 3),
        ("policy", "policy-eager-float32", 3),
    ]
    assert all(row.passed for row in rows)
    assert all(row.ratio_to_eager == 1 for row in rows if row.artifact is None)
    assert all(row.parity_p99 <= 1e-4 for row in rows if row.part == "policy")


def test_the_command_writes_a_page_and_compares_with_the_last(built, cli, refusal) -> None:
    first = cli("bench", "engines", built, *FEW, "--json")
    assert first.exit_code == 0, first.output
    assert len(json.loads(first.stdout)["rows"]) == 6
    assert "How fast are its engines?" in (built / "engines.html").read_text()
    again = cli("bench", "engines", built, *FEW, "--compare")
    assert again.exit_code == 0, again.output
    assert "policy eager float32 3" in again.stdout
    card = json.loads((built / "engines.json").read_text())
    (built / "other.json").write_text(json.dumps({**card, "environment": {**card["environment"], "cpu": "another"}}))
    assert "cpu another" in refusal("bench", "engines", built, *FEW, "--compare", built / "other.json")


def test_a_run_without_engines_and_one_of_other_weights_are_told(built, refusal) -> None:
    (built / "engines").rename(built / "elsewhere")
    assert "w4rl export" in refusal("bench", "engines", built, *FEW)
    (built / "elsewhere").rename(built / "engines")
    loaded = LoadedRun(built)
    loaded.policy.log_std.data.add_(0.1)
    from w4rl_fast.policy.checkpoint import save_policy

    save_policy(built / "policy", loaded.policy)
    rows, refused = measure_engines(built, samples=1)
    assert [row.part for row in rows] == ["world, 1 step"] * 2
    assert all("other weights" in why for name, why in refused.items() if name.startswith("policy"))


@pytest.mark.slow
@pytest.mark.skipif(unavailable("onnxruntime") is not None, reason=f"{unavailable('onnxruntime')}")
def test_a_backend_that_quietly_runs_as_eager_torch_is_never_timed(built, cli, monkeypatch) -> None:
    export_one(LoadedRun(built), "world", BuildConfig(backend="onnxruntime", batches=(4,)), sampling_steps=1)
    module = LoadedRun(built)
    step = WorldStep(module.world, module.judge[0], sampling_steps=1)
    monkeypatch.setattr(
        backend_module("onnxruntime"), "load", lambda _, place: ModuleEngine(step, place.spec, place.batch)
    )
    with pytest.raises(FellBack, match="fell back"):
        measure_engines(built, samples=1)
    whole = ("bench", "rollout", built, "--samples", 1, "--worlds", 4, "--slice", 4, "--threads", 1, "--steps", "1")
    for asked in ((), ("--engine", "onnxruntime")):
        result = cli(*whole, *asked)
        assert result.exit_code == 2
        assert "fell back" in result.stderr
        assert "frames/s" not in result.stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("world-3-step-openvino-bfloat16-fast", ("world", 3, "openvino", "bfloat16-fast")),
        ("policy-torch-tensorrt-float32", ("policy", None, "torch-tensorrt", "float32")),
        ("acting-1-step-tensorrt-rtx-bfloat16", ("acting", 1, "tensorrt-rtx", "bfloat16")),
        ("reward-tensorrt-bfloat16", ("reward", None, "tensorrt", "bfloat16")),
    ],
)
def test_a_name_says_what_it_is_and_how_to_build_it_again(name, said) -> None:
    folder = Path("run") / "engines" / name
    assert Name.of(folder) == said
    part, steps, backend, precision = said
    assert folder_of(Path("run"), part, backend, precision, steps) == folder
    assert f"--part {part}" in rebuild_of(folder)
    assert f"--engine {backend} " in rebuild_of(folder)
    assert ("--steps" in rebuild_of(folder)) is (steps is not None)
