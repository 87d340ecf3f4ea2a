"""A world model: its shapes, what it may and may not depend on, its files, and a training that can be interrupted."""

import dataclasses

import pytest
import torch

from w4rl_fast.config import override
from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.errors import UserError
from w4rl_fast.fit import FitConfig
from w4rl_fast.world.checkpoint import WEIGHTS, load_world, save_world
from w4rl_fast.world.config import BackboneConfig, WorldConfig
from w4rl_fast.world.model import Context, WorldModel
from w4rl_fast.world.rollout import roll_out
from w4rl_fast.world.train import TrainWorldConfig, held_out_windows, train_world
from w4rl_kernels.edm_step import round_to_bytes

TINY = WorldConfig(
    image_size=16,
    action_dim=2,
    proprio_dim=3,
    history=2,
    backbone=BackboneConfig(patch=2, widths=(8, 16), depths=(1, 1), attention=(False, False), condition_dim=32),
)


def world(config: WorldConfig = TINY) -> WorldModel:
    """A world whose every weight matters: zero-initialised layers get weights too."""
    torch.manual_seed(0)
    model = WorldModel(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if not weight.any():
                weight.normal_(0, 0.05)
    return model


def context(count: int = 5, config: WorldConfig = TINY) -> Context:
    generator = torch.Generator().manual_seed(1)
    size, history = config.image_size, config.history
    return Context(
        round_to_bytes(torch.rand(count, history, 3, size, size, generator=generator) * 2 - 1),
        torch.randn(count, history, config.proprio_dim, generator=generator),
        torch.rand(count, history, config.action_dim, generator=generator) * 2 - 1,
        round_to_bytes(torch.rand(count, 3, size, size, generator=generator) * 2 - 1),
    )


@torch.inference_mode()
def test_a_step_gives_frames_of_whole_bytes_and_does_not_depend_on_the_rest_of_the_batch() -> None:
    model, given, noise = world(), context(), torch.randn(5, 3, 16, 16)
    frames, places = model(given, noise)
    assert frames.shape == (5, 3, 16, 16)
    assert places.shape == (5, 3)
    levels = (frames + 1) * 127.5
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    one = Context(*(part[2:3] for part in given))
    alone, place = model(one, noise[2:3])
    torch.testing.assert_close(alone, frames[2:3], atol=1.01 / 127.5, rtol=0)
    torch.testing.assert_close(place, places[2:3])


@torch.inference_mode()
@pytest.mark.parametrize("part", ["frames", "proprio", "actions", "anchor"])
def test_the_next_frame_depends_on_everything_that_is_given(part: str) -> None:
    model, given, noise = world(), context(), torch.randn(5, 3, 16, 16)
    changed = given._replace(**{part: -getattr(given, part)})
    assert not torch.equal(model(given, noise)[0], model(changed, noise)[0])


@torch.inference_mode()
def test_without_an_anchor_the_first_frame_moves_the_hand_at_most() -> None:
    config = dataclasses.replace(TINY, anchor=False)
    model, given = world(config), context(config=config)
    next_proprio, noisy, sigma = torch.randn(5, 3), torch.randn(5, 3, 16, 16), torch.ones(5)
    other = given._replace(anchor=-given.anchor)
    assert torch.equal(
        model.denoise(noisy, sigma, given, next_proprio), model.denoise(noisy, sigma, other, next_proprio)
    )


def test_target_and_frame_are_inverse() -> None:
    given = context()
    for anchor in (True, False):
        model = world(dataclasses.replace(TINY, anchor=anchor))
        torch.testing.assert_close(
            model.to_frame(model.to_target(given.frames[:, 0], given), given), given.frames[:, 0]
        )


def test_an_image_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image_size=18.*multiple of 4"):
        dataclasses.replace(TINY, image_size=18)


def test_a_saved_world_is_the_same_world(tmp_path) -> None:
    model = world()
    save_world(tmp_path / "world", model)
    given, noise = context(), torch.randn(5, 3, 16, 16)
    with torch.inference_mode():
        for made, expected in zip(load_world(tmp_path)(given, noise), model(given, noise), strict=True):
            assert torch.equal(made, expected)


def test_a_world_of_another_preset_is_refused_and_its_weights_are_named(tmp_path) -> None:
    save_world(tmp_path / "world", world())
    save_world(tmp_path / "other", world(dataclasses.replace(TINY, bins=11)))
    (tmp_path / "world" / WEIGHTS).write_bytes((tmp_path / "other" / WEIGHTS).read_bytes())
    with pytest.raises(UserError, match=r"missing or misshapen .'actions'"):
        load_world(tmp_path)
    (tmp_path / "world" / WEIGHTS).write_bytes(b"cut")
    with pytest.raises(UserError, match="cannot be read"):
        load_world(tmp_path)
    with pytest.raises(UserError, match="no trained world"):
        load_world(tmp_path / "nothing")


FIT = FitConfig(steps=6, batch=4, warm_up=2, log_every=2)
TRAIN = TrainWorldConfig(world=TINY, head=FIT, denoiser=FIT, horizon=4, held_out=0.3)


class Killed(Exception):
    """Stands for a kill: nothing after it runs."""


@pytest.mark.parametrize(("stage", "step"), [("proprioception", 3), ("denoiser", 0), ("denoiser", 4)])
def test_a_training_that_was_killed_ends_with_the_same_weights(
    tmp_path, memory_store, monkeypatch, stage, step
) -> None:
    whole = train_world(memory_store, TRAIN, tmp_path / "whole")
    import w4rl_fast.fit as fit

    real = fit.Fit._one_step

    def dies(self, loss_at):
        if (self.stage, self.step) == (stage, step):
            self.save()
            raise Killed
        return real(self, loss_at)

    monkeypatch.setattr(fit.Fit, "_one_step", dies)
    with pytest.raises(Killed):
        train_world(memory_store, TRAIN, tmp_path / "killed")
    monkeypatch.setattr(fit.Fit, "_one_step", real)
    resumed = train_world(memory_store, TRAIN, tmp_path / "killed")
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name


def test_a_store_of_other_sizes_or_too_short_is_refused(tmp_path, memory_store) -> None:
    for setting, words in (("world.image_size=32", "image size 16"), ("world.proprio_dim=4", "proprioception"),
                           ("horizon=99", "longest episode")):  # fmt: skip
        with pytest.raises(UserError, match=words):
            train_world(memory_store, override(TRAIN, [setting]), tmp_path)


def test_a_rollout_depends_on_its_seed_and_its_actions_alone(memory_store) -> None:
    batch = held_out_windows(memory_store, TRAIN).batch(0, 3)
    model = world()
    first, again = roll_out(model, batch, seed=4), roll_out(model, batch, seed=4)
    assert torch.equal(first.frames, again.frames)
    assert not torch.equal(first.frames, roll_out(model, batch, seed=5).frames)
    assert not torch.equal(first.frames, roll_out(model, batch, -batch.actions, seed=4).frames)
    later = batch.actions.clone()
    later[:, 3:] *= -1  # the action from observation 3 on shows in the third imagined frame, and not before
    changed = roll_out(model, batch, later, seed=4)
    assert torch.equal(first.frames[:, :2], changed.frames[:, :2])
    assert not torch.equal(first.frames[:, 2], changed.frames[:, 2])


def test_the_first_imagined_step_is_the_step_after_the_last_real_one(memory_store) -> None:
    """A world that repeats its last frame: its first imagined frame is the present of the window."""
    windows = Windows(memory_store, WindowConfig(history=2, future=4, anchor=True, held_out=0.0))
    batch = windows.batch(0, 3)

    class Repeats(WorldModel):
        def forward(self, context, noise):
            return context.frames[:, -1], context.proprio[:, -1] + context.actions[:, -1].sum(1, keepdim=True)

    imagined = roll_out(Repeats(TINY), batch)
    assert torch.equal(imagined.frames[:, 0], batch.frames[:, 1])
    expected = batch.proprio[:, 1] + batch.actions[:, 1].sum(1, keepdim=True)
    torch.testing.assert_close(imagined.proprio[:, 0], expected)
