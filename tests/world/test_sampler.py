"""Samplers on problems whose answer is known."""

import pytest
import torch

from w4rl_fast.world.config import NoiseConfig
from w4rl_fast.world.denoiser import draw_sigma, scales
from w4rl_fast.world.sampler import euler, heun, karras_sigmas

MEAN, STD = 0.3, 0.2


def ideal(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """The best denoiser of normal data."""
    return (STD**2 * x + sigma**2 * MEAN) / (STD**2 + sigma**2)


def exact(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Where the probability flow of normal data leads from x at sigma."""
    return MEAN + (x - MEAN) * STD / (STD**2 + sigma**2) ** 0.5


def test_a_schedule_falls_from_the_highest_to_the_lowest_level_and_then_to_zero() -> None:
    sigmas = karras_sigmas(3, sigma_min=0.002, sigma_max=5.0)
    assert sigmas == pytest.approx((5.0, 0.283, 0.002, 0.0), rel=2e-3)  # what DIAMOND uses
    assert karras_sigmas(1, sigma_min=0.1, sigma_max=4.0) == (4.0, 0.0)


@pytest.mark.parametrize("sampler", [euler, heun])
def test_one_step_is_the_denoiser_itself(sampler) -> None:
    x = torch.linspace(-3, 3, 7)
    torch.testing.assert_close(sampler(ideal, x, (2.0, 0.0)), ideal(x, 2.0))


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (heun, 2)])
def test_errors_fall_with_the_order_of_the_sampler(sampler, order: int) -> None:
    x = (torch.randn(500, generator=torch.Generator().manual_seed(0)) * 4).double()
    errors = []
    for steps in (16, 32, 64):
        sigmas = karras_sigmas(steps, sigma_min=0.01, sigma_max=4.0)
        errors.append((sampler(ideal, x, sigmas) - exact(x, 4.0)).abs().max().item())
    assert errors[0] / errors[1] > 0.8 * 2**order
    assert errors[1] / errors[2] > 0.8 * 2**order


@pytest.mark.parametrize("skip", [True, False])
def test_preconditioning_keeps_unit_variance_at_every_level(skip: bool) -> None:
    """Karras et al.: the network's input and its training target both have variance one, offset noise included."""
    config = NoiseConfig(sigma_data=0.4, offset=0.3, skip=skip)
    generator = torch.Generator().manual_seed(0)
    for sigma in (0.01, 0.5, 10.0):
        c = scales(torch.tensor([sigma]), config)
        data = 0.4 * torch.randn(400_000, generator=generator)
        noise = (sigma**2 + 0.3**2) ** 0.5 * torch.randn(400_000, generator=generator)
        noisy = data + noise
        assert float((noisy * c.into).std()) == pytest.approx(1, rel=0.01)
        assert float(((data - c.skip * noisy) / c.out).std()) == pytest.approx(1, rel=0.01)


def test_training_levels_are_log_normal_and_clipped() -> None:
    config = NoiseConfig(mean_log=-0.4, std_log=1.2, sigma_min=0.002, sigma_max=20.0)
    sigma = draw_sigma(torch.rand(200_000, generator=torch.Generator().manual_seed(0)), config)
    assert float(sigma.log().mean()) == pytest.approx(-0.4, abs=0.02)
    assert float(sigma.log().std()) == pytest.approx(1.2, abs=0.02)
    extremes = draw_sigma(torch.tensor([0.0, 1.0]), NoiseConfig(std_log=5.0))
    assert extremes.tolist() == pytest.approx([0.002, 20.0])
