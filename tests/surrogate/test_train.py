"""A surrogate learns what its data show: where the square is, what that is worth, and how actions move it."""

import dataclasses

import pytest
import torch

from tests.surrogate.toy import TINY, paid, surrogate_of, training, weights, write_store
from w4rl_fast.errors import UserError
from w4rl_fast.fit import FitConfig, generator_at
from w4rl_fast.surrogate import train
from w4rl_fast.surrogate.model import Surrogate
from w4rl_fast.surrogate.reward import moment_of
from w4rl_fast.surrogate.train import Scale, default_config, scene_of, settle, tracks_of, train_surrogate, windows_of

SHORT = {
    "eyes": FitConfig(steps=6, batch=8, warm_up=2, ema=0.5, save_seconds=0.0, log_every=2),
    "dynamics": FitConfig(steps=5, batch=8, warm_up=2, ema=0.5, save_seconds=0.0, log_every=2),
}


@pytest.fixture(scope="module")
def held_out(store):
    return windows_of(store, training(), future=1, split="held-out").batch(0, 512)


def latents_of(surrogate, batch, t=1):
    return surrogate.encode(batch.frames[:, t - 1 : t + 1], batch.proprio[:, t - 1 : t + 1])


@torch.no_grad()
def test_it_says_where_the_square_of_an_episode_it_never_saw_is(trained, held_out) -> None:
    found = trained.reads.scene(latents_of(trained, held_out))
    error = (found - held_out.landmarks[:, 1]).square().mean(0).sqrt()
    assert (error < 0.35 * held_out.landmarks[:, 1].std(0)).all()


@torch.no_grad()
def test_it_feels_where_the_robot_is_and_says_what_that_is_worth(trained, held_out) -> None:
    latent = latents_of(trained, held_out)
    body = (held_out.proprio - trained.eyes.proprio_mean) / trained.eyes.proprio_std
    changes = held_out.proprio.diff(dim=1)[:, 0] / trained.eyes.change_std
    torch.testing.assert_close(latent[:, 6:], torch.cat([body[:, 1], changes], 1), rtol=1e-4, atol=1e-4)
    worth = paid(moment_of(held_out, 1))
    assert (trained.reward(latent) - worth).square().mean().sqrt() < 0.4 * worth.std()


@pytest.mark.parametrize("t", [0, 1, 2])
def test_a_moment_is_the_newest_two_frames_the_first_one_and_where_things_are(held_out, t) -> None:
    moment = moment_of(held_out, t)
    assert torch.equal(moment.frames[:, 0], held_out.frames[:, max(0, t - 1)])
    assert torch.equal(moment.frames[:, 1], held_out.frames[:, t])
    assert torch.equal(moment.anchor, held_out.anchor)
    assert torch.equal(moment.proprio, held_out.proprio[:, t])
    assert torch.equal(moment.landmarks, held_out.landmarks[:, t])


@torch.no_grad()
def test_it_foresees_better_than_that_nothing_changes(trained, store) -> None:
    latents, actions = tracks_of(trained, store, training(), "held-out").sample(256, 4, generator_at(0, 0))
    free, cell = latents[:, 0], trained.first_cell(256)
    for t in range(4):
        said = trained.step(free, actions[:, t], cell)
        free, cell = said.mean, said.cell
    assert (free - latents[:, -1]).square().mean() < 0.5 * (latents[:, 0] - latents[:, -1]).square().mean()


