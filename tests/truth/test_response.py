"""Action response: what obeying, ignoring and disobeying worlds score, and when the simulator is not asked."""

import dataclasses

import numpy as np
import pytest
import torch

from w4rl_fast.errors import MissingExtra
from w4rl_fast.truth import held_out as choosing
from w4rl_fast.truth.held_out import held_out
from w4rl_fast.truth.response import measure_response
from w4rl_fast.truth.trials import KINDS, other_actions


@pytest.fixture
def starts(point_store, point_config):
    return held_out(point_store, point_config, horizon=5, episodes=12, start=0)


@pytest.fixture
def respond(starts, point_store, in_this_process):
    in_this_process()

    def measure(model):
        response, imagined, simulated = measure_response(model, starts, point_store)
        assert response.simulator == "used"
        assert imagined.frames.shape == simulated.frames.shape == (12, 4, 6, 3, 24, 24)
        return response

    return measure


def test_a_world_that_obeys_scores_one(respond, point_world):
    response = respond(point_world())
    assert response.response == pytest.approx(1, abs=1e-4)
    assert response.correlation == pytest.approx([1, 1, 1], abs=1e-4)
    assert response.shuffled == pytest.approx([1, 1, 1], abs=1e-4)
    assert response.pixels_follow.successes == response.pixels_follow.episodes == 12
    for kind in KINDS:
        each = response.kinds[kind]
        assert each.imagined_cm == pytest.approx(each.simulated_cm, rel=1e-4, abs=1e-4)
        assert each.error_cm == pytest.approx(0, abs=1e-3)
    assert response.kinds["zero"].simulated_cm == 0
    assert response.kinds["zero"].correlation == [None, None, None]
    assert response.kinds["mirrored"].ratio == pytest.approx(1, rel=1e-4)
    assert response.kinds["mirrored"].simulated_cm == pytest.approx(response.kinds["true"].simulated_cm, rel=1e-4)


@pytest.mark.parametrize("drift", [0.0, 0.01])
def test_a_world_that_ignores_actions_scores_zero(respond, point_world, drift):
    response = respond(point_world(gain=0.0, drift=drift))
    assert response.response == pytest.approx(0, abs=1e-4)
    assert response.pixels_follow.successes == 0
    assert response.kinds["shuffled"].response == pytest.approx(0, abs=1e-4)


def test_a_lazy_arm_scores_between_and_one_that_goes_the_other_way_below_zero(respond, point_world):
    lazy = respond(point_world(gain=0.5))
    assert lazy.response == pytest.approx(1 - 0.5**2, abs=1e-4)
    assert lazy.kinds["shuffled"].ratio == pytest.approx(0.5, rel=1e-3)
    assert lazy.correlation == pytest.approx([1, 1, 1], abs=1e-4)  # which is why correlation alone does not do
    assert respond(point_world(gain=-1.0)).response == pytest.approx(1 - 2**2, abs=1e-3)


def test_a_hand_that_moves_its_number_but_not_its_picture_is_found(respond, point_world):
    response = respond(point_world(shows=False))
    assert response.response == pytest.approx(1, abs=1e-4)
    assert response.pixels_follow.successes == 0


def test_other_actions_keep_what_they_do_not_turn():
    own = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (3, 5, 4)).astype(np.float32))
    true, shuffled, zero, mirrored = other_actions(own).unbind(1)
    assert torch.equal(true, own)
    assert sorted(map(str, shuffled.tolist())) == sorted(map(str, own.tolist()))
    assert not any(torch.equal(a, b) for a, b in zip(shuffled, own, strict=True))
    assert not zero.any()
    assert torch.equal(mirrored[..., :3], -own[..., :3])
    assert torch.equal(mirrored[..., 3], own[..., 3])


def test_slices_change_nothing(respond, point_world, monkeypatch):
    whole = respond(point_world(gain=0.7, drift=0.01))
    monkeypatch.setattr(choosing.HeldOut.batches, "__defaults__", (5,))
    assert dataclasses.asdict(respond(point_world(gain=0.7, drift=0.01))) == dataclasses.asdict(whole)


def why_not(model, starts, store):
    response, _, simulated = measure_response(model, starts, store)
    assert simulated is None
    assert response.response is None
    assert response.pixels_follow is None
    assert response.kinds == {}
    assert response.correlation == pytest.approx([1, 1, 1], abs=1e-4)  # the recording is there all the same
    return response.simulator


def test_without_a_simulator_the_reason_is_said(
    starts, point_store, point_world, in_this_process, shifted_task, monkeypatch
):
    def missing(_config):
        raise MissingExtra("metaworld", extra="sim")

    model = point_world()
    assert "test/point" in why_not(model, starts, point_store)  # no such task
    in_this_process(missing)
    assert "w4rl-fast[sim]" in why_not(model, starts, point_store)
    in_this_process(shifted_task)
    assert "3.5 cm from episode" in why_not(model, starts, point_store)
    in_this_process()
    infos = [dataclasses.replace(info, source="imported") for info in point_store.infos]
    monkeypatch.setattr(point_store, "infos", infos)
    assert "imported episodes" in why_not(model, starts, point_store)
