"""The transformer behind the backbone's contract, and a world that is painted by it."""

import dataclasses

import pytest
import torch

from w4rl_fast.config import from_json_dict, override, to_json_dict
from w4rl_fast.errors import UserError
from w4rl_fast.world.config import BackboneConfig, SamplingConfig, TransformerConfig, WorldConfig
from w4rl_fast.world.dit import DiT
from w4rl_fast.world.model import Context, WorldModel

SMALL = TransformerConfig(patch=4, width=32, depth=2, heads=4, condition_dim=16)
WORLD = WorldConfig(image_size=16, action_dim=2, proprio_dim=3, history=2, transformer=SMALL)


def awake(module: torch.nn.Module) -> torch.nn.Module:
    """The module with weights where it had zeros, as after training."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in module.parameters():
            if not weight.any():
                weight.normal_(0, 0.2)
    return module.eval()


def inputs(count: int = 3, side: int = 4) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(2)
    shapes = ((count, 6, 4 * side, 4 * side), (count, 16), (count, 5, side, side))
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def dit() -> DiT:
    torch.manual_seed(0)
    return DiT(SMALL, 4, inputs=6, outputs=3, maps=5)


def context(count: int) -> tuple[Context, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = ((count, 2, 3, 16, 16), (count, 2, 3), (count, 2, 2), (count, 3, 16, 16), (count, 3, 16, 16))
    *given, noise = (torch.rand(shape, generator=generator) * 2 - 1 for shape in shapes)
    return Context(*given), noise


def test_before_training_it_paints_nothing_whatever_it_sees() -> None:
    out = dit()(*inputs())
    assert out.shape == (3, 3, 16, 16)
    assert not out.any()


def test_maps_are_optional() -> None:
    x, condition, _ = inputs()
    assert awake(DiT(SMALL, 4, inputs=6, outputs=3))(x, condition).shape == (3, 3, 16, 16)


def test_it_depends_on_everything_it_is_given() -> None:
    model, given = awake(dit()), inputs()
    out = model(*given)
    for place in range(3):
        changed = [-part if place == number else part for number, part in enumerate(given)]
        assert (model(*changed) - out).abs().max() > 0.01


def test_every_pixel_can_depend_on_every_patch_and_places_are_told_apart() -> None:
    model, (x, condition, maps) = awake(dit()), inputs()
    x.requires_grad_(True)
    (slope,) = torch.autograd.grad(model(x, condition, maps)[:, :, 0, 0].sum(), x)
    reach = slope.abs().sum(1).unfold(1, 4, 4).unfold(2, 4, 4).sum((3, 4))
    assert (reach > 0).all()
    same = [torch.ones_like(part) for part in (x, condition, maps)]
    corners = model(*same)[0, :, ::4, ::4].flatten(1)
    assert corners.unique(dim=1).shape == corners.shape


def test_patches_keep_their_places() -> None:
    """With closed gates a patch is painted from its own pixels alone, where those are."""
    model, (x, condition, maps) = awake(dit()), inputs()
    for block in model.blocks:
        torch.nn.init.zeros_(block.modulation.linear.weight)
        torch.nn.init.zeros_(block.modulation.linear.bias)
    x.requires_grad_(True)
    (slope,) = torch.autograd.grad(model(x, condition, maps)[:, :, 4:8, 8:12].sum(), x)
    seen = slope.abs().sum((0, 1)) > 0
    assert seen[4:8, 8:12].all()
    assert seen.sum() == 16


def test_a_gradient_reaches_every_weight() -> None:
    model = awake(dit())
    model(*inputs()).square().sum().backward()
    slopes = {name: weight.grad.square().mean().sqrt() for name, weight in model.named_parameters()}
    assert all(slope > 1e-4 * max(slopes.values()) for slope in slopes.values()), slopes


def test_a_row_does_not_depend_on_the_rest_of_the_batch() -> None:
    model, given = awake(dit()), inputs()
    out = model(*given)
    for row in range(3):
        alone = model(*(part[row : row + 1] for part in given))
        torch.testing.assert_close(alone, out[row : row + 1], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("sampler", ["euler", "EDMDPMSolverMultistepScheduler"])
def test_a_world_with_it_is_deterministic_and_its_rows_are_independent(sampler: str) -> None:
    sampling = SamplingConfig(sampler=sampler, steps=4)
    model = awake(WorldModel(dataclasses.replace(WORLD, sampling=sampling)))
    given, noise = context(4)
    frames, places = model(given, noise)
    assert (frames.shape, places.shape) == ((4, 3, 16, 16), (4, 3))
    assert frames.std() > 0.1
    assert torch.equal(frames, model(given, noise)[0])
    alone, place = model(Context(*(part[1:2] for part in given)), noise[1:2])
    torch.testing.assert_close(alone, frames[1:2], atol=1.01 / 127.5, rtol=0)
    torch.testing.assert_close(place, places[1:2])
    assert not torch.equal(frames, model(given._replace(actions=-given.actions), noise)[0])


@torch.inference_mode()
def test_a_world_sampled_by_name_is_the_world_sampled_by_euler() -> None:
    given, noise = context(2)
    frames = []
    for sampler in ("euler", "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"):
        sampling = SamplingConfig(sampler=sampler, round_to_bytes=False)
        torch.manual_seed(0)
        frames.append(awake(WorldModel(dataclasses.replace(WORLD, sampling=sampling)))(given, noise)[0])
    torch.testing.assert_close(frames[0], frames[1], atol=1.01 / 127.5, rtol=0)
    assert (frames[0] - frames[2]).abs().max() > 2 / 127.5


def test_a_world_learns_one_batch_with_it() -> None:
    torch.manual_seed(0)
    model = WorldModel(WORLD)
    given, target = context(4)
    noisy, sigma = target + 5 * torch.randn(target.shape), torch.full((4,), 5.0)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    errors = []
    for _ in range(150):
        error = (model.denoise(noisy, sigma, given, given.proprio[:, 0]) - target).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[-1] < errors[0] / 10


def test_settings_reach_it_and_it_survives_json() -> None:
    base = WorldConfig(image_size=48, action_dim=2, proprio_dim=3)
    config = override(base, ["transformer.patch=8", "transformer.width=192"])
    assert config.network == TransformerConfig(patch=8, width=192)
    assert from_json_dict(WorldConfig, to_json_dict(config)) == config
    assert override(config, ["transformer=none"]).network == BackboneConfig()
    with pytest.raises(UserError, match=r"image_size=48: patch 5 of TransformerConfig needs a multiple of 5"):
        override(base, ["transformer.patch=5"])
    with pytest.raises(UserError, match=r"width=128.*heads=3.*a width that the heads divide"):
        override(base, ["transformer.heads=3"])


def test_the_default_size_at_48_pixels_is_about_two_million_weights() -> None:
    config = WorldConfig(image_size=48, action_dim=4, proprio_dim=4, transformer=TransformerConfig())
    with torch.device("meta"):
        count = sum(weight.numel() for weight in DiT(TransformerConfig(), 8, 18, 3, config.proprio_maps).parameters())
    assert count == pytest.approx(1.92e6, rel=0.01)
