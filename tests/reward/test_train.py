"""A classifier learns from real and imagined frames, and goes on after a kill."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.reward.conftest import TASK, write_store
from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.errors import UserError
from w4rl_fast.fit import Fit, FitConfig
from w4rl_fast.reward.config import RewardConfig
from w4rl_fast.reward.dream import dream
from w4rl_fast.reward.model import RewardModel
from w4rl_fast.reward.read import probabilities_of
from w4rl_fast.reward.rows import FORCED, FREE, Balanced, DreamRows, RealRows, outcomes
from w4rl_fast.reward.rule import says_success
from w4rl_fast.reward.train import TrainRewardConfig, train_reward, windows_of
from w4rl_fast.world.config import BackboneConfig, WorldConfig
from w4rl_fast.world.model import WorldModel

WORLD = WorldConfig(
    image_size=16, action_dim=2, proprio_dim=2, history=2,
    backbone=BackboneConfig(patch=2, widths=(8, 16), depths=(1, 1), attention=(False, False), condition_dim=32),
)  # fmt: skip
TRAIN = TrainRewardConfig(
    reward=RewardConfig(image_size=16, widths=(8, 16), hidden=32),
    horizon=7, task=TASK, dreams=12, validation=0.25, held_out=0.2,
    fit=FitConfig(steps=120, batch=24, learning_rate=3e-3, warm_up=5, ema=0.9, log_every=20),
)  # fmt: skip
SHORT = dataclasses.replace(TRAIN, fit=dataclasses.replace(TRAIN.fit, steps=6))


class Mover(WorldModel):
    """A world whose every frame is the last one, moved right by two pixels while the action says so."""

    def forward(self, context, noise):
        moved = context.frames[:, -1].roll(2, -1)
        going = (context.actions[:, -1, 0] > 0.5)[:, None, None, None]
        return torch.where(going, moved, context.frames[:, -1]), context.proprio[:, -1]


def test_dreams_are_labelled_by_the_step_they_show(square_store, tmp_path) -> None:
    """Where the world is right, each imagined frame is the real one of its row, with that row's label."""
    learn, replays = (windows_of(square_store, TRAIN, "train", world) for world in (None, Mover(WORLD)))
    made = dream(Mover(WORLD), replays, tmp_path, episodes=6, seed=0)
    assert len(made.episodes) == 6
    compared = 0
    for mode in (FREE, FORCED):
        rows = DreamRows(learn, made, mode=mode)
        assert len(rows.success) == 6 * 7
        for number, episode in enumerate(made.episodes):
            real = square_store.read(int(episode))
            at = np.arange(7) + 7 * number
            assert rows.success[at].tolist() == real.success[1:].tolist()
            assert rows.failing[at].tolist() == [not real.info.succeeded] * 7
            whole = np.isin(np.diff(real.proprio[:, 0] * 16), (0, 2)).all()  # a square that stops half-way moves by 1
            if whole:
                pixels = ((rows.gather(at).frames[:, 0] + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
                assert (pixels == real.frames[1:]).all()
                compared += 1
    assert compared >= 4


def test_of_two_frames_the_first_is_the_one_before(square_store, tmp_path) -> None:
    """In a free-running dream that is the imagined one, in a forced one the real one."""
    config = dataclasses.replace(TRAIN, reward=dataclasses.replace(TRAIN.reward, frames=2))

    class Counts(WorldModel):
        def forward(self, context, noise):
            return context.frames[:, -1] * 0 + context.frames[:, -1, :1, :1, :1] * 0.5, context.proprio[:, -1]

    world = Counts(WORLD)
    learn = windows_of(square_store, config, "train")
    made = dream(world, windows_of(square_store, config, "train", world), tmp_path, episodes=3, seed=0)
    free, forced = (DreamRows(learn, made, mode=mode).gather(np.arange(7)) for mode in (FREE, FORCED))
    episode = square_store.read(int(made.episodes[0]))
    assert torch.equal(free.frames[1:, 0], free.frames[:-1, 1])
    real = torch.from_numpy(episode.frames[:-1]).permute(0, 3, 1, 2).float() / 127.5 - 1
    torch.testing.assert_close(forced.frames[:, 0], real)
    torch.testing.assert_close(free.frames[0, 0], real[0])
    torch.testing.assert_close(free.anchor[3], real[0])


def test_what_was_imagined_is_not_imagined_again(square_store, tmp_path) -> None:
    class Refuses(Mover):
        def forward(self, context, noise):
            raise AssertionError("imagined again")

    windows = windows_of(square_store, TRAIN, "train", Mover(WORLD))
    torch.manual_seed(0)
    first = dream(Mover(WORLD), windows, tmp_path, episodes=6, seed=0)
    torch.manual_seed(0)
    again = dream(Refuses(WORLD), windows, tmp_path, episodes=6, seed=0)
    assert (first.slices[0] == again.slices[0]).all()
    with pytest.raises(AssertionError, match="imagined again"):  # other weights, other dreams
        dream(Refuses(WORLD), windows, tmp_path, episodes=6, seed=0)


def test_a_damaged_dream_is_imagined_again(square_store, tmp_path) -> None:
    windows, world = windows_of(square_store, TRAIN, "train", Mover(WORLD)), Mover(WORLD)
    first = np.array(dream(world, windows, tmp_path, episodes=6, seed=0).slices[0])
    (path,) = tmp_path.rglob("dreams-*.npy")
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damaged)
        assert (dream(world, windows, tmp_path, episodes=6, seed=0).slices[0] == first).all()


def test_a_batch_holds_a_third_of_each_kind(square_store) -> None:
    rows = RealRows(windows_of(square_store, TRAIN, "train"))
    balanced = Balanced(rows, "store")
    share = float(balanced.draw(np.random.default_rng(0), 6000).success.mean())
    assert share == pytest.approx(1 / 3, abs=0.03)


def test_it_learns_what_success_is(square_store, tmp_path) -> None:
    choice = train_reward(square_store, Mover(WORLD), TRAIN, tmp_path)
    from w4rl_fast.reward import load_reward

    model, rule = load_reward(tmp_path)
    rows = RealRows(windows_of(square_store, TRAIN, "held-out"))
    said = probabilities_of(model, rows)
    assert (says_success(said, rule) == outcomes(rows)).mean() >= 0.9
    assert choice.strict
    assert choice.false_positive_rate[0] <= TRAIN.most_false


def test_learning_on_never_makes_it_worse(square_store, tmp_path) -> None:
    """One that learns on is kept only where it is no worse than it was on the episodes that choose the rule."""
    world = Mover(WORLD)
    train_reward(square_store, world, TRAIN, tmp_path / "good")
    good = RewardModel.from_pretrained(tmp_path / "good")
    hasty = dataclasses.replace(TRAIN, fit=dataclasses.replace(TRAIN.fit, steps=4, learning_rate=3.0, ema=0.0))
    train_reward(square_store, world, hasty, tmp_path / "spoilt", start=good)
    kept = RewardModel.from_pretrained(tmp_path / "spoilt").state_dict()
    assert all((kept[name] == weight).all() for name, weight in good.network.state_dict(prefix="network.").items())
    ignorant = RewardModel(TRAIN.reward)
    train_reward(square_store, world, TRAIN, tmp_path / "better", start=ignorant)
    learnt = RewardModel.from_pretrained(tmp_path / "better").network.state_dict()
    assert any((learnt[name] != weight).any() for name, weight in ignorant.network.state_dict().items())


def test_the_dreams_of_an_older_world_are_cleared_away(square_store, tmp_path) -> None:
    for _ in range(2):  # two worlds of other weights
        train_reward(square_store, Mover(WORLD), SHORT, tmp_path)
        (tmp_path / "training.safetensors").unlink()
    assert len(list((tmp_path / "dreams").iterdir())) == 2  # to learn from, and to choose on


@pytest.mark.parametrize("network", ["small", "resnet18"])
def test_a_training_that_was_killed_ends_with_the_same_classifier(square_store, tmp_path, monkeypatch, network) -> None:
    config = dataclasses.replace(SHORT, reward=dataclasses.replace(SHORT.reward, network=network))
    whole = run(square_store, config, tmp_path / "whole")
    real = Fit._one_step

    def dies(self, loss_at):
        if self.step == 3:
            self.save()
            raise KeyboardInterrupt
        return real(self, loss_at)

    monkeypatch.setattr(Fit, "_one_step", dies)
    with pytest.raises(KeyboardInterrupt):
        run(square_store, config, tmp_path / "killed")
    monkeypatch.setattr(Fit, "_one_step", real)
    resumed = run(square_store, config, tmp_path / "killed")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(weight, resumed[name]) for name, weight in whole.items())


