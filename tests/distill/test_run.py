"""A student is a run of its own: distilled from the command line, resumed exactly, judged, and refused where unfit."""

import json
import re

import pytest
import torch

import w4rl_fast.fit as fit
from w4rl_engines.build import BuildConfig
from w4rl_engines.manifest import dumps, loads
from w4rl_fast.config import load_config, override
from w4rl_fast.data import Store
from w4rl_fast.distill import DistillConfig, distill_run
from w4rl_fast.distill.choice import fastest_fit
from w4rl_fast.distill.student import with_steps
from w4rl_fast.errors import UserError
from w4rl_fast.imagine.artifacts import artifacts
from w4rl_fast.imagine.export import export_one
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.quickstart import Quickstart, QuickstartConfig
from w4rl_fast.refine.imagined import RefineConfig, engine_before, world_behind
from w4rl_fast.truth.gate import judged_digest, objection, require_passed, world_digest
from w4rl_fast.world.checkpoint import load_world, save_world
from w4rl_fast.world.model import WorldModel
from w4rl_fast.world.train import TrainWorldConfig

FEW = (
    "--threads",
    1,
    "--set",
    "fit.save_seconds=0",
    "--set",
    "fit.steps=3",
    "--set",
    "fit.batch=4",
    "--set",
    "fit.bf16=false",
)
FEW_EPISODES = ("--compare", "--episodes", 8, "--simulated", 4, "--workers", 1)


def few(world, **settings):
    config = override(DistillConfig(student=with_steps(world.config, 1), **settings), ["fit.steps=4", "fit.batch=4"])
    return override(config, ["fit.bf16=false", "own.length=2"])


@pytest.mark.parametrize("method", ["consistency", "own-rollout"])
def test_a_distillation_that_was_killed_ends_with_the_same_weights_and_the_teacher_stays(
    run, store, teacher, monkeypatch, method
) -> None:
    before, config = world_digest(run), few(teacher, method=method)
    whole = distill_run(run, store, config, "whole")
    real = fit.Fit._one_step

    def dies(self, loss_at):
        if self.step == 2:
            self.save()
            raise KeyboardInterrupt
        return real(self, loss_at)

    monkeypatch.setattr(fit.Fit, "_one_step", dies)
    with pytest.raises(KeyboardInterrupt):
        distill_run(run, store, config, "killed")
    assert not (run / "students" / "killed" / "world" / WorldModel.weights_file).exists()
    monkeypatch.setattr(fit.Fit, "_one_step", real)
    resumed = distill_run(run, store, config, "killed")
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    assert not torch.equal(whole.unet.leave.weight, teacher.unet.leave.weight)
    for name, weight in whole.head.state_dict().items():
        assert torch.equal(weight, teacher.head.state_dict()[name]), name
    assert world_digest(run) == before


def test_a_student_is_a_run_of_the_same_layout(run, store, teacher) -> None:
    distill_run(run, store, few(teacher), "one")
    loaded = LoadedRun(run / "students" / "one")
    assert loaded.world.config.sampling.steps == 1
    assert loaded.task.name == "test/lamp"
    assert loaded.judge[1].hits == 1
    assert loaded.policy.config.action_dim == 2
    assert loaded.open_store(None).path.samefile(store.path)
    trained = load_config(loaded.path / "world" / "train.json", TrainWorldConfig)
    assert trained.world == loaded.world.config
    assert loaded.training() == (4, 0.4)
    worlds = loaded.imagination(num_worlds=3, slice_size=3, precision="float32")
    worlds.reset(0)
    seen, _, _ = worlds.step(torch.zeros(3, 2))
    assert seen.frames.shape == (3, 3, 16, 16)


