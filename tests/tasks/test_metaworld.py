import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("metaworld")

from w4rl_fast.errors import UserError
from w4rl_fast.tasks import default_config, make_task, task_names

SOME = ["button-press-v3", "coffee-pull-v3", "drawer-close-v3", "door-lock-v3", "hammer-v3"]
ALL = [name.removeprefix("metaworld/") for name in task_names() if name.startswith("metaworld/")]


def task_of(name, **settings):
    return make_task(replace(default_config(f"metaworld/{name}", image_size=16), **settings))


def play(task, seed, *, steps=8):
    """A digest of everything an episode shows, with actions that depend on the seed."""
    rng = np.random.default_rng(seed)
    digest = hashlib.sha256()
    observation = task.reset(seed)
    for _ in range(steps):
        digest.update(observation.frame.tobytes() + observation.proprio.tobytes() + bytes([observation.success]))
        observation = task.step(rng.uniform(-1, 1, 4).astype(np.float32))
    digest.update(observation.frame.tobytes() + observation.proprio.tobytes())
    return digest.hexdigest()


def check_repeats(name):
    task = task_of(name)
    first = play(task, 7)
    assert play(task, 7) == first, "the same object, at once"
    assert play(task, 8) != first, "another seed is another episode"
    task.reset(9)
    act = task.expert()
    for _ in range(task.config.horizon):
        task.step(act())
    assert play(task, 7) == first, "after an expert has moved the objects about"
    task.close()
    assert play(task_of(name), 7) == first, "a fresh object"
    return first


