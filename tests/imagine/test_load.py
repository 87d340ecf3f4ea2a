"""`w4rl_fast.load(RUN).imagine(...)`: what a user types, and what it says when something is missing."""

import json
import shutil

import numpy as np
import pytest
import torch

import w4rl_fast
from w4rl_fast.config import save_config
from w4rl_fast.errors import UserError
from w4rl_fast.tasks import TaskConfig


def test_a_run_is_imagined_in_one_line(run, store) -> None:
    env = w4rl_fast.load(run).imagine(store=store.path, num_worlds=3, slice_size=4)
    seen, _ = env.reset(seed=0)
    assert seen["frames"].shape == (3, 16, 16, 3)
    truncated = [env.step(np.zeros((3, 2), np.float32))[3] for _ in range(5)]
    assert env.imagination.config.horizon == 5
    assert truncated[-1].any() or env.imagination.episodes.any()
    assert w4rl_fast.load(str(run)).policy.config.image_size == 16


def test_a_store_in_the_run_is_found(run, store) -> None:
    shutil.copytree(store.path, run / "data")
    assert w4rl_fast.load(run).imagine(num_worlds=2, slice_size=2).num_envs == 2
    shutil.rmtree(run / "data")
    with pytest.raises(UserError, match="it is not there"):
        w4rl_fast.load(run).imagine()


def test_the_held_out_side_is_another(run, store) -> None:
    loaded = w4rl_fast.load(run)
    sides = [loaded.imagination(store=store.path, side=side, slice_size=2).starts for side in ("train", "held-out")]
    assert len(sides[0]) + len(sides[1]) == len(store)


def test_a_world_that_was_not_trained_is_named(run, store) -> None:
    shutil.rmtree(run / "world")
    with pytest.raises(UserError, match="no trained world"):
        w4rl_fast.load(run).imagine(store=store.path)


def test_where_no_classifier_was_trained_nobody_wins(run, store) -> None:
    shutil.rmtree(run / "reward")
    worlds = w4rl_fast.load(run).imagination(store=store.path, num_worlds=4, slice_size=2, horizon=3)
    worlds.reset(0)
    for _ in range(3):
        outcome = worlds.step(torch.ones(4, worlds.sizes.action_dim))[1]
        assert (outcome.probability < 1e-8).all()
        assert not outcome.terminated.any()


def test_a_policy_is_asked_for_only_where_it_is_needed(run, store) -> None:
    shutil.rmtree(run / "policy")
    loaded = w4rl_fast.load(run)
    loaded.imagine(store=store.path, num_worlds=2, slice_size=2)
    with pytest.raises(UserError, match="no policy"):
        loaded.policy  # noqa: B018


def test_a_folder_that_is_no_run_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match=r"task\.json"):
        w4rl_fast.load(tmp_path)


def test_starts_of_another_task_are_refused(run, store) -> None:
    save_config(run / "task.json", TaskConfig(name="test/circle", image_size=16))
    with pytest.raises(UserError, match="imagines test/circle"):
        w4rl_fast.load(run).imagine(store=store.path)


def test_starts_of_the_task_with_other_settings_are_refused(run, store, tmp_path_factory) -> None:
    from w4rl_fast.config import to_json_dict
    from w4rl_fast.data.store import writing

    path = tmp_path_factory.mktemp("other") / "store"
    recorded = TaskConfig(name="test/square", image_size=16, horizon=5, action_repeat=2)
    with writing(path, store.schema, {"test/square": to_json_dict(recorded)}) as writer:
        for number in range(len(store)):
            writer.add(store.read(number))
    with pytest.raises(UserError, match="action_repeat 2 for 5"):
        w4rl_fast.load(run).imagine(store=path)


def test_a_horizon_beyond_training_is_warned_of_with_the_measured_drift(run, store) -> None:
    loaded = w4rl_fast.load(run)
    with pytest.warns(UserWarning, match="beyond the 7 steps .*evaluate world"):
        loaded.imagine(store=store.path, horizon=9, num_worlds=2, slice_size=2)
    (run / "world-fidelity.json").write_text(json.dumps({"proprio_error_m": [0.001, 0.002, None, 0.0123]}))
    with pytest.warns(UserWarning, match="off by 12 mm after 4 steps"):
        loaded.imagine(store=store.path, horizon=9, num_worlds=2, slice_size=2)


def test_a_setting_that_does_not_exist_is_named(run, store) -> None:
    with pytest.raises(UserError, match="num_worlds"):
        w4rl_fast.load(run).imagine(store=store.path, num_world=3)


def test_the_package_imports_no_torch(run_python) -> None:
    assert run_python("import sys, w4rl_fast; w4rl_fast.load; print('torch' in sys.modules)").strip() == "False"
