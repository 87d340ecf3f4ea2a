"""An unmodified PPO of stable-baselines3 trains in imagined worlds, and is told what a plain run of them tells."""

import dataclasses

import numpy as np
import pytest
import torch

from w4rl_fast.errors import UserError
from w4rl_fast.imagine import Starts
from w4rl_fast.imagine.env import ImaginationEnv
from w4rl_fast.reward import RewardConfig, RewardModel
from w4rl_fast.world.model import WorldModel

pytest.importorskip("stable_baselines3")

from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor, VecTransposeImage

from w4rl_fast.imagine.stable_baselines import StableBaselinesEnv

SIZE, WORLDS, STEPS = 40, 4, 16
"""The library's network for pictures begins at 36 x 36."""


def large_step(_frames, proprio, actions, _anchor, _scene, _noise):
    """The hand moves by a quarter of the action, the left half of the picture is as bright as it stands; far to the
    right is success.
    """
    place = proprio[:, -1] + actions[:, -1] / 4
    picture = torch.full((len(place), 3, SIZE, SIZE), -1.0)
    picture[..., : SIZE // 2] = ((place.sum(1) * 40 + 100).round().clamp(0, 255) / 127.5 - 1)[:, None, None, None]
    return picture, place, (place[:, 0] - 0.9) * 100


@pytest.fixture
def make(imagine, world):
    """Environments of larger pictures that begin in eight places."""
    large = WorldModel(dataclasses.replace(world.config, image_size=SIZE))
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(8)
    starts = Starts(
        pixels=torch.randint(0, 256, (8, 3, SIZE, SIZE), generator=generator).to(torch.uint8),
        rows=rows[:, None].expand(8, 3).contiguous(),
        anchors=rows,
        proprio=torch.rand(8, 1, 2, generator=generator).expand(8, 3, 2).contiguous(),
        actions=torch.zeros(8, 3, 2),
    )

    def make(**settings):
        judge = RewardModel(RewardConfig(image_size=SIZE, widths=(8, 8), hidden=8)).eval()
        parts = {"engine": large_step, "starts": starts, "world": large, "reward": judge}
        return ImaginationEnv(imagine(WORLDS, **parts, **settings))

    return make


@pytest.fixture(autouse=True)
def logs(monkeypatch, tmp_path):
    """The library writes its logs into a folder of its own choice otherwise."""
    monkeypatch.setenv("SB3_LOGDIR", str(tmp_path))


class Noted(BaseCallback):
    """Keeps what the algorithm did and was told."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def _on_step(self):
        told = self.locals
        seen = {name: each.copy() for name, each in told["new_obs"].items()}
        self.rows.append((told["clipped_actions"].copy(), seen, told["rewards"].copy(), told["dones"], told["infos"]))
        return True


def ppo_of(env, **settings):
    return PPO("MultiInputPolicy", env, n_steps=STEPS, batch_size=32, n_epochs=2, seed=3, device="cpu", **settings)


def test_it_trains_and_sees_what_a_plain_run_shows(make) -> None:
    model, noted = ppo_of(StableBaselinesEnv(make())), Noted()
    assert isinstance(model.env, VecTransposeImage)
    assert model.observation_space["frames"].shape == (3, SIZE, SIZE)
    before = {name: each.clone() for name, each in model.policy.state_dict().items()}
    model.learn(6 * STEPS * WORLDS, callback=noted)
    assert not torch.equal(before["action_net.weight"], model.policy.state_dict()["action_net.weight"])
    plain, ended = make(), {"won": 0, "late": 0}
    plain.reset(seed=[3 + world for world in range(WORLDS)])
    for acted, seen, rewards, dones, infos in noted.rows:
        now, reward, terminated, truncated, info = plain.step(acted)
        assert np.array_equal(seen["frames"], now["frames"].transpose(0, 3, 1, 2))
        assert np.array_equal(seen["proprio"], now["proprio"])
        assert np.array_equal(rewards, reward)
        assert np.array_equal(dones, terminated | truncated)
        for world, told in enumerate(infos):
            assert told["TimeLimit.truncated"] == truncated[world]
            assert told["success_probability"] == info["success_probability"][world]
            assert ("terminal_observation" in told) == ("is_success" in told) == dones[world]
            if dones[world]:
                last = info["final_obs"][world]
                assert np.array_equal(told["terminal_observation"]["frames"], last["frames"].transpose(2, 0, 1))
                assert np.array_equal(told["terminal_observation"]["proprio"], last["proprio"])
                assert told["is_success"] == terminated[world]
        ended["won"] += terminated.sum()
        ended["late"] += truncated.sum()
    assert len(noted.rows) == 6 * STEPS
    assert min(ended.values()) >= 5, "episodes ended in both ways"


def test_time_that_ran_out_is_worth_what_was_seen_last(make) -> None:
    """The library adds the value of `terminal_observation` where, and only where, `TimeLimit.truncated` says so."""
    model, noted = ppo_of(StableBaselinesEnv(make()), gamma=0.5), Noted()
    model.policy.value_net.bias.data.fill_(8.0)
    model.policy.value_net.weight.data.zero_()
    model.learn(STEPS * WORLDS, callback=noted)
    late = np.array([[told["TimeLimit.truncated"] for told in row[-1]] for row in noted.rows])
    added = model.rollout_buffer.rewards - np.stack([row[2] for row in noted.rows])
    assert late.any()
    assert np.array_equal(added, 4.0 * late)


def test_a_seed_makes_it_reproducible(make) -> None:
    ones, others = (ppo_of(StableBaselinesEnv(make())).learn(2 * STEPS * WORLDS).policy for _ in range(2))
    for one, other in zip(ones.parameters(), others.parameters(), strict=True):
        assert torch.equal(one, other)


def test_its_own_tools_work(make) -> None:
    env = VecMonitor(StableBaselinesEnv(make()))
    mean, _ = evaluate_policy(ppo_of(env), env, n_eval_episodes=8)
    assert 0 <= mean <= 1
    assert env.get_attr("num_envs", indices=[0, 2]) == [WORLDS, WORLDS]
    assert env.env_method("render", indices=0)[0][0].shape == (SIZE, SIZE, 3)
    env.env_method("close")
    assert env.env_is_wrapped(VecMonitor) == [False] * WORLDS
    assert len(env.get_images()) == WORLDS
    env.close()


def test_a_mask_resets_some(make) -> None:
    env, mask = StableBaselinesEnv(make()), np.array([True, False, False, True])
    env.seed(0)
    before = env.reset()
    for _ in range(3):
        before, *_ = env.step(np.zeros((WORLDS, 2), np.float32))
    env.seed(500)
    env.set_options({"reset_mask": mask})
    after = env.reset()
    assert np.array_equal(before["frames"][~mask], after["frames"][~mask])
    assert not np.array_equal(before["frames"][mask], after["frames"][mask])


@pytest.mark.parametrize("wrong", ["to_numpy", "autoreset"])
def test_what_the_library_cannot_take_is_refused(make, wrong) -> None:
    env = make(autoreset=wrong != "autoreset")
    env.to_numpy = wrong != "to_numpy"
    with pytest.raises(UserError, match=f"{wrong}=False"):
        StableBaselinesEnv(env)


def test_without_the_library_the_extra_is_named(run_python) -> None:
    said = run_python(
        "import sys; sys.modules['stable_baselines3'] = None\n"
        "import w4rl_fast.imagine\n"
        "from w4rl_fast.errors import MissingExtra\n"
        "try:\n    import w4rl_fast.imagine.stable_baselines\n"
        "except MissingExtra as error:\n    print(error)"
    )
    assert "w4rl-fast[rl]" in said
