"""Films: real, imagined and difference side by side, the end first."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from w4rl_fast.report.film import GAP, HOLD, TIME, encode_film, encode_trial
from w4rl_fast.truth.trials import Trials

Image = pytest.importorskip("PIL.Image")


def frames_of(payload):
    picture = Image.open(io.BytesIO(payload))
    frames = []
    for index in range(picture.n_frames):
        picture.seek(index)
        frames.append(np.array(picture.convert("RGB")))
    return np.stack(frames)


def test_a_film_shows_real_imagined_and_a_grey_difference_where_they_agree():
    real = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    imagined = real[1:].clone()
    imagined[-1, :, :4] = -1.0
    shown = frames_of(encode_film(SimpleNamespace(real=real, imagined=imagined)))
    assert shown.shape == (HOLD + 4, 8 + TIME, 3 * 8 + 2 * GAP, 3)
    np.testing.assert_array_equal(shown[0], shown[-1])  # the end is what stands still
    left, middle, right = (
        shown[..., :8, :8, :],
        shown[..., :8, 8 + GAP : 16 + GAP, :],
        shown[..., :8, 16 + 2 * GAP :, :],
    )
    assert (right[HOLD : HOLD + 3] == 128).all()
    np.testing.assert_array_equal(left[HOLD : HOLD + 3], middle[HOLD : HOLD + 3])
    assert (right[-1, 4:] == 128).all()
    assert (right[-1, :4] < 128).mean() > 0.9


def test_trials_stand_in_columns_the_simulator_above():
    frames = torch.zeros(1, 4, 3, 3, 8, 8, dtype=torch.uint8)
    simulated = frames + 10 * torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1, 1)
    shown = frames_of(encode_trial(Trials(frames + 200, frames), Trials(simulated, frames), 0))
    assert shown.shape == (HOLD + 3, 16 + GAP + TIME, 4 * 8 + 3 * GAP, 3)
    for kind in range(4):
        column = shown[:, :, kind * (8 + GAP) : kind * (8 + GAP) + 8]
        assert (column[:, :8] == 10 * kind).all()
        assert (column[:, 8 + GAP : 16 + GAP] == 200).all()
