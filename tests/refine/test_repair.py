"""A round of repair in a simulator that can be written down: what it records, learns from, and leaves behind."""

import dataclasses
import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from w4rl_fast.cli import main
from w4rl_fast.config import load_config, save_config, to_json_dict
from w4rl_fast.data import collect as collecting
from w4rl_fast.data.collect import CollectConfig, collect
from w4rl_fast.data.episode import Schema
from w4rl_fast.data.store import Store, writing
from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.errors import UserError
from w4rl_fast.fit import FitConfig
from w4rl_fast.imagine.guards import GuardConfig
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.metrics import read_metrics
from w4rl_fast.policy import GaussianPolicy, PolicyConfig, policy_actor, policy_digest
from w4rl_fast.policy.clone import CloneConfig, clone
from w4rl_fast.refine import PPOConfig
from w4rl_fast.refine import repair as module
from w4rl_fast.refine.controls import train_controls, updates_of
from w4rl_fast.refine.imagined import RefineConfig, first_success, refine_run
from w4rl_fast.refine.proof import chosen, contenders
from w4rl_fast.refine.repair import RepairConfig, repair, with_share
from w4rl_fast.reward import RewardConfig
from w4rl_fast.reward.train import TrainRewardConfig, train_reward
from w4rl_fast.run import keep_store, keep_task, latest
from w4rl_fast.tasks import TaskConfig
from w4rl_fast.tasks.protocol import Observation
from w4rl_fast.truth.audit import AuditConfig
from w4rl_fast.world.checkpoint import load_world
from w4rl_fast.world.config import BackboneConfig, WorldConfig
from w4rl_fast.world.train import TrainWorldConfig, train_world

SIZE, LENGTH = 16, 6
TASK = TaskConfig(name="test/edge", image_size=SIZE, horizon=LENGTH - 1)
SCHEMA = Schema(image_size=SIZE, action_low=(-1.0,) * 2, action_high=(1.0,) * 2, proprio_dim=2)
PPO = PPOConfig(worlds=4, steps=LENGTH - 1, iterations=2, epochs=1, minibatches=1, value_warm_up=1, score_every=1)
LOOSE = GuardConfig(rise=1.0)
REFINE = RefineConfig(ppo=PPO, guards=LOOSE, slice_size=4, judged=4)


class EdgeTask:
    """A square that the actions push; it succeeds at the right edge."""

    action_low, action_high, proprio_dim = SCHEMA.action_low, SCHEMA.action_high, SCHEMA.proprio_dim
    landmark_dim = 0

    def __init__(self, config: TaskConfig) -> None:
        self.config = config

    def reset(self, seed: int) -> Observation:
        self.hand = np.random.default_rng(seed).uniform(0.3, 0.6, 2).astype(np.float32)
        self.succeeded = False
        return self.observe()

    def step(self, action: np.ndarray) -> Observation:
        self.hand = (self.hand + np.float32(0.12) * action).clip(0, 1)
        self.succeeded |= bool(self.hand[0] > 0.7)
        return self.observe()

    def observe(self) -> Observation:
        frame = np.full((SIZE, SIZE, 3), 30, np.uint8)
        x, y = (self.hand * SIZE).round().astype(int).clip(2, SIZE - 3)
        frame[y - 2 : y + 2, x - 2 : x + 2] = 220
        return Observation(frame, self.hand.copy(), bool(self.hand[0] > 0.7))

    def expert(self):
        return lambda: np.array([1, 0], np.float32)

    def close(self) -> None:
        pass


def simulate(monkeypatch) -> None:
    """Collect in this process, from the simulator above."""
    monkeypatch.setattr(collecting, "make_task", EdgeTask)
    monkeypatch.setattr(collecting, "in_processes", lambda make, jobs, _workers: map(make(), jobs))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A store, and a run whose parts have hardly learnt: a clone, a world, a classifier, a refined policy."""
    path = tmp_path_factory.mktemp("repair")
    with pytest.MonkeyPatch.context() as monkeypatch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such a world does not pass its audit
        simulate(monkeypatch)
        make_run(path / "data", path / "run")
    return path


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A copy to change."""
    simulate(monkeypatch)
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


