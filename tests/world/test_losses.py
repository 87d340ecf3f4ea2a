"""What the denoiser is shown: real pasts, and pasts it imagined itself."""

import dataclasses

import pytest
import torch

from tests.world.test_world import TINY, world
from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.world.config import NoiseConfig
from w4rl_fast.world.losses import Disturbance, OwnRollouts, context_of, denoising_loss, imagine_history
from w4rl_fast.world.model import WorldModel


class Follows(WorldModel):
    """A world that repeats its last frame, darker by a level, and adds its actions up."""

    def forward(self, context, noise, *, levels=None, scene=None):
        return context.frames[:, -1] - 1 / 127.5, self.predict_proprio(context)

    def predict_proprio(self, context, scene=None):
        return context.proprio[:, -1] + context.actions[:, -1].sum(1, keepdim=True)


class Silent(WorldModel):
    """A world whose network says nothing."""

    def network(self, scaled, noise, context, next_proprio):
        return torch.zeros_like(scaled)


RESIDUAL = dataclasses.replace(TINY, residual=True, noise=NoiseConfig(sigma_data=0.5, skip=False))


@pytest.fixture
def batch(memory_store):
    return Windows(memory_store, WindowConfig(history=2, future=4, anchor=True, held_out=0.0)).batch(0, 6)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_an_imagined_past_ends_where_the_real_one_does_and_leaves_the_others_alone(batch, steps) -> None:
    context, place = imagine_history(Follows(TINY), batch, steps, 2, torch.Generator().manual_seed(0))
    real = context_of(batch, 2, steps)
    for mine, theirs in zip(context, real, strict=True):
        assert torch.equal(mine[:4], theirs[:4])
    assert torch.equal(context.actions, real.actions)  # the action to come is the real one
    assert torch.equal(context.anchor, real.anchor)
    present = batch.frames[-2:, 1]
    torch.testing.assert_close(context.frames[-2:, -1], present - steps / 127.5)
    walked = batch.actions[-2:, 1 : 1 + steps].sum((1, 2))[:, None]
    torch.testing.assert_close(context.proprio[-2:, -1], batch.proprio[-2:, 1] + walked)
    torch.testing.assert_close(place[-2:], context.proprio[-2:, -1] + batch.actions[-2:, 1 + steps].sum(1)[:, None])
    assert torch.equal(place[:4], batch.proprio[:4, 2 + steps])


def test_with_nothing_imagined_it_is_the_ordinary_window(batch) -> None:
    context, place = imagine_history(world(), batch, 0, 0, torch.Generator())
    assert all(torch.equal(mine, real) for mine, real in zip(context, context_of(batch, 2), strict=True))
    assert torch.equal(place, batch.proprio[:, 2])


def test_no_gradient_goes_through_what_was_imagined(batch) -> None:
    model = world().requires_grad_(True)
    context, place = imagine_history(model, batch, 2, 3, torch.Generator().manual_seed(0))
    assert not context.frames.requires_grad
    assert not place.requires_grad
    loss = denoising_loss(model, context, batch.frames[:, 4], place, Disturbance(), torch.Generator().manual_seed(1))
    loss.backward()
    assert model.unet.leave.weight.grad is not None


@pytest.mark.parametrize(("residual", "anchor"), [(True, True), (True, False), (False, True), (False, False)])
def test_what_is_predicted_is_the_change_of_the_frame_that_the_settings_name(batch, residual, anchor) -> None:
    model, context = WorldModel(dataclasses.replace(TINY, residual=residual, anchor=anchor)), context_of(batch, 2)
    frame = batch.frames[:, 2]
    base = context.frames[:, -1] if residual else context.anchor if anchor else None
    target = model.to_target(frame, context)
    assert torch.equal(target, frame if base is None else (frame - base) / 2)
    torch.testing.assert_close(model.to_frame(target, context), frame)
    torch.testing.assert_close(model.to_target(model.to_frame(target, context), context), target)


def test_a_residual_world_that_says_nothing_repeats_the_last_frame(batch) -> None:
    context, noise = context_of(batch, 2), torch.randn(6, 3, 16, 16)
    torch.testing.assert_close(Silent(RESIDUAL)(context, noise)[0], context.frames[:, -1], atol=1e-5, rtol=0)


def loss_of(model, batch, **settings) -> float:
    context, place = context_of(batch, 2), batch.proprio[:, 2]
    undisturbed = Disturbance(frames=0.0, proprio=0.0)
    generator = torch.Generator().manual_seed(0)
    return denoising_loss(model, context, batch.frames[:, 2], place, undisturbed, generator, **settings).item()


def test_pixels_that_move_count_for_so_much_more(batch) -> None:
    """A network that says nothing errs by half the change over sigma_data, whatever the noise."""
    change = batch.frames[:, 2] - batch.frames[:, 1]
    errors = (change / 2 / RESIDUAL.noise.sigma_data).square()
    moves = (change.abs() > 0.05).any(1, keepdim=True).expand_as(errors)
    assert 0 < moves.float().mean() < 0.5
    model = Silent(RESIDUAL)
    assert loss_of(model, batch) == loss_of(model, batch, moving=0.0) == pytest.approx(errors.mean().item(), rel=1e-5)
    by_hand = (errors.sum() + 4 * errors[moves].sum()) / (errors.numel() + 4 * moves.sum())
    assert loss_of(model, batch, moving=4.0) == pytest.approx(by_hand.item(), rel=1e-5)


def test_without_a_weight_for_what_moves_the_loss_is_the_plain_one(batch) -> None:
    """And it is the limit of small weights."""
    model = world(TINY)
    assert loss_of(model, batch, moving=1e-6) == pytest.approx(loss_of(model, batch), rel=1e-4)


@pytest.mark.parametrize("wrong", [{"share": 1.5}, {"start": -0.1}, {"steps": 0}])
def test_own_rollouts_that_cannot_be_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match="share"):
        OwnRollouts(**wrong)
