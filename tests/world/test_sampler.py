"""Samplers on problems whose answer is known."""

import sys

import pytest
import torch

from w4rl_fast.config import override
from w4rl_fast.errors import MissingExtra, UserError
from w4rl_fast.world.config import NoiseConfig, SamplingConfig
from w4rl_fast.world.denoiser import draw_sigma, scales
from w4rl_fast.world.sampler import euler, heun, karras_sigmas, sampler_of

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


def test_heun_is_exact_where_the_slope_is_linear_in_the_noise() -> None:
    """dx/dsigma = b + 2 c sigma: the mean of two slopes is that of the chord; the last step is Euler's."""
    b, c = 0.7, -0.4
    x = torch.linspace(-3, 3, 7).double()
    found = heun(lambda x, sigma: x - sigma * (b + 2 * c * sigma), x, (4.0, 1.5, 0.5, 0.0))
    torch.testing.assert_close(found, x + b * (0.5 - 4.0) + c * (0.5**2 - 4.0**2) - 0.5 * (b + 2 * c * 0.5))


EULER, DPM = "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"
STOCHASTIC = SamplingConfig(sampler=DPM, scheduler={"algorithm_type": "sde-dpmsolver++"})


def start(*shape: int, sigma: float, seed: int = 0) -> torch.Tensor:
    return MEAN + (STD**2 + sigma**2) ** 0.5 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("steps", [1, 3, 18])
def test_schedule_and_euler_are_those_of_diffusers(steps: int) -> None:
    """Its scheduler is driven as its own pipelines do: scaled input, raw output of a preconditioned network."""
    from diffusers import EDMEulerScheduler

    scheduler = EDMEulerScheduler(sigma_min=0.02, sigma_max=5.0, sigma_data=0.4)
    scheduler.set_timesteps(steps)
    sigmas = karras_sigmas(steps, sigma_min=0.02, sigma_max=5.0)
    torch.testing.assert_close(torch.tensor(sigmas), scheduler.sigmas)
    config = NoiseConfig(sigma_data=0.4, offset=0.0)
    theirs = ours = start(5, 3, sigma=5.0)
    for sigma, time in zip(scheduler.sigmas, scheduler.timesteps, strict=False):
        c = scales(sigma[None], config)
        scaled = scheduler.scale_model_input(theirs, time)
        torch.testing.assert_close(scaled, c.into * theirs)
        raw = (ideal(scaled / c.into, float(sigma)) - c.skip * theirs) / c.out
        theirs = scheduler.step(raw, time, theirs).prev_sample
    torch.testing.assert_close(euler(ideal, ours, sigmas), theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "arguments"), [(EULER, {}), (DPM, {"solver_order": 1})])
def test_a_first_order_scheduler_is_euler(name, arguments) -> None:
    sigmas = (7.0, 2.0, 0.9, 0.1, 0.0)  # levels of ours, that none of its schedules has
    x = start(4, 3, 2, sigma=7.0)
    sampler = sampler_of(SamplingConfig(sampler=name, scheduler=arguments))
    torch.testing.assert_close(sampler(ideal, x, sigmas), euler(ideal, x, sigmas), atol=1e-5, rtol=1e-5)


def test_the_solver_of_diffusers_converges_to_the_probability_flow_with_its_order() -> None:
    x = start(500, sigma=4.0).double()

    def error(steps: int, order: int) -> float:
        sampler = sampler_of(SamplingConfig(sampler=DPM, scheduler={"solver_order": order}))
        sigmas = karras_sigmas(steps, sigma_min=0.001, sigma_max=4.0)
        return float((sampler(ideal, x, sigmas) - exact(x, 4.0)).abs().max())

    second = [error(steps, 2) for steps in (16, 32, 64)]
    assert second[0] / second[1] > 3.2
    assert second[1] / second[2] > 3.2
    assert error(16, 3) < second[0] / 4 < error(16, 1) / 8


def test_a_sampler_that_draws_noise_draws_from_the_data_and_each_row_for_itself() -> None:
    sampler, sigmas = sampler_of(STOCHASTIC), karras_sigmas(24, sigma_min=0.01, sigma_max=4.0)
    x = start(400, 50, sigma=4.0)
    drawn = sampler(ideal, x, sigmas)
    assert float(drawn.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(drawn.std()) == pytest.approx(STD, rel=0.05)
    assert abs(float(torch.corrcoef(torch.stack([drawn.flatten(), x.flatten()]))[0, 1])) < 0.1
    among = torch.corrcoef(drawn)[torch.triu(torch.ones(400, 400), 1).bool()]
    assert float(among.square().mean().sqrt()) == pytest.approx(49**-0.5, rel=0.02)  # what independent rows have
    assert torch.equal(drawn, sampler(ideal, x, sigmas))
    assert torch.equal(drawn[7:8], sampler(ideal, x[7:8], sigmas))


def test_a_scheduler_can_be_chosen_for_a_model_without_memory() -> None:
    with torch.device("meta"):
        sampler_of(STOCHASTIC)


def test_an_unknown_sampler_is_refused_with_the_names_of_the_known() -> None:
    with pytest.raises(UserError, match=f"sampler is one of euler, heun, {EULER}, {DPM}"):
        override(SamplingConfig(), ["sampler=EDMHeun"])
    with pytest.raises(ValueError, match=f"one of euler, heun, {EULER}, {DPM}"):
        SamplingConfig(sampler="EDMHeun")


def test_arguments_that_a_scheduler_does_not_take_are_refused_when_it_is_chosen() -> None:
    for sampler, settings in (
        (EULER, {"solver_order": 2}),
        (DPM, {"sigma_max": 80.0}),  # the levels are the config's own
        (DPM, {"algorithm_type": "dpm"}),
        (DPM, {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}),
    ):
        with pytest.raises(UserError, match=f"{sampler} of diffusers does not take it"):
            sampler_of(SamplingConfig(sampler=sampler, scheduler=settings))
    with pytest.raises(ValueError, match="heun is no scheduler of diffusers"):
        SamplingConfig(sampler="heun", scheduler={"solver_order": 2})


def test_a_scheduler_is_set_by_typed_text() -> None:
    settings = [f"sampler={DPM}", "scheduler.solver_order=3", "scheduler.lower_order_final=false",
                "scheduler.solver_type=heun"]  # fmt: skip
    assert override(SamplingConfig(), settings).scheduler == {
        "solver_order": 3, "lower_order_final": False, "solver_type": "heun"
    }  # fmt: skip


def test_without_diffusers_its_extra_is_named_and_ours_still_run(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtra, match=r"w4rl-fast\[diffusers\]"):
        sampler_of(SamplingConfig(sampler=EULER))
    assert sampler_of(SamplingConfig()) is euler
    assert sampler_of(SamplingConfig(sampler="heun")) is heun