def make_run(store, folder) -> None:
    collect(store, [TASK], CollectConfig(expert=6, random=40))
    keep_task(folder, TASK)
    keep_store(folder, store)
    torch.manual_seed(0)
    sizes = {"image_size": SIZE, "action_dim": 2, "proprio_dim": 2}
    windows = Windows(Store(store), WindowConfig(history=1, future=1, held_out=0.0, sources={"expert": 1.0}))
    settings = CloneConfig(fit=FitConfig(steps=3, batch=8))
    clone(GaussianPolicy(PolicyConfig(**sizes, widths=(8, 8), hidden=16)), windows, settings, folder / "policy")
    collect(store, [TASK], CollectConfig(rollouts=30), lambda task: policy_actor(folder, task), policy_digest(folder))
    backbone = BackboneConfig(patch=2, widths=(8, 16), depths=(1, 1), attention=(False, False), condition_dim=32)
    fit = FitConfig(steps=3, batch=4)
    train_world(
        Store(store),
        TrainWorldConfig(world=WorldConfig(**sizes, history=2, anchor=True, backbone=backbone), head=fit, denoiser=fit,
                         horizon=LENGTH - 1),
        folder / "world",
    )  # fmt: skip
    reward = TrainRewardConfig(
        reward=RewardConfig(image_size=SIZE, widths=(8, 8), hidden=8), horizon=LENGTH - 1, task=TASK.name, fit=fit,
        dreams=20,
    )  # fmt: skip
    train_reward(Store(store), load_world(folder), reward, folder / "reward")
    refine_run(LoadedRun(folder), REFINE, force=True)


def config(**changes) -> RepairConfig:
    return RepairConfig(rollouts=12, workers=1, refine=REFINE, **changes)


def weights(folder):
    return {
        path.name: path.read_bytes() for path in folder.rglob("*.safetensors") if path.name != "training.safetensors"
    }


@pytest.mark.filterwarnings("ignore:refining in a world")
def test_a_round_records_learns_and_refines(run) -> None:
    before = Store(run.parent / "data")
    done = repair(run, config(), 1)
    store, folder = Store(run.parent / "data"), run / "repair-1"
    added = [info for info in store.infos if info.key not in set(before.keys)]
    assert [info.source for info in added] == ["repair"] * 12
    assert done.real_steps == 12 * (LENGTH - 1)
    assert done.real.episodes == 6
    assert done.before.fidelity.imagined.n == 12
    assert done.repaired
    assert latest(run) == folder
    assert weights(folder / "policy") == weights(run / "policy")
    for part in ("world", "reward"):
        assert weights(folder / part).keys() == weights(run / part).keys()
        assert weights(folder / part) != weights(run / part)
    train = json.loads((folder / "world" / "train.json").read_text())
    assert train["sources"]["repair"] == 0.3
    assert train["denoiser"]["steps"] == 1
    assert train["denoiser"]["learning_rate"] == pytest.approx(0.5e-3)
    assert LoadedRun(folder).imagination(num_worlds=2, slice_size=2).num_worlds == 2  # a run of its own
    assert repair(run, config(), 1) == done  # finished: nothing is done again
    assert list(contenders(run)) == ["cloned", "refined", "repair-1"]
    assert (done.kept == "earlier") == (done.earlier.successes > done.imagined.successes)
    best, own, earlier = (weights(path / name) for path, name in (
        (folder / "refined", "best"), (folder / "refined", "own"), (run / "refined", "best")))  # fmt: skip
    assert best == (earlier if done.kept == "earlier" else own)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:refining in a world")
def test_a_second_round_looks_at_its_own_rollouts_and_learns_as_long(run) -> None:
    first, second = (repair(run, config(), number) for number in (1, 2))
    assert second.before.fidelity.imagined.n == 12
    assert second.real_steps == first.real_steps == 12 * (LENGTH - 1)
    infos = [info for info in Store(run.parent / "data").infos if info.source == "repair"]
    assert len({info.seed for info in infos}) == len(infos) == 24  # no episode begins as another one
    steps = [
        json.loads((run / f"repair-{n}" / "world" / "train.json").read_text())["denoiser"]["steps"] for n in (1, 2)
    ]
    assert steps == [1, 1]


