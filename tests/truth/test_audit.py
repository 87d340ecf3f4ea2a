"""An audit says which limits a world breaks, and stands as long as nothing that it judged has changed."""

import dataclasses

import numpy as np
import pytest

from w4rl_fast.config import load_config, save_config
from w4rl_fast.data.store import Store
from w4rl_fast.errors import UserError
from w4rl_fast.reward import RewardConfig, RewardModel, Rule, save_reward
from w4rl_fast.reward.train import TrainRewardConfig
from w4rl_fast.truth import audit as module
from w4rl_fast.truth.again import imagine_again
from w4rl_fast.truth.audit import Audit, AuditConfig, audit, complaints, standing_audit
from w4rl_fast.truth.failure import confusion
from w4rl_fast.truth.held_out import chosen_episodes, held_out
from w4rl_fast.world.checkpoint import save_world
from w4rl_fast.world.model import WorldModel
from w4rl_fast.world.rollout import roll_out

ANY = AuditConfig(least_replays=1, least_failures=0, least_agreement=0.0, most_optimism=1.0, most_false_successes=1.0)


def counted(true_successes, false_successes, true_failures, false_failures):
    real = [True] * true_successes + [False] * false_successes + [False] * true_failures + [True] * false_failures
    said = [True] * (true_successes + false_successes) + [False] * (true_failures + false_failures)
    return confusion(np.array(real), np.array(said))


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((50, 2, 48, 2), []),
        ((9, 0, 9, 0), ["too few"]),
        ((98, 0, 2, 0), ["2 real failures"]),
        ((40, 0, 30, 30), ["outcomes agree"]),
        ((30, 18, 52, 0), ["18% more succeed", "26% of the failures"]),
        ((80, 5, 15, 0), []),
        ((80, 6, 14, 0), ["30% of the failures"]),
        ((45, 10, 35, 10), []),  # mistakes on both sides that cancel out are not optimism
    ],
)
def test_each_limit_is_named_when_it_is_broken(counts, said) -> None:
    found = complaints(counted(*counts), AuditConfig())
    assert len(found) == len(said)
    assert all(words in each for words, each in zip(said, found, strict=True))


@pytest.fixture
def run(tmp_path, point_config):
    reward = TrainRewardConfig(reward=RewardConfig(image_size=24), horizon=5, task="test/point")
    save_world(tmp_path / "world", WorldModel(point_config.world))
    save_config(tmp_path / "world" / "train.json", point_config)
    save_reward(tmp_path / "reward", RewardModel(reward.reward), Rule(threshold=0.5, hits=1))
    save_config(tmp_path / "reward" / "train.json", reward)
    return tmp_path


def test_an_audit_stands_until_something_changes(run, point_store, point_config, monkeypatch) -> None:
    made = []

    def counting(*given):
        made.append(given)
        return audit(*given)

    monkeypatch.setattr(module, "audit", counting)
    first = standing_audit(run, point_store, ANY)
    assert isinstance(first, Audit)
    assert standing_audit(run, point_store, ANY) == first
    assert len(made) == 1
    standing_audit(run, point_store, dataclasses.replace(ANY, least_agreement=0.1))
    assert len(made) == 2
    save_world(run / "world", WorldModel(WorldModel.from_pretrained(run / "world").config))
    standing_audit(run, point_store, ANY)
    assert len(made) == 3
    (run / "audit.json").write_text("{")
    assert standing_audit(run, point_store, ANY).digest
    assert len(made) == 4
    save_config(run / "world" / "train.json", dataclasses.replace(point_config, held_out=0.4))
    standing_audit(run, point_store, ANY)
    assert len(made) == 5


def test_a_part_that_is_missing_is_named(run, point_store) -> None:
    (run / "reward" / RewardModel.weights_file).unlink()
    with pytest.raises(UserError, match="no trained reward"):
        audit(run, point_store, ANY)


def test_episodes_that_nothing_learnt_from_are_judged_on_either_side(run, point_store) -> None:
    chosen = chosen_episodes(point_store, load_config(run / "world" / "train.json", module.TrainWorldConfig),
                             lambda info: info.source == "random", horizon=5)  # fmt: skip
    assert {info.source for info in chosen.infos} == {"random"}
    assert len(chosen) == sum(info.source == "random" for info in point_store.infos)
    found, _ = audit(run, point_store, ANY, lambda info: info.source == "random")
    assert found.fidelity.imagined.n == len(chosen)
    assert not (run / "audit.json").exists()
    save_config(
        run / "reward" / "train.json",
        dataclasses.replace(load_config(run / "reward" / "train.json", TrainRewardConfig), task="test/other"),
    )
    with pytest.raises(UserError, match="none is of test/other"):
        audit(run, point_store, ANY)
    with pytest.raises(UserError, match="long enough"):
        audit(run, point_store, ANY, lambda _info: False)


def test_an_episode_in_the_hand_is_imagined_as_one_in_the_store(point_store: Store, point_config, point_world) -> None:
    world = point_world(gain=0.5, drift=0.01)
    held = held_out(point_store, point_config, horizon=9, episodes=3, start=0)
    episodes = [point_store.read(number) for number in held.windows.episodes[held.chosen]]
    (batch,) = held.batches()
    for again, imagined, real in zip(
        imagine_again(world, episodes), roll_out(world, batch).frames, batch.frames, strict=True
    ):
        assert (again.imagined == imagined).all()
        assert (again.real == real[world.config.history - 1 :]).all()
