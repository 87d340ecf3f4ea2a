"""A whole refinement: what it leaves on disk, what it returns, and how it goes on."""

import dataclasses
import json

import pytest
import torch

from w4rl_fast.errors import UserError
from w4rl_fast.metrics import read_metrics
from w4rl_fast.policy import GaussianPolicy, load_policy
from w4rl_fast.refine import PPO, PPOConfig, ValueNetwork, refine
from w4rl_fast.refine.checkpoint import CHECKPOINT, digest


def test_it_leaves_the_last_and_the_best_policy(clone, line, config, tmp_path) -> None:
    scores = iter([0.2, 0.7, 0.5, 0.4])
    judged = []

    def score(policy) -> float:
        judged.append(digest(policy))
        return next(scores)

    result = refine(PPO(clone, line, config, tmp_path), score)
    assert (result.iteration, result.score) == (2, 0.7)
    assert digest(result.policy) == digest(load_policy(tmp_path / "best")) == judged[1]
    assert digest(GaussianPolicy.from_pretrained(tmp_path / "last")) == judged[3]
    assert ValueNetwork.from_pretrained(tmp_path / "value").config.image_size == 8
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(7))
    assert {row["step"]: row["refine/score"] for row in rows if "refine/score" in row} == {
        0: 0.2,
        2: 0.7,
        4: 0.5,
        6: 0.4,
    }
    known = {"success", "return", "kl", "entropy", "clip_fraction", "explained_variance", "value_loss", "anchor_kl"}
    assert {f"refine/{name}" for name in known} <= rows[-1].keys()


def test_the_clone_is_kept_if_nothing_beats_it(clone, line, config, tmp_path) -> None:
    result = refine(PPO(clone, line, config, tmp_path), lambda _policy: 0.5)
    assert (result.iteration, result.score) == (0, 0.5)
    assert torch.equal(result.policy.head[0].weight, clone.head[0].weight)


def test_it_is_not_judged_while_only_the_value_network_learns(clone, line, config, tmp_path) -> None:
    config = dataclasses.replace(config, value_warm_up=4)
    refine(PPO(clone, line, config, tmp_path), line.success)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if "refine/score" in row] == [0, 6]


def test_without_a_score_the_last_is_the_result(clone, line, config, tmp_path) -> None:
    result = refine(PPO(clone, line, config, tmp_path))
    assert (result.iteration, result.score) == (6, None)
    assert digest(result.policy) == digest(load_policy(tmp_path / "last"))
    assert not (tmp_path / "best").exists()


@pytest.mark.parametrize("stop", [1, 2, 5])
@pytest.mark.parametrize("save_seconds", [0.0, 1e9])
def test_interrupted_and_taken_up_it_ends_as_if_it_had_not_been(
    clone, line, config, tmp_path, stop, save_seconds
) -> None:
    """With a checkpoint after each iteration and with none at all before the interruption."""
    config = dataclasses.replace(config, save_seconds=save_seconds)

    def interrupt(iteration) -> dict[str, float]:
        if iteration == stop:
            raise KeyboardInterrupt
        return {}

    whole = refine(PPO(clone, line, config, tmp_path / "whole"), line.success)
    with pytest.raises(KeyboardInterrupt):
        refine(PPO(clone, line, config, tmp_path / "pieces"), line.success, guard=interrupt)
    pieces = refine(PPO(clone, line, config, tmp_path / "pieces"), line.success)
    assert (pieces.iteration, pieces.score) == (whole.iteration, whole.score)
    for name in ("best/policy.safetensors", "last/policy.safetensors", "value/value.safetensors", "metrics.jsonl"):
        assert (tmp_path / "pieces" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_finished_one_is_not_repeated(clone, line, config, tmp_path) -> None:
    first = refine(PPO(clone, line, config, tmp_path), line.success)
    lines, calls = (tmp_path / "metrics.jsonl").read_text(), line.calls
    again = refine(PPO(clone, line, config, tmp_path), line.success)
    assert (again.iteration, again.score) == (first.iteration, first.score)
    assert digest(again.policy) == digest(first.policy)
    assert (tmp_path / "metrics.jsonl").read_text() == lines
    assert line.calls == calls


def test_it_ends_when_nothing_is_left_to_gain(clone, line, config, tmp_path) -> None:
    scores = iter([0.2, 0.5, 0.9, 0.7])
    config = dataclasses.replace(config, iterations=20, score_every=1, value_warm_up=0, enough=0.9)
    result = refine(PPO(clone, line, config, tmp_path), lambda _policy: next(scores))
    assert (result.score, result.iteration) == (0.9, 2)
    later = refine(PPO(clone, line, config, tmp_path), lambda _policy: next(scores))
    assert later.score == 0.9  # nor does it go on later
    assert next(scores) == 0.7


def test_a_guard_is_logged_and_can_end_it(clone, line, config, tmp_path) -> None:
    seen = []

    def guard(iteration) -> dict[str, float]:
        seen.append(ppo.rollout.rewards.sum().item())
        if iteration == 3:
            raise UserError("success rises while the world is exploited", rule="a guard", remedy="Repair the world")
        return {"disagreement": 0.1 * iteration}

    ppo = PPO(clone, line, dataclasses.replace(config, save_seconds=0.0), tmp_path)
    with pytest.raises(UserError, match="exploited"):
        refine(ppo, guard=guard)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["refine/disagreement"] for row in rows] == pytest.approx([0.1, 0.2])
    assert [row["refine/return"] * line.worlds for row in rows] == pytest.approx(seen[:2])
    assert (tmp_path / CHECKPOINT).exists()


def test_progress_says_what_matters(clone, line, config, tmp_path, capsys) -> None:
    refine(PPO(clone, line, config, tmp_path), line.success)
    said = capsys.readouterr().err
    assert all(word in said for word in ("refine: 6 iterations", "success", "kl", "entropy", "score"))


def test_settings_can_be_typed() -> None:
    from w4rl_fast.config import from_json_dict, override, to_json_dict

    changed = override(PPOConfig(), ["anchor=0.05", "learn_std=true", "worlds=8"])
    assert (changed.anchor, changed.learn_std, changed.worlds) == (0.05, True, 8)
    assert from_json_dict(PPOConfig, to_json_dict(changed)) == changed