def test_latents_have_mean_0_and_deviation_1_where_nothing_else_gives_them_a_scale(trained, store) -> None:
    """The first two are landmarks, the last four what is felt."""
    sample = windows_of(store, training(), future=1).batch(0, train.SAMPLE)
    latent = latents_of(trained, sample)
    torch.testing.assert_close(latent[:, 2:6].mean(0), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(latent[:, 2:6].std(0), torch.ones(4), atol=1e-3, rtol=0)
    other = latents_of(trained, windows_of(store, training(), future=1).batch(7, 1024))
    assert other.mean(0).abs().max() < 0.25
    assert (other.std(0) - 1).abs().max() < 0.25


def test_a_usual_change_is_that_of_the_data(trained, store) -> None:
    latents, _ = tracks_of(trained, store, training()).sample(4000, 1, generator_at(3, 3))
    torch.testing.assert_close(trained.dynamics.step_std, latents.diff(dim=1)[:, 0].std(0), rtol=0.1, atol=0)


@pytest.mark.parametrize("landmarks", [True, False])
@torch.no_grad()
def test_settling_changes_no_word_of_the_readouts(store, landmarks) -> None:
    """They say in the data's own units what they said in deviations before."""
    surrogate = surrogate_of(history=2, landmark_dim=2 * landmarks, coarse=3)
    sample = windows_of(store, training(), future=1).batch(3, 256)
    scene = Scale(torch.linspace(-1, 2, 2 if landmarks else 27), torch.tensor(0.3))
    reward = Scale(torch.tensor([5.0]), torch.tensor(2.5))
    latent = latents_of(surrogate, sample)
    before = surrogate.reads.scene(latent), surrogate.reward(latent)
    settle(surrogate, sample, [scene, reward])
    settled = latents_of(surrogate, sample)
    assert not torch.allclose(settled, latent, atol=0.1)
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(surrogate.reads.scene(settled), before[0] * 0.3 + scene.mean, **close)
    torch.testing.assert_close(surrogate.reward(settled), before[1] * 2.5 + 5, **close)
    torch.testing.assert_close(scene.apply(before[0] * 0.3 + scene.mean), before[0], **close)


def test_without_landmarks_it_learns_a_coarse_picture(store, tmp_path) -> None:
    sizes = {**TINY, "latent": 4, "landmark_dim": 0, "history": 2, "coarse": 4}
    config = dataclasses.replace(training(**SHORT), surrogate=type(training().surrogate)(**sizes))
    batch = windows_of(store, config, future=1).batch(0, 9)
    scene = scene_of(batch, config.surrogate)
    assert scene.shape == (9, 2, 48)
    blocks = batch.frames[:, 1:3].reshape(9, 2, 3, 4, 4, 4, 4).mean((4, 6))
    torch.testing.assert_close(scene, blocks.flatten(2))
    blind = write_store(tmp_path / "blind", landmarks=False, count=20)
    made = train_surrogate(blind, config, tmp_path / "run", lambda moment: moment.frames[:, 1].mean((1, 2, 3)))
    assert made.reads.scene(torch.zeros(1, 4 + 4)).shape == (1, 48)


def test_it_comes_back_from_its_folder(store, tmp_path) -> None:
    made = train_surrogate(store, training(**SHORT), tmp_path, paid)
    again = Surrogate.from_pretrained(tmp_path)
    assert again.config == made.config
    assert all(torch.equal(each, weights(made)[name]) for name, each in weights(again).items())


@pytest.mark.parametrize(("part", "calls"), [("eyes_loss", 1), ("eyes_loss", 4), ("dynamics_loss", 1),
                                             ("dynamics_loss", 3)])  # fmt: skip
def test_interrupted_it_ends_bit_for_bit_as_if_it_had_not_been(store, tmp_path, monkeypatch, part, calls) -> None:
    torch.manual_seed(1)
    train_surrogate(store, training(**SHORT), tmp_path / "whole", paid)
    whole = (tmp_path / "whole" / Surrogate.weights_file).read_bytes()
    real, done = getattr(train, part), []

    def interrupted(*arguments):
        if len(done) == calls:
            raise KeyboardInterrupt
        done.append(1)
        return real(*arguments)

    monkeypatch.setattr(train, part, interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_surrogate(store, training(**SHORT), tmp_path / "pieces", paid)
    assert not (tmp_path / "pieces" / Surrogate.weights_file).exists()
    monkeypatch.undo()
    torch.manual_seed(2)
    train_surrogate(store, training(**SHORT), tmp_path / "pieces", paid)
    assert (tmp_path / "pieces" / Surrogate.weights_file).read_bytes() == whole
    train_surrogate(store, training(**SHORT), tmp_path / "pieces", paid)  # once more: nothing is done twice
    assert (tmp_path / "pieces" / Surrogate.weights_file).read_bytes() == whole


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"image_size": 32}, "image size 16.*this surrogate has 32"),
        ({"action_dim": 3}, "action dimensions 2.*this surrogate has 3"),
        ({"proprio_dim": 5}, "proprioception dimensions 2.*this surrogate has 5"),
        ({"landmark_dim": 4}, "landmark dimensions 2.*this surrogate has 4"),
    ],
)
def test_a_store_of_other_sizes_is_refused_by_name(store, tmp_path, setting, said) -> None:
    config = training()
    other = dataclasses.replace(config, surrogate=dataclasses.replace(config.surrogate, **setting))
    with pytest.raises(UserError, match=said):
        train_surrogate(store, other, tmp_path / "run", paid)
    assert not (tmp_path / "run").exists()


def test_a_horizon_longer_than_the_episodes_is_refused(store, tmp_path) -> None:
    with pytest.raises(UserError, match=r"horizon 11.*has 11 observations.*--set horizon=10"):
        train_surrogate(store, training(horizon=11), tmp_path, paid)


def test_the_defaults_are_of_the_stores_sizes(store) -> None:
    of = default_config(store).surrogate
    assert (of.image_size, of.action_dim, of.proprio_dim, of.landmark_dim) == (16, 2, 2, 2)


@pytest.mark.parametrize(
    "setting",
    [{"latent": 0}, {"history": 0}, {"cell": -1}, {"log_variance_low": 2.0}, {"landmark_dim": 7}, {"image_size": 3}],
)
def test_sizes_that_cannot_be_are_refused(setting) -> None:
    with pytest.raises(ValueError, match="landmark" if "landmark_dim" in setting else "|".join(setting)):
        dataclasses.replace(training().surrogate, **setting)
