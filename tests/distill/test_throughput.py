"""Frames a second of every case that a run has: which cases there are, and what stands beside their speed."""

import json

import pytest

from w4rl_engines.build import BuildConfig
from w4rl_fast.distill import distill_run
from w4rl_fast.imagine.export import export_one
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.world.checkpoint import load_world, save_world
from w4rl_fast.world.model import WorldModel

from .test_run import few

ROLLOUT = ("--samples", 1, "--worlds", 4, "--slice", 4, "--threads", 1, "--steps", "2,1", "--json")


@pytest.mark.filterwarnings("ignore:horizon")
def test_every_world_is_timed_by_every_engine_that_fits_it(run, store, teacher, cli) -> None:
    distill_run(run, store, few(teacher), "one")
    export_one(LoadedRun(run), "world", BuildConfig(backend="eager", batches=(4,)), sampling_steps=2)
    result = cli("bench", "rollout", run, *ROLLOUT)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    cases = [(row["world"], row["engine"], row["precision"], row["steps"]) for row in rows]
    assert cases == [
        ("teacher", "baseline", "float32", 3),
        ("teacher", "eager", "float32", 2),
        ("teacher", "eager", "bfloat16", 2),
        ("teacher", "eager", "float32", 2),  # the artifact
        ("teacher", "eager", "float32", 1),
        ("teacher", "eager", "bfloat16", 1),
        ("one", "eager", "float32", 1),
        ("one", "eager", "bfloat16", 1),
    ]
    assert rows[0]["ratio_to_baseline"] == 1
    assert rows[0]["parity_p99"] is None
    assert rows[3]["parity_p99"] <= 1
    assert rows[2]["parity_p99"] > 0  # narrow numbers are not those of float32
    assert json.loads(result.stdout)["not_timed"] == {}
    assert [row["fit_for_refinement"] for row in rows] == [True] * 6 + [False] * 2  # no gate has judged the student
    three, two, one = (rows[number]["gflop_per_frame"] for number in (0, 1, 4))
    assert three - two == pytest.approx(two - one)
    for row in rows[1:]:
        assert sum(row["shares"].values()) == pytest.approx(1)
    assert json.loads((run / "rollout.json").read_text())["rows"] == rows
    save_world(run / "world", WorldModel(load_world(run).config))
    (run / "students").rename(run / "elsewhere")  # they are of the world before
    said = cli("bench", "rollout", run, *ROLLOUT[:-1])
    words = said.stdout
    assert "not timed: teacher, world-2-step-eager-float32" in said.stderr
    assert "other weights" in said.stderr
    assert "rollout.html" in words
    assert words.count("eager") == 4  # the engine of other weights is not timed