@pytest.mark.filterwarnings("ignore:refining in a world")
def test_other_settings_do_not_go_on_with_a_round(run, monkeypatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(module, "train_reward", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            repair(run, config(), 1)
    with pytest.raises(UserError, match="begun with other settings"):
        repair(run, config(share=0.5), 1)


def test_where_worlds_begin_does_not_change_with_a_repair(run) -> None:
    before = LoadedRun(run).imagination(num_worlds=2, slice_size=2).starts.proprio
    collect(run.parent / "data", [TASK], CollectConfig(repair=6), lambda task: policy_actor(run, task), "name")
    assert torch.equal(LoadedRun(run).imagination(num_worlds=2, slice_size=2).starts.proprio, before)


@pytest.mark.filterwarnings("ignore:refining in a world")
def test_an_interrupted_round_goes_on_where_it_was(run, monkeypatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(module, "train_reward", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            repair(run, config(), 1)
    assert latest(run) == run
    world = weights(run / "repair-1" / "world")
    count = len(Store(run.parent / "data"))
    repair(run, config(), 1)
    assert latest(run) == run / "repair-1"
    assert weights(run / "repair-1" / "world") == world
    assert len(Store(run.parent / "data")) == count


def test_a_policy_that_succeeds_is_left_alone(run) -> None:
    done = repair(run, config(enough=0.0), 1)
    assert not done.repaired
    assert done.after is None
    assert latest(run) == run
    assert not (run / "repair-1" / "world").exists()


def test_what_an_arm_recorded_is_what_a_round_learns_from(run, tmp_path) -> None:
    """Episodes of the refined policy alone, under their own names, and nobody is simulated."""
    store, arm = Store(tmp_path / "data"), tmp_path / "arm"
    digest = policy_digest(run / "refined" / "best")
    with writing(arm, store.schema, store.index.tasks) as writer:
        for number, origin in enumerate([f"{digest}-robot"] * 3 + ["another-robot", digest]):
            episode = store.read(number)
            info = dataclasses.replace(
                episode.info, source="policy", origin=origin, seed=9_000 + number, succeeded=number == 0
            )
            writer.add(dataclasses.replace(episode, info=info))
    done = repair(run, config(enough=0.0, recorded=arm), 1)
    assert (done.real.successes, done.real.episodes) == (1, 3)
    taken = [info for info in Store(tmp_path / "data").infos if info.seed in range(9_000, 9_100)]
    assert len(taken) == 3
    assert {info.source for info in taken} == {"repair"}
    assert len(Store(tmp_path / "data")) == len(store) + 3


def test_a_store_without_the_refined_policy_repairs_nothing(run, tmp_path) -> None:
    with pytest.raises(UserError, match="0 of its 76 episodes are of the refined policy"):
        repair(run, config(recorded=tmp_path / "data"), 1)


def test_a_refinement_that_goes_on_is_measured_from_its_beginning(run, tmp_path) -> None:
    assert 0 <= first_success(run / "refined") <= 1
    assert first_success(tmp_path / "nothing") is None


def test_a_world_that_fails_its_audit_is_refused(run) -> None:
    strict = dataclasses.replace(REFINE, audit=AuditConfig(least_replays=1000))
    with pytest.raises(UserError, match="begun with other settings"):
        refine_run(LoadedRun(run), strict, force=True)
    shutil.rmtree(run / "refined")
    with pytest.raises(UserError, match=r"does not pass its audit.*too few.*w4rl audit"):
        refine_run(LoadedRun(run), strict)
    assert not (run / "refined").exists()  # nothing was begun
    with pytest.warns(UserWarning, match="too few"):
        refine_run(LoadedRun(run), REFINE, force=True)


@pytest.mark.filterwarnings("ignore:refining in a world")
def test_a_refinement_that_a_guard_ends_leaves_its_best(run) -> None:
    touchy = dataclasses.replace(REFINE, guards=GuardConfig(rise=-1.0, unsure=-1.0))
    done = repair(run, dataclasses.replace(config(), refine=touchy), 1)
    assert done.repaired
    (_, stopped) = read_metrics(run / "repair-1" / "refined" / "metrics.jsonl")
    assert stopped["refine/guard_unsure"] >= 0  # what stopped it is logged
    assert (run / "repair-1" / "refined" / "best" / "policy.safetensors").exists()


def test_without_a_refined_policy_there_is_nothing_to_repair(run) -> None:
    (run / "refined").rename(run / "elsewhere")
    with pytest.raises(UserError, match="no refined policy"):
        repair(run, config(), 1)
    for wanted in ({"after": True, "controls": False}, {"after": False, "controls": True}):
        with pytest.raises(UserError, match="no policy was refined"):
            chosen(run, before=True, **wanted)


def test_repair_has_its_share_and_the_others_keep_theirs(run) -> None:
    store = Store(run.parent / "data")
    trained = TrainWorldConfig(world=load_world(run).config, horizon=LENGTH - 1)
    assert sum(with_share(store, trained, 0.3).values()) == pytest.approx(1.0 - 0.3)  # there is no round yet
    collect(store.path, [TASK], CollectConfig(repair=10), lambda task: policy_actor(run, task), "name")
    store = Store(store.path)
    shares = with_share(store, trained, 0.3)
    assert shares["repair"] == 0.3
    assert sum(shares.values()) == pytest.approx(1.0)
    there = Windows(store, WindowConfig(future=LENGTH - 1)).by_source()
    assert shares["random"] / shares["policy"] == pytest.approx(there["random"] / there["policy"])


def test_controls_learn_as_long_from_what_they_are_named_after(run, monkeypatch) -> None:
    seen = []

    def look(policy, windows, settings, folder):
        infos = [windows.store.infos[episode] for episode in windows.episodes]
        seen.append(({info.source for info in infos}, {info.succeeded for info in infos}, settings.fit.steps))
        return clone(policy, windows, settings, folder)

    monkeypatch.setattr("w4rl_fast.refine.controls.clone", look)
    folders = train_controls(run)
    assert updates_of(run) == 1  # one of the two iterations moved the policy, with one minibatch
    (shown, _, steps), (sources, succeeded, others) = seen
    assert shown == {"expert"}
    assert succeeded == {True}
    assert "expert" in sources
    assert steps == others == 3 + 1
    assert all((folder / "policy.safetensors").exists() for folder in folders.values())
    collect(run.parent / "data", [TASK], CollectConfig(repair=6), lambda task: policy_actor(run, task), "name")
    train_controls(run)
    assert "repair" not in seen[-1][0]  # nobody has learnt from them
    assert to_json_dict(GaussianPolicy.from_pretrained(folders["successes"]).config)["widths"] == [8, 8]


def test_a_round_has_settings_that_make_sense() -> None:
    with pytest.raises(ValueError, match="rollouts=1"):
        RepairConfig(rollouts=1)
    with pytest.raises(ValueError, match="share"):
        RepairConfig(share=1.0)


def test_a_config_of_a_round_can_be_kept(tmp_path) -> None:
    save_config(tmp_path / "repair.json", config())
    assert load_config(tmp_path / "repair.json", RepairConfig) == config()


def command(*words) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.stdout


@pytest.mark.filterwarnings("ignore:refining in a world")
def test_the_commands_audit_repair_and_compare(run, monkeypatch) -> None:
    monkeypatch.setattr("w4rl_fast.truth.success.make_task", EdgeTask)
    monkeypatch.setattr("w4rl_fast.truth.success.in_processes", lambda make, jobs, _workers: map(make(), jobs))
    assert command("refine", "ppo", run, run.parent / "nowhere")[0] == 2
    assert command("evaluate", "world", run, "--compare", "--horizon", 3)[0] == 2
    code, said = command("audit", run, "--json")  # and the run still knows its own store
    assert code == 1
    assert json.loads(said)["passes"] is False
    assert "May a policy be refined" in (run / "audit.html").read_text()
    code, said = command("audit", run, "--set", "least_replays=1", "--set", "least_agreement=0", "--set",
                         "most_optimism=1", "--set", "most_false_successes=1", "--set", "least_failures=0")  # fmt: skip
    assert code == 0
    assert "passes" in said
    code, said = command("repair", run, "--rollouts", 12, "--workers", 1, "--threads", 1, "--json")
    assert code == 0
    (round_,) = json.loads(said)
    assert round_["real_steps"] == 12 * (LENGTH - 1)
    code, said = command("evaluate", "policy", run, "--before", "--after", "--controls", "--episodes", 4, "--json")
    assert code == 0
    assert list(json.loads(said)["against_controls"]) == ["all demos", "successes"]
    policies = json.loads(said)["policies"]
    assert list(policies) == ["cloned", "refined", "repair-1", "all demos", "successes"]
    for name, each in policies.items():
        assert each["episodes"] == 4
        assert each["gap"] == pytest.approx(each["imagined"]["successes"] / 4 - each["successes"] / 4)
        assert (each["against_cloned"] is None) == (name == "cloned")
    code, said = command("evaluate", "policy", run, "--before", "--after", "--episodes", 4)
    assert "repair-1 against cloned" in said