def test_what_cannot_be_distilled_is_said_and_nothing_is_lost(run, store, cli, refusal) -> None:
    assert "no trained world" in refusal("distill", run.parent / "nothing", store.path)
    for name in ("../four", "teacher", "naive 1"):
        assert "a folder of its own" in refusal("distill", run, *FEW, "--name", name)
    assert cli("distill", run, *FEW, "--steps", 4, "--name", "four").exit_code == 0
    assert "drawn in 2" in refusal("distill", run, *FEW, "--steps", 4, "--set", "teacher_steps=2")
    assert "another method" in refusal("distill", run, *FEW, "--steps", 4, "--name", "four", "--method", "consistency")
    kept = world_digest(run / "students" / "four")
    torch.manual_seed(5)
    save_world(run / "world", WorldModel(load_world(run).config))
    for command in (("distill", run, *FEW, "--steps", 4, "--name", "four"), ("evaluate", "world", run, "--compare")):
        assert "its teacher was the world" in refusal(*command)
    assert world_digest(run / "students" / "four") == kept


def test_students_are_compared_and_one_that_is_not_fit_is_refused(run, store, cli) -> None:
    for options in (("--name", "same"), ("--student", "tiny-dit", "--method", "consistency")):
        result = cli("distill", run, store.path, *FEW, *options)
        assert result.exit_code == 0, result.output
        assert "memory" in result.stderr
    students = run / "students"
    assert "no gate has judged" in objection(students / "same")
    result = cli("evaluate", "world", run, *FEW_EPISODES, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["rows"] == json.loads((run / "students.json").read_text())["rows"]
    rows = {row["name"]: row for row in said["rows"]}
    assert [*rows] == ["teacher", "naive 1", "naive 2", "naive 3", "consistency-1-tiny-dit", "same"]
    one, two, three = (rows[f"naive {steps}"]["cost"]["gflop"] for steps in (1, 2, 3))
    assert three - two == pytest.approx(two - one)  # each step is one network more
    assert rows["naive 1"]["gain"] is None
    assert rows["same"]["gain"]["episodes"] > 0
    assert said["referee"].startswith("the teacher with other noise")
    for name in ("same", "consistency-1-tiny-dit"):
        gate = json.loads((students / name / "gate.json").read_text())
        assert gate["fit"] is not bool(gate["why"])
        assert gate["why"] == rows[name]["why"]
        assert (objection(students / name) is None) is gate["fit"]
    html = (run / "students.html").read_text()
    assert all(source.startswith("data:image/png") for source in re.findall(r'src="([^"]*)"', html))
    assert html.count("data:image/png") >= 2
    assert all(f">{name}<" in html for name in rows)


def test_the_gate_is_kept_forced_and_forgotten_with_the_weights(run, store, teacher) -> None:
    assert objection(run) is None  # no student
    distill_run(run, store, few(teacher), "one")
    folder = run / "students" / "one"
    gate = folder / "gate.json"
    said = {"fit": False, "why": ["action response 0.1 (teacher 0.9)"], "judged": judged_digest(folder)}
    gate.write_text(json.dumps(said))
    with pytest.raises(UserError, match=r"not fit for refinement: action response 0.1.*--force"):
        require_passed(folder)
    with pytest.warns(UserWarning, match="not fit"):
        require_passed(folder, force=True)
    gate.write_text(json.dumps({**said, "fit": True, "why": []}))
    require_passed(folder)
    save_world(folder / "world", make_other(load_world(folder)))
    with pytest.raises(UserError, match="no gate has judged"):
        require_passed(folder)
    gate.write_text("{")
    assert "no gate has judged" in objection(folder)


ONCE = ("--force", "--threads", 1, *(word for each in (
    "ppo.iterations=1", "ppo.worlds=4", "ppo.steps=2", "ppo.minibatches=2", "judged=4", "slice_size=4",
    "audit.least_replays=1",
) for word in ("--set", each)))  # fmt: skip


def test_refinement_imagines_in_the_fastest_student_that_is_fit(run, store, teacher, cli, refusal) -> None:
    def says(name, share, *why, sharper=False):
        folder = run / "students" / name
        said = {"fit": not why, "why": list(why), "judged": judged_digest(folder), "time_share": share}
        said["sharper"] = sharper
        (folder / "gate.json").write_text(json.dumps(said))

    assert fastest_fit(run) is None
    for name in ("slow", "fast", "untrue"):
        distill_run(run, store, few(teacher), name)
    assert fastest_fit(run) is None  # none was judged
    says("slow", 1.1)
    assert fastest_fit(run) is None  # the teacher is faster
    says("slow", 1.1, sharper=True)
    assert fastest_fit(run) == "slow"
    says("slow", 0.6)
    says("fast", 0.3)
    says("untrue", 0.1, "action response 0.1")
    assert fastest_fit(run) == "fast"
    assert "slow, untrue" in refusal("refine", "ppo", run, *ONCE, "--world", "nobody")
    assert "device=cuda" in refusal("refine", "ppo", run, *ONCE, "--graph")
    assert "--device cpu" in refusal("refine", "ppo", run, *ONCE, "--device", "nowhere")
    assert "CUDA_VISIBLE_DEVICES" in refusal("refine", "ppo", run, *ONCE, "--device", "cuda:1")
    result = cli("refine", "ppo", run, *ONCE)
    assert result.exit_code == 0, result.output
    assert "in the student fast" in result.stdout
    assert load_config(run / "refined" / "refine.json", RefineConfig).student == "fast"
    assert not (run / "students" / "fast" / "refined").exists()
    assert torch.equal(world_behind(run).unet.leave.weight, load_world(run / "students" / "fast").unet.leave.weight)
    says("fast", 0.95)
    assert "in the student fast" in cli("refine", "ppo", run, *ONCE).stdout  # it goes on where it was
    assert "other settings" in refusal("refine", "ppo", run, *ONCE, "--world", "teacher")
    (run / "reward" / "rule.json").write_text(json.dumps({"threshold": 0.9, "hits": 2}))
    assert fastest_fit(run) is None
    assert "--compare" in refusal("refine", "ppo", run, *ONCE, "--world", "fast")


def test_a_refinement_goes_on_by_what_it_began_with(run, cli) -> None:
    once = (*ONCE, "--set", "sampling_steps=1")
    assert cli("refine", "ppo", run, *once).exit_code == 0
    began = json.loads((run / "refined" / "engine.json").read_text())["engine"]
    assert began == "eager"
    export_one(LoadedRun(run), "world", BuildConfig(backend="eager", batches=(4,)), sampling_steps=1)
    (folder,) = artifacts(run, "world")
    manifest = loads((folder / "manifest.json").read_bytes())
    manifest.blobs[4].examined["eager_time"] = 2.0
    (folder / "manifest.json").write_bytes(dumps(manifest))
    assert LoadedRun(run).imagination(num_worlds=4, slice_size=4, sampling_steps=1).engine == "EagerEngine"
    again = cli("refine", "ppo", run, *once)
    assert again.exit_code == 0, again.output
    assert engine_before(run / "refined") == "eager"
    assert engine_before(run / "elsewhere") == "auto"


def test_a_long_quickstart_makes_a_student_and_says_what_it_is_worth(run, store, monkeypatch) -> None:
    monkeypatch.setattr("w4rl_fast.quickstart.STUDENT_STEPS", 1)
    assert "student" not in Quickstart(run, QuickstartConfig(minutes=15)).stages
    job = Quickstart(run, QuickstartConfig(minutes=30, workers=1))
    job.data = store.path
    names = list(job.stages)
    assert names[names.index("student") - 1 : names.index("student") + 3] == ["audit", "student", "engine", "refine"]
    said = job.student()
    assert "moving pixels" in said
    gate = json.loads((run / "students" / "own" / "gate.json").read_text())
    assert ("not fit" in said) is not gate["fit"]
    assert ("imagined in" in said) is (fastest_fit(run) == "own")
    assert (run / "students.html").exists()


def make_other(world):
    with torch.no_grad():
        world.unet.leave.bias.add_(1)
    return world


def test_the_store_of_a_run_is_opened_for_its_student(run, store, teacher) -> None:
    distill_run(run, Store(store.path), few(teacher), "one")
    assert not (run / "students" / "one" / "reward" / "training.safetensors").exists()
    assert (run / "students" / "one" / "reward" / "rule.json").exists()
