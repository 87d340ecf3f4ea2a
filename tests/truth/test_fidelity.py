"""Measures of fidelity on futures whose answer is known."""

import dataclasses

import numpy as np
import pytest
import torch

from w4rl_fast.data.windows import Batch
from w4rl_fast.truth import held_out as choosing
from w4rl_fast.truth.fidelity import correlation, score, summarise
from w4rl_fast.truth.held_out import held_out
from w4rl_fast.truth.open_loop import judge_world
from w4rl_fast.world.rollout import Imagined

HISTORY, STEPS = 2, 3


def batch(speed: float = 0.2, count: int = 2) -> Batch:
    """Episodes in which one quarter of the picture brightens by `speed` a step; the hand moves 1 cm a step."""
    frames = torch.zeros(count, HISTORY + STEPS, 3, 16, 16)
    frames[:, :, :, :8, :8] = speed * torch.arange(HISTORY + STEPS).view(1, -1, 1, 1, 1)
    proprio = torch.zeros(count, HISTORY + STEPS, 4)
    proprio[:, :, 0] = 0.01 * torch.arange(HISTORY + STEPS)
    return Batch(
        frames, frames[:, 0], torch.zeros(count, HISTORY + STEPS - 1, 2), proprio,
        torch.zeros(count, HISTORY + STEPS, dtype=torch.bool), torch.ones(count, HISTORY + STEPS, dtype=torch.bool),
        np.arange(count), np.zeros(count, np.int64),
    )  # fmt: skip


def perfect(given: Batch) -> Imagined:
    return Imagined(given.frames[:, HISTORY:], given.proprio[:, HISTORY:])


def test_a_perfect_world_is_perfect() -> None:
    given = batch()
    fidelity = summarise(score(given, perfect(given), HISTORY))
    assert fidelity.episodes == 2
    assert fidelity.psnr == fidelity.psnr_moving == pytest.approx([80.0] * STEPS)
    assert fidelity.ssim == pytest.approx([1.0] * STEPS)
    assert fidelity.proprio_error_m == [0.0] * STEPS
    assert fidelity.psnr_moving_extrapolate == pytest.approx([80.0] * STEPS)  # the change is linear
    assert fidelity.psnr_extrapolate == pytest.approx([80.0] * STEPS)


def test_repeating_the_last_frame_scores_what_it_must() -> None:
    given = batch()
    last = given.frames[:, HISTORY - 1 : HISTORY].expand(-1, STEPS, -1, -1, -1)
    still = given.proprio[:, HISTORY - 1 : HISTORY].expand(-1, STEPS, -1)
    fidelity = summarise(score(given, Imagined(last, still), HISTORY))
    expected = [-20 * np.log10(0.2 * step / 2) for step in (1, 2, 3)]
    assert fidelity.psnr_moving == fidelity.psnr_moving_repeat == pytest.approx(expected, abs=1e-3)
    assert fidelity.psnr == fidelity.psnr_repeat == pytest.approx([e + 10 * np.log10(4) for e in expected], abs=1e-3)
    assert fidelity.ssim == fidelity.ssim_repeat
    assert fidelity.proprio_error_m == fidelity.proprio_error_repeat_m == pytest.approx([0.01, 0.02, 0.03])


def test_where_nothing_moves_there_is_no_moving_psnr_and_it_does_not_spoil_the_mean() -> None:
    still, moving = batch(speed=0.0, count=1), batch(count=1)
    scores = [score(given, perfect(given), HISTORY) for given in (still, moving)]
    assert summarise(scores[0]).psnr_moving == [None] * STEPS
    both = summarise({name: torch.cat([each[name] for each in scores]) for name in scores[0]})
    assert both.psnr_moving == pytest.approx([80.0] * STEPS)
    assert both.episodes == 2


def test_correlation_is_pearsons() -> None:
    a = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    assert correlation(a, 3 * a + 1) == pytest.approx([1, 1])
    assert correlation(a, -a) == pytest.approx([-1, -1])
    b = torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    assert correlation(a, b) == pytest.approx([np.corrcoef(a[:, d], b[:, d])[0, 1] for d in (0, 1)], abs=1e-5)


def test_a_verdict_is_whole_by_source_and_whatever_the_slices(
    point_store, point_config, point_world, monkeypatch
) -> None:
    held = held_out(point_store, point_config, horizon=6, episodes=100)
    verdict = judge_world(point_world(gain=0.8), held)
    parts = verdict.by_source.values()
    assert sum(each.episodes for each in parts) == verdict.overall.episodes == len(held)
    for step in range(6):
        weighted = sum(each.episodes * each.psnr[step] for each in parts) / len(held)
        assert verdict.overall.psnr[step] == pytest.approx(weighted)
    assert {(f.info.source, f.info.succeeded) for f in verdict.films} == {(i.source, i.succeeded) for i in held.infos}
    assert verdict.overall.proprio_error_m[-1] > verdict.overall.proprio_error_m[0] > 0.005
    monkeypatch.setattr(choosing.HeldOut.batches, "__defaults__", (3,))
    again = judge_world(point_world(gain=0.8), held)
    for field in dataclasses.fields(again.overall):
        assert getattr(again.overall, field.name) == pytest.approx(getattr(verdict.overall, field.name)), field.name
    for one, other in zip(verdict.films, again.films, strict=True):
        assert one.info == other.info
        assert torch.equal(one.imagined, other.imagined)


def test_a_world_that_knows_the_law_is_found_perfect(point_store, point_config, point_world) -> None:
    overall = judge_world(point_world(), held_out(point_store, point_config, horizon=6, episodes=6)).overall
    assert min(overall.psnr) > 40  # a rounded centre may fall on the next pixel, but not often
    assert max(overall.proprio_error_m) < 1e-6
