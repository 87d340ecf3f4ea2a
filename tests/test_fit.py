"""One training loop: left at any step and taken up again, it ends where it would have ended."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from w4rl_fast.errors import UserError
from w4rl_fast.fit import CHECKPOINT, Fit, FitConfig, generator_at, rate_at

CONFIG = FitConfig(steps=23, batch=4, learning_rate=1e-2, warm_up=5, ema=0.9, log_every=4)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 1))


def loss_of(model: nn.Module, seed: int = 0):
    def loss_at(step: int) -> torch.Tensor:
        x = torch.randn(4, 3, generator=generator_at(seed, step))
        return (model(x) - x.sum(1, keepdim=True)).square().mean()

    return loss_at


def trained(folder, *, until: tuple[int, ...] = (), config: FitConfig = CONFIG) -> nn.Module:
    """A training in pieces, each in a new process as far as this class can tell."""
    for last in (*until, config.steps):
        model = network()
        Fit(model, config, folder, stage="test").run(loss_of(model), until=last)
    return model


@pytest.mark.parametrize("until", [(1,), (4,), (7, 8, 20), (22,)])
def test_a_training_in_pieces_equals_an_uninterrupted_one_bit_for_bit(tmp_path, until) -> None:
    whole, pieces = trained(tmp_path / "whole"), trained(tmp_path / "pieces", until=until)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, pieces.state_dict()[name]), name
    lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "pieces")]
    assert lines[0] == lines[1]


def test_steps_after_the_last_checkpoint_are_repeated_alike(tmp_path) -> None:
    """A kill loses what came after the checkpoint; here the checkpoint of step 7 is put back after step 15."""
    model = network()
    Fit(model, CONFIG, tmp_path, stage="test").run(loss_of(model), until=7)
    old = (tmp_path / CHECKPOINT).read_bytes()
    Fit(network(), CONFIG, tmp_path, stage="test").run(loss_of(model), until=15)
    (tmp_path / CHECKPOINT).write_bytes(old)
    resumed = trained(tmp_path)
    for name, weight in trained(tmp_path / "whole").state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name])


def test_it_learns_and_ends_with_the_averaged_weights(tmp_path) -> None:
    config = dataclasses.replace(CONFIG, steps=400)
    model = network()
    before = loss_of(model)(10**6).item()
    fit = Fit(model, config, tmp_path, stage="test")
    fit.run(loss_of(model))
    assert loss_of(model)(10**6).item() < 0.1 * before
    assert all(torch.equal(weight, fit.average[name]) for name, weight in model.named_parameters())


def test_frozen_weights_stay_and_are_not_saved(tmp_path) -> None:
    model = network()
    model[0].requires_grad_(False)
    frozen = model[0].weight.clone()
    Fit(model, CONFIG, tmp_path, stage="test").run(loss_of(model))
    assert torch.equal(model[0].weight, frozen)
    assert b"weight/0.weight" not in (tmp_path / CHECKPOINT).read_bytes()


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path) -> None:
    model = network()
    fit = Fit(model, CONFIG, tmp_path, stage="test")
    fit.run(loss_of(model), until=6)
    kept = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(UserError, match=r"loss nan at step 9.*batch 9"):
        fit.run(lambda step: loss_of(model)(step) * (float("nan") if step == 9 else 1))
    assert (tmp_path / CHECKPOINT).read_bytes() == kept


def test_a_checkpoint_of_other_settings_or_another_model_is_refused(tmp_path) -> None:
    model = network()
    Fit(model, CONFIG, tmp_path, stage="test").run(loss_of(model), until=2)
    with pytest.raises(UserError, match="other settings"):
        Fit(network(), dataclasses.replace(CONFIG, learning_rate=1e-3), tmp_path, stage="test")
    with pytest.raises(UserError, match=r"missing \['weight/3"):
        Fit(nn.Sequential(*network(), nn.Linear(1, 1)), CONFIG, tmp_path, stage="test")


@pytest.mark.parametrize("part", ["weight", "buffer"])
def test_a_checkpoint_whose_weights_have_other_shapes_is_refused(tmp_path, part) -> None:
    def model(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(3, width if part == "weight" else 1), Counts(width))

    class Counts(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            if part == "buffer":
                self.register_buffer("seen", torch.zeros(width))

    Fit(model(8), CONFIG, tmp_path, stage="test").save()
    wrong = {"weight": r"0\.bias is \(8,\) and not \(9,\)", "buffer": r"1\.seen is \(8,\) and not \(9,\)"}
    with pytest.raises(UserError, match=wrong[part]) as caught:
        Fit(model(9), CONFIG, tmp_path, stage="test")
    assert "delete the folder" in caught.value.remedy


def test_the_rate_warms_up_and_decays_to_nothing() -> None:
    rates = [rate_at(step, CONFIG) for step in range(CONFIG.steps + 1)]
    assert rates[0] == pytest.approx(1 / 5)
    assert max(rates) == rates[4]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_metrics_hold_the_mean_loss_of_each_interval(tmp_path) -> None:
    model, seen = network(), []

    def loss_at(step: int) -> torch.Tensor:
        loss = loss_of(model)(step)
        seen.append(loss.item())
        return loss

    Fit(model, CONFIG, tmp_path, stage="test").run(loss_at)
    first = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert first["step"] == 4
    assert first["test/loss"] == pytest.approx(sum(seen[:4]) / 4)
