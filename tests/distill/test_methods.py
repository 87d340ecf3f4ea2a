"""Losses of students: zero where nothing is left to learn, lower after learning, and of the same answer as sampling."""

import dataclasses

import pytest
import torch

from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.distill.config import ConsistencyConfig, DistillConfig, OwnRolloutConfig
from w4rl_fast.distill.consistency import draw_levels, inconsistency, leading, path_of
from w4rl_fast.distill.methods import METHODS
from w4rl_fast.distill.student import make_student, paint, resampled, with_steps
from w4rl_fast.errors import UserError
from w4rl_fast.fit import generator_at
from w4rl_fast.world.denoiser import level_of, spread
from w4rl_fast.world.losses import Disturbance, context_of
from w4rl_fast.world.sampler import karras_sigmas

QUIET = Disturbance(frames=0.0, proprio=0.0)


@pytest.fixture
def batch(store):
    return Windows(store, WindowConfig(history=2, future=3, anchor=True, held_out=0.4)).batch(0, 6)


def config_of(world, **settings):
    return DistillConfig(student=with_steps(world.config, 1), **settings)


@torch.inference_mode()
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_student_that_has_learnt_nothing_is_its_teacher_in_so_many_steps(teacher, batch, steps) -> None:
    student = make_student(teacher, with_steps(teacher.config, steps)).eval()
    context, noise = context_of(batch, 2), torch.randn(6, 3, 16, 16)
    frame, place = student(context, noise)
    sigmas = karras_sigmas(steps, sigma_min=0.3, sigma_max=5.0)
    levels = [level_of(sigma, teacher.config.noise) for sigma in sigmas[:-1]]
    expected, expected_place = teacher(context, noise, levels=levels)
    assert torch.equal(frame, expected)
    assert torch.equal(place, expected_place)
    painted = student.to_frame(paint(student, context, noise, place), context)
    torch.testing.assert_close(painted, frame, atol=1e-5, rtol=0)


def test_a_smaller_student_takes_what_fits_and_its_hand_goes_where_its_teachers_does(teacher, batch) -> None:
    smaller = dataclasses.replace(teacher.config, backbone=dataclasses.replace(teacher.config.backbone, widths=(8, 8)))
    before = torch.get_rng_state()
    student = make_student(teacher, smaller).eval()
    assert torch.equal(torch.get_rng_state(), before)
    context = context_of(batch, 2)
    assert torch.equal(student.predict_proprio(context), teacher.predict_proprio(context))
    assert torch.equal(student.maps.weight, teacher.maps.weight)
    with pytest.raises(UserError, match="another history"):
        make_student(teacher, dataclasses.replace(teacher.config, history=3))


def test_gradients_pass_the_rounding(teacher, batch) -> None:
    student = make_student(teacher, with_steps(teacher.config, 2)).requires_grad_(True)
    context = context_of(batch, 2)
    paint(student, context, torch.randn(6, 3, 16, 16), student.predict_proprio(context)).sum().backward()
    assert student.unet.leave.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("length", [1, 3])
def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it(teacher, batch, length) -> None:
    config = config_of(teacher, own=OwnRolloutConfig(length=length, against="teacher"))
    student, drawn = make_student(teacher, config.student), resampled(teacher, 1)
    loss = METHODS["own-rollout"](student, drawn, batch, config, QUIET, generator_at(0, 0))
    assert loss.item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("consistency", {"consistency": ConsistencyConfig(levels=4)}),
        ("own-rollout", {"own": OwnRolloutConfig(length=2)}),
        ("own-rollout", {"own": OwnRolloutConfig(length=3, against="teacher")}),
    ],
)
def test_every_method_lowers_its_loss(teacher, batch, method, settings) -> None:
    config = config_of(teacher, method=method, **settings)
    student, frozen = make_student(teacher, config.student), resampled(teacher, 4)
    kept = {name: weight.clone() for name, weight in frozen.state_dict().items()}
    with torch.no_grad():
        for weight in student.backbone.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    student.requires_grad_(True)
    student.head.requires_grad_(False)
    optimizer = torch.optim.Adam([each for each in student.parameters() if each.requires_grad], 3e-3)
    losses = []
    for _ in range(25):
        loss = METHODS[method](student, frozen, batch, config, QUIET, generator_at(0, 1))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]
    assert all(torch.equal(kept[name], weight) for name, weight in frozen.state_dict().items())


LEVELS = (5.0, 2.0, 0.8, 0.3, 0.0)
DEVIATION = 0.5
"""Of pictures that are Gaussian around zero: there everything is known."""


def share(sigma):
    """The share of a noisy picture that the consistency function of such pictures keeps."""
    return DEVIATION / (DEVIATION**2 + sigma**2).sqrt()


def lead(x, sigma, after):
    """The exact path from one level to another."""
    return x * spread(share(sigma) / share(after))


def noisy(count, generator):
    at = torch.randint(len(LEVELS) - 1, (count,), generator=generator)
    sigma, after = (torch.tensor(LEVELS)[each] for each in (at, at + 1))
    clean = DEVIATION * torch.randn(count, 3, 2, 2, generator=generator)
    return clean + spread(sigma) * torch.randn(clean.shape, generator=generator), sigma, after


def test_the_known_consistency_function_has_no_loss() -> None:
    x, sigma, after = noisy(64, torch.Generator().manual_seed(0))
    error = inconsistency(lambda x, level: x * spread(share(level)), lead, x, sigma, after)
    torch.testing.assert_close(error, torch.zeros_like(error), atol=1e-8, rtol=0)


def test_a_trained_student_reaches_the_known_optimum() -> None:
    kept = torch.full((len(LEVELS),), 0.5, requires_grad=True)
    optimizer = torch.optim.Adam([kept], 0.02)
    levels, generator = torch.tensor(LEVELS), torch.Generator().manual_seed(0)

    def student(x, level):
        return x * spread(kept[(level[:, None] - levels).abs().argmin(1)])

    for _ in range(400):
        error = inconsistency(student, lead, *noisy(64, generator)).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    torch.testing.assert_close(kept[:-1].detach(), share(levels)[:-1], atol=0.02, rtol=0)


def test_a_teacher_leads_to_what_it_sees_where_no_noise_is_left() -> None:
    x, sigma = torch.randn(3, 3, 2, 2), torch.tensor([5.0, 2.0, 1.0])
    halved = leading(lambda x, _: x / 2)
    assert torch.equal(halved(x, sigma, torch.zeros(3)), x / 2)
    torch.testing.assert_close(halved(x, sigma, sigma / 2), 0.75 * x)


def test_levels_hold_the_students_own_and_focus_draws_them(teacher) -> None:
    student = resampled(teacher, 2)
    path = path_of(student, 5)
    assert list(path) == sorted(set(path), reverse=True)
    assert {*student.sigmas} <= {*path}
    assert len(path) == 6  # the two of the student are among the five
    sigma, after = draw_levels(student, ConsistencyConfig(levels=5, focus=1.0), 100, torch.Generator().manual_seed(0))
    torch.testing.assert_close(sigma.unique(), torch.tensor(sorted(student.sigmas[:-1])))
    assert (after < sigma).all()


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (ConsistencyConfig, {"levels": 1}),
        (ConsistencyConfig, {"focus": 1.5}),
        (OwnRolloutConfig, {"length": 0}),
        (OwnRolloutConfig, {"ramp": -1.0}),
        (OwnRolloutConfig, {"against": "nothing"}),
    ],
)
def test_settings_that_cannot_be_are_refused(kind, wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        kind(**wrong)
