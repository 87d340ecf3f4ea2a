"""Frames a second of every case that a run has: which cases there are, and what stands beside their speed."""

import dataclasses
import json

import pytest
import torch

from tests.distill.test_run import few
from w4rl_engines.build import BuildConfig
from w4rl_fast.distill import distill_run, resampled
from w4rl_fast.imagine.artifacts import artifacts, choose, remember, remembered
from w4rl_fast.imagine.export import export_one
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.measure import Timing
from w4rl_fast.speed.rollouts import Row, remember_fastest
from w4rl_fast.world.checkpoint import load_world, save_world
from w4rl_fast.world.model import WorldModel

ROLLOUT = ("--samples", 1, "--worlds", 4, "--slice", 3, "--threads", 1, "--steps", "2,1", "--json")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:horizon")
def test_every_world_is_timed_by_every_engine_that_fits_it(run, store, teacher, put, cli) -> None:
    distill_run(run, store, few(teacher), "one")
    put(run, "world", (3,), 1)
    result = cli("bench", "rollout", run, *ROLLOUT)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    cases = [(row["world"], row["engine"], row["precision"], row["steps"]) for row in rows]
    assert cases == [
        ("teacher", "baseline", "float32", 3),
        ("teacher", "eager", "float32", 2),
        ("teacher", "eager", "bfloat16", 2),
        ("teacher", "eager", "float32", 1),
        ("teacher", "eager", "bfloat16", 1),
        ("teacher", "eager", "float32", 1),  # the artifact
        ("one", "eager", "float32", 1),
        ("one", "eager", "bfloat16", 1),
    ]
    assert rows[0]["ratio_to_baseline"] == 1
    assert rows[0]["parity_p99"] is None
    assert rows[5]["parity_p99"] <= 1
    assert rows[2]["parity_p99"] > 0  # narrow numbers are not those of float32
    assert json.loads(result.stdout)["not_timed"] == {}
    # Nothing has judged the student, nor the teacher in other steps than its own.
    assert [row["fit_for_refinement"] for row in rows] == [True] + [False] * 7
    assert [row["load_s"] is not None for row in rows] == [row["artifact"] is not None for row in rows]
    three, two, one = (rows[number]["gflop_per_frame"] for number in (0, 1, 3))
    assert three - two == pytest.approx(two - one)
    for row in rows[1:]:
        assert sum(row["shares"].values()) == pytest.approx(1)
    assert json.loads((run / "rollout.json").read_text())["rows"] == rows
    save_world(run / "world", WorldModel(load_world(run).config))
    (run / "students").rename(run / "elsewhere")  # they are of the world before
    said = cli("bench", "rollout", run, *ROLLOUT[:-1])
    words = said.stdout
    assert "not timed: teacher, world-1-step-eager-float32" in said.stderr
    assert "other weights" in said.stderr
    assert "rollout.html" in words
    assert words.count("eager") == 4  # the engine of other weights is not timed


@pytest.mark.filterwarnings("ignore:horizon")
def test_a_policy_may_be_inside_the_engine_and_one_named_engine_alone_is_timed(run, put, cli, refusal) -> None:
    put(run, "acting", (3,), 1)
    few = (*ROLLOUT[:-3], "--steps", 1)
    rows = json.loads(cli("bench", "rollout", run, *few, "--engine", "eager", "--json").stdout)["rows"]
    assert [row["engine"] for row in rows] == ["baseline", "eager", "eager", "eager, policy inside"]
    assert rows[3]["artifact"] == "acting-1-step-eager-float32"
    assert sum(rows[3]["shares"].values()) == pytest.approx(1)
    said = refusal("bench", "rollout", run, *few, "--engine", "openvino")
    assert "none of it" in said
    assert "w4rl export" in said
    unknown = cli("bench", "rollout", run, *few, "--engine", "nothing")
    assert unknown.exit_code == 2
    assert "openvino" in unknown.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:horizon")
def test_auto_remembers_what_is_fastest_of_what_is_proven(run, teacher, cli) -> None:
    save_world(run / "world", resampled(teacher, 1))
    export_one(LoadedRun(run), "world", BuildConfig(backend="eager", batches=(3,)))
    result = cli("bench", "rollout", run, *ROLLOUT[:-3], "--engine", "auto", "--json")
    rows, name = (json.loads(result.stdout)[key] for key in ("rows", "remembered"))
    assert {row["steps"] for row in rows[1:]} == {1}
    best = max((row for row in rows[1:] if row["fit_for_refinement"]), key=lambda row: row["frames_per_s"])
    assert name == (best["artifact"] or "eager")
    loaded = LoadedRun(run)
    torch.set_num_threads(1)
    assert choose(run, loaded.world, loaded.judge[0], 3).name == name
    before = remembered(run)
    folder = artifacts(run, "world")[0].name
    for there, taken in (("eager", "eager"), (folder, folder)):
        remember(run, dataclasses.replace(before, name=there))
        chosen = choose(run, loaded.world, loaded.judge[0], 3)
        assert (chosen.name, chosen.engine is None) == (taken, taken == "eager")
    assert choose(run, loaded.world, loaded.judge[0], 4).name == "eager"  # it was remembered for slices of three
    remember(run, dataclasses.replace(before, name=folder, processor="another"))
    assert "whole rollouts" not in str(choose(run, loaded.world, loaded.judge[0], 3).passed_over)
    remember(run, dataclasses.replace(before, name=folder, among=(*before.among, "a newer one")))
    assert "whole rollouts" not in str(choose(run, loaded.world, loaded.judge[0], 3).passed_over)
    remember(run, dataclasses.replace(before, name=folder))
    manifest = artifacts(run, "world")[0] / "manifest.json"
    manifest.write_text(manifest.read_text().replace("float32", "float16", 1))
    assert choose(run, loaded.world, loaded.judge[0], 3).name == "eager", "and a damaged one is not taken for it"


def test_auto_never_remembers_what_failed_parity(run) -> None:
    loaded = LoadedRun(run)
    timing = Timing(median_s=1.0, p10_s=1.0, p99_s=1.0, minimum_s=1.0, samples=1)
    steps = loaded.world.config.sampling.steps
    common = {
        "world": "teacher", "precision": "float32", "steps": steps, "worlds": 4, "slice_size": 4,
        "ratio_to_baseline": 1.0, "parity_p99": 9.0, "gflop_per_frame": 1.0, "share_of_peak": 0.1,
        "peak_memory_mb": 1.0, "load_s": None, "first_s": 1.0, "timing": timing,
    }  # fmt: skip
    rows = [
        Row(engine="eager", frames_per_s=1.0, fit_for_refinement=True, **common),
        Row(engine="openvino", frames_per_s=9.0, fit_for_refinement=False, artifact="world-fast", **common),
        Row(engine="baseline", frames_per_s=8.0, fit_for_refinement=True, **common),
    ]
    (run / "engines").mkdir()
    assert remember_fastest(run, rows).name == "eager"
