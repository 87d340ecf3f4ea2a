"""The vector environment of gymnasium: its spaces, its own checks, its wrappers, and the end of episodes."""

import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics

from w4rl_fast.errors import UserError
from w4rl_fast.imagine.env import ImaginationEnv


class Single(gymnasium.Env):
    """One world of a vector environment as an environment, so that gymnasium's checks can be run on it."""

    def __init__(self, env):
        self.env, self.render_mode = env, "rgb_array"
        self.observation_space, self.action_space = env.single_observation_space, env.single_action_space
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        seen, _ = self.env.reset(seed=seed, options=options)
        return {name: values[0] for name, values in seen.items()}, {}

    def step(self, action):
        seen, reward, terminated, truncated, _ = self.env.step(action[None])
        first = {name: values[0] for name, values in seen.items()}
        return first, float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self):
        return self.env.render()[0]


@pytest.fixture
def env(imagine):
    return ImaginationEnv(imagine(6))


def test_gymnasium_finds_nothing_wrong(imagine) -> None:
    env = Single(ImaginationEnv(imagine(1), render_mode="rgb_array"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(infinity|spec|symmetric).*")
        check_env(env, skip_render_check=False)


def test_what_is_seen_lies_in_the_spaces(env) -> None:
    seen, info = env.reset(seed=3)
    assert seen in env.observation_space
    assert info == {}
    env.action_space.seed(0)
    for _ in range(12):
        seen, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert seen in env.observation_space
        assert {kind.dtype for kind in (terminated, truncated)} == {np.dtype(bool)}
        assert reward.shape == terminated.shape == truncated.shape == (6,)
        assert np.isin(reward, (0, 1)).all()
        assert ((info["success_probability"] >= 0) & (info["success_probability"] <= 1)).all()


def test_the_end_of_an_episode_is_kept_as_gymnasium_keeps_it(env, imagine) -> None:
    """`final_obs` is what the same worlds show where nothing begins anew."""
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    going_on = ImaginationEnv(imagine(6, autoreset=False))
    assert going_on.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    env.reset(seed=3)
    going_on.reset(seed=3)
    env.action_space.seed(0)
    live = np.ones(6, bool)
    for _ in range(5):
        acted = env.action_space.sample()
        seen, _, terminated, truncated, info = env.step(acted)
        other, *_ = going_on.step(acted)
        ended = terminated | truncated
        assert np.array_equal(info.get("_final_obs", np.zeros(6, bool)), ended)
        for world in np.flatnonzero(live):
            last = info["final_obs"][world] if ended[world] else {name: each[world] for name, each in seen.items()}
            assert all(np.array_equal(last[name], other[name][world]) for name in last)
            if ended[world]:
                assert not np.array_equal(seen["frames"][world], last["frames"])
        assert all(each is None for each in info.get("final_obs", np.full(6, None))[~ended])
        live &= ~ended
    assert not live.any()


def test_wrappers_of_gymnasium_work(imagine) -> None:
    wrapped = RecordEpisodeStatistics(ImaginationEnv(imagine(4)))
    wrapped = DictInfoToList(wrapped)
    wrapped.reset(seed=0)
    lengths = []
    for _ in range(11):
        *_, infos = wrapped.step(np.zeros((4, 2), np.float32))
        lengths += [int(info["episode"]["l"]) for info in infos if "episode" in info]
    assert len(lengths) >= 8
    assert max(lengths) <= 5


def test_a_seed_gives_the_same_again_and_none_gives_the_next_episode(env) -> None:
    first, _ = env.reset(seed=5)
    env.step(np.zeros((6, 2), np.float32))
    again, _ = env.reset(seed=5)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    after, _ = env.reset()
    assert not np.array_equal(first["proprio"], after["proprio"])
    listed, _ = env.reset(seed=[5, 6, 7, 8, 9, 10])
    assert np.array_equal(listed["proprio"], first["proprio"])


def test_without_a_seed_gymnasium_draws_one(imagine) -> None:
    one, _ = ImaginationEnv(imagine(6)).reset()
    other, _ = ImaginationEnv(imagine(6)).reset()
    assert not np.array_equal(one["proprio"], other["proprio"])


def test_a_mask_resets_the_worlds_it_names(env) -> None:
    before, _ = env.reset(seed=5)
    mask = np.array([True, False, False, True, False, False])
    after, _ = env.reset(seed=500, options={"reset_mask": mask})
    assert np.array_equal(before["frames"][~mask], after["frames"][~mask])
    fresh, _ = env.reset(seed=500)
    assert np.array_equal(fresh["frames"][mask], after["frames"][mask])
    with pytest.raises(UserError, match="reset_mask"):
        env.reset(options={"reset_mask": np.ones(3, bool)})


def test_tensors_say_what_arrays_say_and_are_the_callers_own(imagine) -> None:
    arrays, tensors = ImaginationEnv(imagine(6)), ImaginationEnv(imagine(6), to_numpy=False)
    (one, _), (other, _) = arrays.reset(seed=1), tensors.reset(seed=1)
    kept = other["frames"].clone()
    for _ in range(8):
        acted = np.full((6, 2), 0.5, np.float32)
        one, *rest, info = arrays.step(acted)
        now, *others, more = tensors.step(torch.from_numpy(acted))
        assert all(torch.is_tensor(each) for each in (*now.values(), *others, *more["final_obs"].values()))
        assert all(np.array_equal(one[name], now[name]) for name in one)
        assert all(np.array_equal(a, b) for a, b in zip(rest, others, strict=True))
        for world in np.flatnonzero(info.get("_final_obs", [])):
            assert np.array_equal(info["final_obs"][world]["frames"], more["final_obs"]["frames"][world])
    assert torch.equal(other["frames"], kept)


def test_actions_that_are_no_numbers_are_refused(env) -> None:
    env.reset(seed=0)
    actions = np.zeros((6, 2), np.float32)
    actions[4, 1] = np.nan
    with pytest.raises(UserError, match=r"action nan at \[4, 1\]"):
        env.step(actions)


def test_pictures_are_what_is_seen(imagine) -> None:
    env = ImaginationEnv(imagine(3), render_mode="rgb_array")
    seen, _ = env.reset(seed=0)
    assert np.array_equal(np.stack(env.render()), seen["frames"])
    with pytest.raises(UserError, match="rgb_array"):
        ImaginationEnv(imagine(3), render_mode="human")
