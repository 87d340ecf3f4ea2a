"""Real simulators as worlds: they are their tasks bit for bit, and show no episode that policies are judged on."""

import dataclasses

import numpy as np
import pytest
import torch

pytest.importorskip("pymunk")

from w4rl_fast.data.record import JUDGING_SEED, TUNING_SEED
from w4rl_fast.errors import UserError
from w4rl_fast.imagine import ImaginationConfig, Rollouts
from w4rl_fast.imagine.simulated import Simulated
from w4rl_fast.policy import GaussianPolicy, PolicyConfig
from w4rl_fast.tasks.catalogue import default_config, make_task
from w4rl_fast.tasks.protocol import Observation

TASK = default_config("push-t", image_size=16)


def simulated(count=4, *, history=2, first_seed=None, task=TASK, **config):
    settings = ImaginationConfig(num_worlds=count, **{"horizon": 3, **config})
    return Simulated(task, settings, history=history, first_seed=first_seed)


def actions_of(steps, count, seed=0):
    return torch.rand(steps, count, 2, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


def noted(worlds):
    """A list that fills with (world, seed) of every episode that begins."""
    begun = []
    for number, task in enumerate(worlds.tasks):

        def reset(seed, number=number, real=task.reset):
            begun.append((number, seed))
            return real(seed)

        task.reset = reset
    return begun


def play(worlds, seeds, actions):
    """Everything that is seen of some steps: now, how it went, and what was seen before any reset."""
    seen = [*map(torch.clone, worlds.reset(seeds))]
    for row in actions:
        for each in worlds.step(row):
            seen += [part.clone() for part in each]
        seen.append(worlds.landmarks.clone())
    return seen


def test_equal_seeds_and_actions_show_equal_worlds_bit_for_bit() -> None:
    actions = actions_of(7, 4)
    one, other = play(simulated(), 5, actions), play(simulated(), 5, actions)
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
    used = simulated()
    play(used, 77, actions)
    assert all(torch.equal(*pair) for pair in zip(one, play(used, 5, actions), strict=True))
    assert not torch.equal(play(simulated(), 6, actions)[0], one[0])


def test_a_world_does_not_depend_on_how_many_there_are() -> None:
    """Also not after it began anew."""
    actions = actions_of(7, 4)
    whole = play(simulated(), [3, 14, 15, 92], actions)
    alone = play(simulated(1), [15], actions[:, 2:3])
    few = play(simulated(2), [92, 3], actions[:, [3, 0]])
    for all_of_them, one, two in zip(whole, alone, few, strict=True):
        assert torch.equal(one, all_of_them[2:3])
        assert torch.equal(two, all_of_them[[3, 0]])


def test_a_world_is_its_task_bit_for_bit() -> None:
    """Frames, bodies and landmarks, with the history that its policy sees, through the ends of its episodes."""
    worlds, task = simulated(history=3), make_task(TASK)
    begun, actions = noted(worlds), actions_of(7, 4)
    worlds.reset(0)
    seen, landmarks, finals = [], [], []
    for row in actions:
        seen.append([worlds.past.frames.new_zeros(4, 3, 3, 16, 16), worlds.past.proprio.new_zeros(4, 3, 2)])
        worlds.past.unroll(worlds.past.frames, seen[-1][0])
        worlds.past.unroll(worlds.past.proprio, seen[-1][1])
        finals.append([each.clone() for each in worlds.step(row)[2]])
        landmarks.append(worlds.landmarks)
    for world in range(4):
        episodes = [seed for number, seed in dict.fromkeys(begun) if number == world]
        assert len(episodes) == len(set(episodes)) == 3
        for number, seed in enumerate(episodes):
            history = [task.reset(seed)] * 3
            for t in range(3 * number, min(3 * number + 3, 7)):
                frames = np.stack([each.frame for each in history]).transpose(0, 3, 1, 2)
                assert np.array_equal(seen[t][0][world].numpy(), frames)
                assert np.array_equal(seen[t][1][world].numpy(), np.stack([each.proprio for each in history]))
                history = [*history[1:], task.step(actions[t, world].numpy())]
                assert np.array_equal(finals[t][0][world].movedim(0, -1).numpy(), history[-1].frame)
                assert np.array_equal(finals[t][1][world].numpy(), history[-1].proprio)
                if t % 3 != 2:
                    assert np.array_equal(landmarks[t][world].numpy(), history[-1].landmarks)


def test_only_the_worlds_of_a_mask_begin_anew() -> None:
    worlds = simulated(horizon=10)
    worlds.reset(0)
    worlds.step(actions_of(1, 4)[0])
    begun, before = noted(worlds), [each.clone() for each in worlds.observe()]
    mask = torch.tensor([False, True, False, True])
    worlds.reset(100, mask=mask)
    assert [number for number, _ in begun] == [1, 3]
    for now, then in zip(worlds.observe(), before, strict=True):
        assert torch.equal(now[~mask], then[~mask])
        assert not torch.equal(now[mask], then[mask])


class Said:
    """A task that only says which seeds it was given, and succeeds when it is told to."""

    action_low, action_high, proprio_dim, landmark_dim, succeeded = (-1.0,) * 2, (1.0,) * 2, 2, 0, False
    seeds: list

    def __init__(self, config) -> None:
        self.config, self.steps = config, 0

    def observation(self, success):
        return Observation(np.full((16, 16, 3), self.steps, np.uint8), np.zeros(2, np.float32), success)

    def reset(self, seed):
        type(self).seeds.append(seed)
        self.steps = 0
        return self.observation(False)

    def step(self, action):
        assert np.abs(action).max() <= 1
        self.steps += 1
        return self.observation(self.steps in (2, 3))


@pytest.fixture
def said(monkeypatch):
    monkeypatch.setattr("w4rl_fast.imagine.simulated.make_task", Said)
    Said.seeds = []
    return Said


@pytest.mark.parametrize("first", [0, 1, 10**6, 2**30 - 3, 2**30, 2**31 - 9, 2**32 - 3, 2**40 + 7, 2**62])
def test_no_seed_that_policies_are_judged_on_is_ever_shown(said, first) -> None:
    worlds = simulated(64, horizon=1)
    worlds.reset(first)
    for _ in range(20):
        worlds.step(torch.zeros(64, 2))
    worlds.reset(first, episodes=torch.arange(64) * 1_000_003)
    assert len(set(said.seeds)) > 21 * 60, "and hardly any twice"
    assert all(0 <= seed < TUNING_SEED < JUDGING_SEED for seed in said.seeds)
    assert JUDGING_SEED == 2**30


def test_a_judge_gets_the_seeds_it_asks_for(said) -> None:
    worlds = simulated(5, first_seed=2**30 + 70)
    worlds.reset(0)
    assert said.seeds[-5:] == [2**30 + 70 + world for world in range(5)]
    worlds.reset(10)
    assert said.seeds[-5:] == [2**30 + 80 + world for world in range(5)]


@pytest.mark.usefixtures("said")
@pytest.mark.parametrize("ends", [True, False])
def test_success_is_paid_once_and_ends_the_episode_only_where_it_should(ends) -> None:
    """It succeeds with the second step, also with the third, and is late with the fifth."""
    worlds = simulated(2, horizon=5, ends=ends)
    worlds.reset(0)
    outcomes = [[each[0].item() for each in worlds.step(torch.full((2, 2), 3.0))[1][:3]] for _ in range(5)]
    if ends:
        assert outcomes == [[0, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 0], [0, 0, 0]]
        assert worlds.episodes.tolist() == [2, 2]
    else:
        assert outcomes == [[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]]
        assert worlds.episodes.tolist() == [1, 1]


def test_without_autoreset_a_world_waits_for_one(said) -> None:
    worlds = simulated(2, horizon=1, autoreset=False)
    worlds.reset(0)
    begun = len(said.seeds)
    assert worlds.step(torch.zeros(2, 2))[1].truncated.all()
    assert len(said.seeds) == begun
    assert (worlds.observe().frames == 1).all()


def test_a_policy_acts_in_them_as_in_a_dream() -> None:
    torch.manual_seed(0)
    sizes = {"image_size": 16, "action_dim": 2, "proprio_dim": 2, "history": 2}
    policy = GaussianPolicy(PolicyConfig(**sizes, widths=(4,), hidden=8)).eval()
    out = Rollouts(simulated()).rollout(policy, None, 5, 7)
    worlds = simulated()
    worlds.reset(7)
    for t in range(5):
        assert torch.equal(out.frames[t, :, -1].movedim(-1, 1), worlds.observe().frames)
        mean, _ = policy(out.frames[t].movedim(-1, 2).float() / 127.5 - 1, out.proprio[t])
        assert (out.actions[t] - mean).abs().max() > 0
        _, outcome, _ = worlds.step(out.actions[t])
        assert torch.equal(out.truncated[t], outcome.truncated)
        assert torch.equal(out.rewards[t], outcome.reward)
    assert out.truncated.sum(1).tolist() == [0, 0, 4, 0, 0]


@pytest.mark.usefixtures("said")
def test_what_pays_sees_what_the_action_led_to_before_any_reset() -> None:
    """The frames of this task count its steps; of an episode of three the last reward is of step 3, not of step 0."""
    torch.manual_seed(0)
    sizes = {"image_size": 16, "action_dim": 2, "proprio_dim": 2, "history": 2, "latent": 6}
    policy = GaussianPolicy(PolicyConfig(**sizes, widths=(4,), hidden=8)).eval()
    policy.observe = lambda frames, _: ((frames.mean((2, 3, 4)) + 1) * 127.5).round().repeat(1, 3)

    def pay(latent):
        return latent[:, :2] @ torch.tensor([10.0, 1.0])

    out = Rollouts(simulated(2, ends=False), pay=pay).rollout(policy, None, 5, 0)
    assert out.rewards[:, 0].tolist() == [1, 12, 23, 1, 12]
    assert out.latents[:, 0, :2].tolist() == [[0, 0], [0, 1], [1, 2], [0, 0], [0, 1]]
    plain = Rollouts(simulated(2, ends=False)).rollout(policy, None, 5, 0)
    assert plain.rewards[:, 0].tolist() == [0, 1, 0, 0, 1]


def test_the_verdict_is_the_tasks_own() -> None:
    worlds = simulated(2)
    worlds.reset(0)
    assert worlds.succeeded.tolist() == [False, False]
    worlds.tasks[1]._succeeded = True
    assert worlds.succeeded.tolist() == [False, True]
    worlds.close()
    with pytest.raises(UserError, match="step before reset"):
        worlds.tasks[0].step(np.zeros(2, np.float32))


def test_what_needs_an_opengl_context_is_refused() -> None:
    with pytest.raises(UserError, match=r"4 simulators drawn by gl.*one OpenGL context.*ray"):
        simulated(task=dataclasses.replace(TASK, renderer="gl"))