def run(store, config, folder):
    from w4rl_fast.reward import load_reward

    train_reward(store, None, config, folder)
    return load_reward(folder)[0].state_dict()


@pytest.mark.parametrize(
    ("outcome", "words"), [(True, "without a single failure"), (False, "without a single success")]
)
def test_a_store_of_one_outcome_is_refused(tmp_path, outcome, words) -> None:
    store = write_store(tmp_path / "store", [outcome] * 12)
    with pytest.raises(UserError, match=words):
        train_reward(store, None, SHORT, tmp_path / "run")


def test_a_store_of_another_size_or_with_an_empty_side_is_refused(tmp_path, square_store) -> None:
    with pytest.raises(UserError, match="image size 16"):
        config = dataclasses.replace(SHORT, reward=dataclasses.replace(SHORT.reward, image_size=32))
        train_reward(square_store, None, config, tmp_path / "run")
    with pytest.raises(UserError, match="the validation side"):
        train_reward(square_store, None, dataclasses.replace(SHORT, validation=0.0), tmp_path / "run")


def test_three_sides_share_no_episode(square_store) -> None:
    config = WindowConfig(held_out=0.2, validation=0.25)
    sides = [set(Windows(square_store, config, side).episodes) for side in ("train", "validation", "held-out")]
    assert sum(map(len, sides)) == len(set.union(*sides)) == len(square_store)
    wider = WindowConfig(held_out=0.2, validation=0.4)
    assert set(Windows(square_store, wider, "held-out").episodes) == sides[2]