@pytest.mark.parametrize("name", SOME)
def test_a_seed_is_an_episode_bit_for_bit(name):
    check_repeats(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_a_seed_is_an_episode_bit_for_bit_in_every_task(name):
    check_repeats(name)


ELSEWHERE = """
import json, runpy, sys
module = runpy.run_path(sys.argv[1])
print(json.dumps({name: module["play"](module["task_of"](name), 7) for name in sys.argv[2:]}))
"""


def check_elsewhere(run_python, names):
    """Another process plays them in another order, each after another task."""
    found = json.loads(run_python(ELSEWHERE, __file__, *reversed(names)))
    assert found == {name: play(task_of(name), 7) for name in names}


def test_another_process_plays_the_same_episodes(run_python):
    check_elsewhere(run_python, SOME)


@pytest.mark.slow
def test_another_process_plays_the_same_episodes_of_every_task(run_python):
    check_elsewhere(run_python, ALL)


def check_runs(name):
    task = task_of(name)
    config = task.config
    seen = [task.reset(3), *(task.step(np.full(4, 0.2, np.float32)) for _ in range(config.horizon))]
    for observation in seen:
        assert (observation.frame.shape, observation.frame.dtype) == ((16, 16, 3), np.uint8)
        assert (observation.proprio.shape, observation.proprio.dtype) == ((task.proprio_dim,), np.float32)
        assert np.isfinite(observation.proprio).all()
        assert type(observation.success) is bool
    assert len({observation.frame.tobytes() for observation in seen}) > 3
    assert len(task.action_low) == len(task.action_high) == 4
    task.close()


@pytest.mark.parametrize("name", SOME)
def test_a_task_runs_to_its_horizon(name):
    check_runs(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_every_task_runs_to_its_horizon(name):
    check_runs(name)


def expert_succeeds(task, seed):
    task.reset(seed)
    act = task.expert()
    for _ in range(task.config.horizon):
        action = act()
        assert action.dtype == np.float32
        assert np.abs(action).max() <= 1
        task.step(action)
    return task.succeeded


@pytest.mark.parametrize("name", ["button-press-v3", "drawer-close-v3", "coffee-pull-v3"])
def test_the_expert_always_succeeds(name):
    task = task_of(name, image_size=8)
    assert [seed for seed in range(20) if not expert_succeeds(task, 1000 + seed)] == []


@pytest.mark.slow
def test_the_expert_succeeds_in_nearly_every_task():
    failed = [name for name in ALL if not expert_succeeds(task_of(name, image_size=8), 2**30 + 1)]
    assert len(failed) <= 5, failed


def test_an_action_beyond_its_bounds_is_the_action_at_the_bound():
    task = task_of("reach-v3")
    ends = []
    for action in ([5, -3, 2, 9], [1, -1, 1, 1]):
        task.reset(0)
        ends.append([task.step(np.array(action, np.float32)) for _ in range(3)])
    for one, other in zip(*ends, strict=True):
        np.testing.assert_array_equal(one.frame, other.frame)
        np.testing.assert_array_equal(one.proprio, other.proprio)


@pytest.mark.parametrize("dimension", [0, 1, 2])
def test_a_positive_action_moves_the_hand_along_its_axis(dimension):
    task = task_of("reach-v3")
    before = task.reset(0).proprio
    action = np.zeros(4, np.float32)
    action[dimension] = 1
    after = [task.step(action) for _ in range(3)][-1].proprio
    moved = after[:3] - before[:3]
    assert moved[dimension] > 0.02
    assert np.abs(np.delete(moved, dimension)).max() < moved[dimension] / 2


def test_an_action_is_held_for_its_repeats():
    """Three steps of two repeats end where two of three do, and the clock has run as long."""
    ends = []
    for repeat, steps in ((2, 3), (3, 2), (1, 6)):
        task = task_of("button-press-v3", action_repeat=repeat, horizon=10)
        task.reset(1)
        began = task._env.data.time
        seen = [task.step(np.array([0.5, -0.5, 0.1, 1], np.float32)) for _ in range(steps)]
        assert task._env.data.time - began == pytest.approx(6 * task._env.dt)
        ends.append(seen[-1])
    for other in ends[1:]:
        np.testing.assert_array_equal(other.proprio, ends[0].proprio)
        np.testing.assert_array_equal(other.frame, ends[0].frame)


@pytest.mark.parametrize("name", ["push-v3", "pick-place-v3"])
def test_proprioception_is_hand_gripper_and_command_and_never_an_object(name):
    task = task_of(name)
    observation = task.reset(4)
    for step in range(6):
        data = task._env.data
        hand = data.body("hand").xpos
        opening = np.linalg.norm(data.body("rightclaw").xpos - data.body("leftclaw").xpos) / 0.1
        np.testing.assert_array_equal(observation.proprio[:3], hand.astype(np.float32))
        assert observation.proprio[3] == np.float32(np.clip(opening, 0, 1))
        np.testing.assert_array_equal(observation.proprio[4:], data.mocap_pos[0].astype(np.float32))
        observation = task.step(np.array([0.3, 0.2, -0.4, 1 if step > 2 else -1], np.float32))


def test_an_object_put_elsewhere_changes_the_picture_but_not_proprioception():
    task = task_of("push-v3", image_size=64)
    before = task.reset(4)
    place = task._env.data.body("obj").xpos.copy()
    task._env._set_obj_xyz(np.add(place, (0.1, 0.05, 0)))
    after = task._observe(success=False)
    task._row = task._env._get_obs()
    np.testing.assert_array_equal(task._observe(success=False).proprio, before.proprio)
    assert (after.frame != before.frame).any()


def scripted_success(task, monkeypatch, verdicts):
    """Let the simulator say what is success, one verdict for each of its steps."""
    step, verdicts = task._env.step, iter(verdicts)

    def judged(action):
        *rest, info = step(action)
        return *rest, {**info, "success": next(verdicts)}

    monkeypatch.setattr(task._env, "step", judged)


def test_success_is_latched_over_every_simulator_step_until_the_next_reset(monkeypatch):
    task = task_of("reach-v3", action_repeat=3)
    task.reset(0)
    scripted_success(task, monkeypatch, [0.0] * 3 + [0.0, 1.0, 0.0] + [0.0] * 3 + [0.0, 0.0, 1.0])
    verdicts = []
    for _ in range(4):
        observation = task.step(np.zeros(4, np.float32))
        verdicts.append((observation.success, task.succeeded))
    assert verdicts == [(False, False), (False, True), (False, True), (True, True)]
    assert task.reset(0).success is False
    assert task.succeeded is False


@pytest.mark.parametrize(("horizon", "repeat"), [(101, 5), (501, 1), (6, 100)])
def test_an_episode_longer_than_the_simulator_allows_is_refused(horizon, repeat):
    with pytest.raises(UserError, match=f"{horizon} x action repeat {repeat} = {horizon * repeat}.*at most 500"):
        task_of("reach-v3", horizon=horizon, action_repeat=repeat)


def test_an_episode_may_be_as_long_as_the_simulator_allows():
    task = task_of("reach-v3", horizon=5, action_repeat=100, image_size=8)
    task.reset(0)
    for _ in range(5):
        task.step(np.zeros(4, np.float32))


def test_a_step_before_any_reset_is_refused():
    with pytest.raises(UserError, match="reset"):
        task_of("reach-v3").step(np.zeros(4, np.float32))


def test_the_expert_sees_the_goal_of_this_very_episode():
    """With the goal hidden, as Meta-World has it by default, the reaching expert would go to the origin."""
    task = task_of("reach-v3", image_size=8)
    assert all(expert_succeeds(task, seed) for seed in range(3))
    assert len({tuple(task.reset(seed) and task._env._target_pos) for seed in range(3)}) == 3
