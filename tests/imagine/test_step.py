"""The world step: what it computes, that it can be exported, and that it is frozen."""

import copy
import dataclasses
import hashlib

import pytest
import torch

from w4rl_fast.errors import UserError
from w4rl_fast.imagine import WorldStep
from w4rl_fast.reward import RewardConfig, RewardModel
from w4rl_fast.world.config import SamplingConfig
from w4rl_fast.world.model import Context, WorldModel
from w4rl_kernels.edm_step import round_to_bytes


def inputs(world, count=4):
    of, generator = world.config, torch.Generator().manual_seed(3)

    def uniform(*shape):
        return torch.rand(count, *shape, generator=generator) * 2 - 1

    anchor = round_to_bytes(uniform(3, of.image_size, of.image_size))
    return (
        round_to_bytes(uniform(of.history, 3, of.image_size, of.image_size)),
        uniform(of.history, of.proprio_dim),
        uniform(of.history, of.action_dim),
        anchor,
        world.head.look(anchor).detach(),
        torch.randn(anchor.shape, generator=generator),
    )


def digest(module):
    tensors = module.state_dict().values()
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()


@torch.no_grad()
def test_a_step_is_the_world_and_then_the_classifier(world, reward) -> None:
    given = inputs(world)
    frame, place, logit = WorldStep(world, reward)(*given)
    wanted, body = world(Context(*given[:4]), given[5])
    assert torch.equal(frame, wanted)
    assert torch.equal(place, body)
    torch.testing.assert_close(logit, reward(wanted[:, None], given[3]))
    assert (frame.shape, place.shape, logit.shape) == ((4, 3, 16, 16), (4, 2), (4,))


@torch.no_grad()
def test_a_classifier_of_two_frames_sees_the_present_and_what_follows(world) -> None:
    torch.manual_seed(1)
    two = RewardModel(RewardConfig(image_size=16, widths=(8, 8), hidden=8, frames=2)).eval()
    given = inputs(world)
    frame, _, logit = WorldStep(world, two)(*given)
    torch.testing.assert_close(logit, two(torch.stack([given[0][:, -1], frame], 1), given[3]))


@torch.no_grad()
def test_the_number_of_sampling_steps_may_be_another(world, reward) -> None:
    given = inputs(world)
    one = WorldStep(world, reward, sampling_steps=1)
    assert [each.sigma for each in one.levels] == [world.config.sampling.sigma_max]
    frame, _, _ = one(*given)
    assert torch.equal(frame, world(Context(*given[:4]), given[5], levels=world.levels[:1])[0])
    assert not torch.equal(frame, WorldStep(world, reward, sampling_steps=4)(*given)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_an_exported_step_says_what_the_eager_one_says(world, reward, dtype) -> None:
    step, given = WorldStep(world, reward, dtype=dtype), inputs(world)
    exported = torch.export.export(step, given)
    for ours, theirs in zip(exported.module()(*given), step(*given), strict=True):
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0)
    assert not exported.range_constraints, "every shape is a number"


@torch.no_grad()
def test_bfloat16_stays_within_two_grey_levels_a_step(world, reward) -> None:
    given = inputs(world, 16)
    exact, narrow = (WorldStep(world, reward, dtype=dtype)(*given) for dtype in (torch.float32, torch.bfloat16))
    off = (exact[0] - narrow[0]).abs() * 127.5
    assert off.mean() < 0.5
    assert off.max() < 3.5
    assert torch.equal(exact[1], narrow[1])


def test_it_is_frozen_and_leaves_what_it_was_made_of_alone(world, reward) -> None:
    mine, yours = copy.deepcopy(world).train().requires_grad_(True), copy.deepcopy(reward)
    before = digest(mine), digest(yours)
    step = WorldStep(mine, yours, dtype=torch.bfloat16)
    assert not step.training
    assert not any(weight.requires_grad for weight in step.parameters())
    assert mine.training
    assert all(weight.requires_grad for weight in mine.parameters())
    held = digest(step.reward)
    with torch.no_grad():
        mine.where.weight.zero_()
    assert step.world.where.weight.any()
    frame, _, logit = step(*inputs(world))
    assert not frame.requires_grad
    assert not logit.requires_grad
    assert (digest(yours), digest(step.reward)) == (before[1], held)


@pytest.mark.parametrize(("size", "steps", "said"), [(32, None, "16x16"), (16, 0, "at least one")])
def test_parts_that_do_not_fit_are_named(world, size, steps, said) -> None:
    with pytest.raises(UserError, match=said):
        WorldStep(world, RewardModel(RewardConfig(image_size=size)), sampling_steps=steps)


def test_a_scheduler_that_keeps_tables_on_the_host_is_refused(world, reward) -> None:
    pytest.importorskip("diffusers")
    config = dataclasses.replace(world.config, sampling=SamplingConfig(sampler="EDMEulerScheduler"))
    with pytest.raises(UserError, match="euler or heun"):
        WorldStep(WorldModel(config), reward)
