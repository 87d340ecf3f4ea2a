"""Measures of fidelity on futures whose answer is known."""

import numpy as np
import pytest
import torch

from w4rl_fast.data.windows import Batch
from w4rl_fast.truth.fidelity import correlation, measure_fidelity
from w4rl_fast.world.rollout import Imagined

HISTORY, STEPS = 2, 3


def batch() -> Batch:
    """Two episodes in which one quarter of the picture brightens by 0.2 a step; the hand moves 1 cm a step."""
    frames = torch.zeros(2, HISTORY + STEPS, 3, 8, 8)
    frames[:, :, :, :4, :4] = 0.2 * torch.arange(HISTORY + STEPS).view(1, -1, 1, 1, 1)
    proprio = torch.zeros(2, HISTORY + STEPS, 4)
    proprio[:, :, 0] = 0.01 * torch.arange(HISTORY + STEPS)
    return Batch(
        frames, frames[:, 0], torch.zeros(2, HISTORY + STEPS - 1, 2), proprio,
        torch.zeros(2, HISTORY + STEPS, dtype=torch.bool), torch.ones(2, HISTORY + STEPS, dtype=torch.bool),
        np.arange(2), np.zeros(2, np.int64),
    )  # fmt: skip


def test_a_perfect_world_is_perfect() -> None:
    given = batch()
    fidelity = measure_fidelity(given, Imagined(given.frames[:, HISTORY:], given.proprio[:, HISTORY:]), HISTORY)
    assert fidelity.psnr == fidelity.psnr_moving == pytest.approx([80.0] * STEPS)
    assert fidelity.proprio_error_m == [0.0] * STEPS
    assert fidelity.psnr_moving_extrapolate == pytest.approx([80.0] * STEPS)  # the change is linear


def test_repeating_the_last_frame_scores_what_it_must() -> None:
    given = batch()
    last = given.frames[:, HISTORY - 1 : HISTORY].expand(-1, STEPS, -1, -1, -1)
    still = given.proprio[:, HISTORY - 1 : HISTORY].expand(-1, STEPS, -1)
    fidelity = measure_fidelity(given, Imagined(last, still), HISTORY)
    expected = [-20 * np.log10(0.2 * step / 2) for step in (1, 2, 3)]
    assert fidelity.psnr_moving == fidelity.psnr_moving_repeat == pytest.approx(expected, abs=1e-3)
    assert fidelity.psnr == pytest.approx([value + 10 * np.log10(4) for value in expected], abs=1e-3)
    assert fidelity.proprio_error_m == pytest.approx([0.01, 0.02, 0.03])


def test_correlation_is_pearsons() -> None:
    a = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    assert correlation(a, 3 * a + 1) == pytest.approx([1, 1])
    assert correlation(a, -a) == pytest.approx([-1, -1])
    b = torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    assert correlation(a, b) == pytest.approx([np.corrcoef(a[:, d], b[:, d])[0, 1] for d in (0, 1)], abs=1e-5)
