"""First-order refinement by its commands, from play to a race, in a run small enough to wait for."""

import json
import shutil

import pytest
import torch
from click.testing import CliRunner

from w4rl_fast.cli import main
from w4rl_fast.hub import write_model
from w4rl_fast.surrogate.model import Surrogate

pytest.importorskip("pymunk")
PUSH = ("--size", 16, "--set", "horizon=12", "--set", "push_t.control=relative", "--set", "push_t.spread=40")
FEW = ("--set", "head.steps=3", "--set", "denoiser.steps=3", "--set", "denoiser.bf16=false", "--set", "horizon=8",
       "--set", "denoiser.batch=4", "--set", "head.batch=4", "--set", "held_out=0.4", "--set", "world.residual=true",
       "--set", "moving=5", "--set", "world.sampling.steps=1")  # fmt: skip
EYES = ("--set", "surrogate.widths=4,4", "--set", "surrogate.points=4", "--set", "surrogate.hidden=16", "--set",
        "eyes.steps=4", "--set", "eyes.batch=8", "--set", "dynamics.steps=4", "--set", "dynamics.batch=8", "--set",
        "horizon=4", "--set", "held_out=0.4", "--set", "eyes.bf16=false")  # fmt: skip
SMALL = ("--set", "fog.worlds=4", "--set", "fog.steps=8", "--set", "fog.iterations=2", "--set", "fog.horizon=4",
         "--set", "fog.refresh_imagined=4", "--set", "fog.refresh_real=4", "--set", "judged=4", "--set", "slice_size=4",
         "--set", "agreement.cases=3", "--set", "fog.score_every=1")  # fmt: skip


def call(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fog")
    store, run = folder / "store", folder / "run"
    call("collect", "push-t", "--play", 10, "--expert", 2, *PUSH, "--out", store)
    call("train", "world", store, "--run", run, "--preset", "nano", *FEW, "--threads", 1)
    missing = refused("refine", "fog", run)
    assert "there is no surrogate in it" in missing
    assert "w4rl train surrogate" in missing
    call("train", "surrogate", store, "--run", run, *EYES, "--threads", 1)
    call("train", "policy", store, "--run", run, "--eyes", "surrogate", "--set", "fit.steps=3")
    return run


def test_a_surrogate_is_examined_against_the_world_and_the_simulator(run) -> None:
    said = json.loads(
        call("evaluate", "surrogate", run, "--set", "cases=3", "--set", "steps=2", "--json", "--threads", 1)
    )
    (part,) = said["parts"]
    assert {row["truth"] for row in part["gradients"]} == {"the world", "the simulator"}
    assert {row["taken"] for row in part["gradients"]} == {"decoupled", "own rollout"}
    assert {row["horizon"] for row in part["gradients"]} == {1, 2}
    assert all(-1 <= row["cosine"] <= 1 for row in part["gradients"])
    assert [each["of"] for each in part["errors"]] == ["the world", "the surrogate"]
    assert all(len(values) == 2 for each in part["errors"] for values in each["task"].values())
    page = (run / "surrogate.html").read_text()
    assert "Does the surrogate agree?" in page
    assert "angle of the block" in page.lower()


def test_a_surrogate_that_does_not_agree_is_refused_and_a_longer_dream_than_the_world_knows_too(run) -> None:
    assert "mean cosine" in refused("refine", "fog", run, *SMALL, "--set", "agree=0.999", "--threads", 1)
    said = refused("refine", "fog", run, *SMALL, "--set", "fog.steps=12", "--threads", 1)
    assert "trained for 8 steps" in said
    assert not (run / "fog").exists()


def test_it_refines_goes_on_and_is_judged_for_real(run) -> None:
    said = call("refine", "fog", run, *SMALL, "--force", "--threads", 1)
    assert "imagined reward" in said
    before = {name: (run / "fog" / name).read_bytes() for name in ("best/policy.safetensors", "metrics.jsonl")}
    call("refine", "fog", run, *SMALL, "--force", "--threads", 1)  # it is done: nothing is done again
    assert before == {name: (run / "fog" / name).read_bytes() for name in before}
    assert "other settings" in refused("refine", "fog", run, *SMALL, "--set", "fog.seed=3", "--force", "--threads", 1)
    judged = json.loads(
        call("evaluate", "policy", run, "--before", "--after", "--episodes", 2, "--workers", 1, "--json")
    )
    assert set(judged["policies"]) == set(judged["earned"]) == {"cloned", "first-order"}
    assert all(0 <= each["score"] <= 1 for each in judged["earned"].values())
    parts = json.loads(
        call("evaluate", "surrogate", run, "--set", "cases=2", "--set", "steps=2", "--json", "--no-simulator")
    )["parts"]
    states = [(part["stretches"], part["surrogate"]) for part in parts]
    assert states == [("recorded", "as trained"), ("the policy's", "as trained"), ("the policy's", "refreshed")]


@pytest.mark.parametrize("forward", ["world", "simulator"])
def test_a_race_draws_what_is_missing_and_writes_its_page(run, tmp_path, forward) -> None:
    methods = "ppo,fog,surrogate-only" + (",straight-through,coupled" if forward == "world" else "")
    small = ("--set", "fog.worlds=4", "--set", "ppo.worlds=4", "--set", "steps=8", "--set", "points=2", "--set",
             "episodes=2", "--set", "fog.horizon=4", "--set", "fog.refreshes=1", "--set", "ppo.epochs=1")  # fmt: skip
    asked = ("--methods", methods, "--seeds", 2, "--frames", 64, "--forward", forward, "--tuning", *small)
    race = ("bench", "refine", run, *asked, "--out", tmp_path, "--threads", 1, "--json")
    said = json.loads(call(*race))
    assert set(said["scores"]) == set(methods.split(","))
    assert said["scores"]["fog"]["frames_for_ppo"]["low"] <= said["scores"]["fog"]["frames_for_ppo"]["high"]
    (tmp_path / "fog-1.json").unlink()
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*-*.json")}
    again = json.loads(call(*race))
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert again["scores"]["fog"]["final"] == said["scores"]["fog"]["final"], "a seed says the same again"
    assert "Ways to refine" in (tmp_path / "race.html").read_text()
    assert "it was drawn with other settings or weights" in refused(*race, "--set", "fog.gamma=0.5")
    assert "Did you mean" in refused("bench", "refine", run, "--methods", "fogg")


def test_curves_of_another_surrogate_are_not_taken_for_this_ones(run, tmp_path) -> None:
    other = shutil.copytree(run, tmp_path / "run")
    (other / "data.json").write_bytes(json.dumps({"store": str(run.parent / "store")}).encode())
    small = ("--set", "fog.worlds=4", "--set", "steps=8", "--set", "points=1", "--set", "episodes=1", "--set",
             "fog.horizon=4", "--set", "fog.refreshes=0", "--threads", 1, "--out", tmp_path / "race")  # fmt: skip
    race = (
        "bench",
        "refine",
        other,
        "--methods",
        "fog",
        "--seeds",
        1,
        "--frames",
        32,
        "--forward",
        "simulator",
        *small,
    )
    call(*race)
    surrogate = Surrogate.from_pretrained(other / "surrogate")
    with torch.no_grad():
        surrogate.dynamics.body[-1].bias.add_(0.1)
    write_model(other / "surrogate", surrogate)
    assert "other settings or weights" in refused(*race)
