"""Structural similarity against its definition."""

import numpy as np
import pytest
import torch

from w4rl_fast.truth.ssim import ssim


def pictures(count, size):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(size)) * 2 - 1


def by_definition(a, b, span=2.0):
    """One window of 11 x 11, weighted sums written out."""
    at = np.arange(11) - 5
    weights = np.exp(-(at[:, None] ** 2 + at**2) / (2 * 1.5**2))
    weights /= weights.sum()
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    variance_a, variance_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
    covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    return ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )


@pytest.mark.parametrize("size", [11, 13, 24])
def test_it_is_the_mean_over_windows_and_channels(size):
    a, b = pictures(2, size), pictures(2, size + 100)[..., :size, :size] * 0.3 + pictures(2, size)
    corners = [(c, y, x) for c in range(3) for y in range(size - 10) for x in range(size - 10)]
    windows = [[p[0, c, y : y + 11, x : x + 11].double().numpy() for p in (a, b)] for c, y, x in corners]
    expected = np.mean([by_definition(*pair) for pair in windows])
    assert float(ssim(a, b)[0]) == pytest.approx(expected, abs=1e-9)


def test_equal_pictures_score_one_and_order_does_not_matter():
    a, b = pictures(4, 16), pictures(4, 17)[..., :16, :16]
    torch.testing.assert_close(ssim(a, a), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(ssim(a, b), ssim(b, a))
    assert (ssim(a, b) < 0.5).all()
    torch.testing.assert_close(ssim(a.view(2, 2, 3, 16, 16), b.view(2, 2, 3, 16, 16)), ssim(a, b).view(2, 2))
    torch.testing.assert_close(ssim(a * 127.5, b * 127.5, span=255), ssim(a, b))


@pytest.mark.parametrize("size", [1, 2, 8])
def test_a_picture_smaller_than_the_window_has_a_score(size):
    a = pictures(1, size)
    assert float(ssim(a, a)) == pytest.approx(1)
    assert float(ssim(a, -a)) < 1
