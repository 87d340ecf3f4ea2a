import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("mujoco")

import mujoco

from w4rl_fast.data.actors import Disturbed, Expert, Random
from w4rl_fast.errors import MissingExtra, UserError
from w4rl_fast.tasks.catalogue import FRANKA_TIMING, default_config, make_task
from w4rl_fast.tasks.franka import panda
from w4rl_fast.tasks.franka.place import place, scene_xml
from w4rl_fast.tasks.franka.reach import Reach
from w4rl_fast.tasks.franka.space import HIGH, LOW, SPEED
from w4rl_fast.tasks.ray import RayRenderer

NAMES = list(FRANKA_TIMING)
STATE = mujoco.mjtState.mjSTATE_INTEGRATION
THINGS = {
    "pick-apple": ["apple"],
    "push-button": ["button", "button_base"],
    "put-bread-in": ["bread", "box"],
    "put-bread-out": ["bread", "box"],
    "pull-coffee": ["cup", "machine"],
    "close-drawer": ["drawer", "cabinet"],
}


def task_of(name, image_size=8, **settings):
    return make_task(replace(default_config(f"franka/{name}", image_size=image_size), **settings))


def state_of(model, data):
    state = np.empty(mujoco.mj_stateSize(model, STATE))
    mujoco.mj_getState(model, data, state, STATE)
    return state


def play(task, seed, *, steps=6):
    """A digest of everything an episode shows and of the state it ends in, with actions that depend on the seed."""
    rng = np.random.default_rng(seed)
    digest = hashlib.sha256()
    observation = task.reset(seed)
    for _ in range(steps):
        digest.update(observation.frame.tobytes() + observation.proprio.tobytes() + bytes([observation.success]))
        observation = task.step(rng.uniform(-1, 1, 4).astype(np.float32))
    digest.update(observation.frame.tobytes() + state_of(task.model, task.data).tobytes())
    return digest.hexdigest()


def run(task, seed, actor, steps=None):
    """The observations of an episode."""
    observation = task.reset(seed)
    actor.begin(task, np.random.default_rng(seed))
    seen = [observation]
    for _ in range(steps or task.config.horizon):
        seen.append(task.step(actor.act(seen[-1])))
    return seen


class Always:
    """The same action all along."""

    def __init__(self, *action):
        self.action = np.array(action, np.float32)

    def begin(self, task, rng):
        pass

    def act(self, observation):
        return self.action


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_is_an_episode_bit_for_bit(name):
    task = task_of(name)
    first = play(task, 7)
    assert play(task, 7) == first, "the same object, at once"
    assert play(task, 8) != first, "another seed is another episode"
    run(task, 9, Expert(), 12)
    assert play(task, 7) == first, "after an expert has moved the things about"
    assert play(task_of(name), 7) == first, "a fresh object"


ELSEWHERE = """
import json, runpy, sys
module = runpy.run_path(sys.argv[1])
print(json.dumps({name: module["play"](module["task_of"](name), 7) for name in sys.argv[2:]}))
"""


def test_another_process_plays_the_same_episodes(run_python):
    found = json.loads(run_python(ELSEWHERE, __file__, *reversed(NAMES)))
    assert found == {name: play(task_of(name), 7) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_scene_stands_anywhere_as_it_stands_in_its_task(name):
    task = task_of(name)
    task.reset(5)
    model = mujoco.MjModel.from_xml_string(scene_xml(f"franka/{name}"))
    data = mujoco.MjData(model)
    data.qvel[:], data.ctrl[:], data.time = 1.0, 0.1, 3.0
    place(f"franka/{name}", model, data, 5)
    np.testing.assert_array_equal(state_of(model, data), state_of(task.model, task.data))


@pytest.mark.parametrize("name", NAMES)
def test_where_things_begin_differs_so_much_that_one_has_to_look(name):
    model = mujoco.MjModel.from_xml_string(scene_xml(f"franka/{name}"))
    data, seen = mujoco.MjData(model), []
    for seed in range(40):
        place(f"franka/{name}", model, data, seed)
        seen.append(data.body(THINGS[name][0]).xpos[:2].copy())
        assert data.ncon == 0 or data.contact.dist.min() > -1e-3, "nothing begins inside another"
    assert (np.ptp(seen, axis=0) > 0.09).all()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_touched_stays_where_it_is(name):
    task = task_of(name)
    task.reset(3)
    before = {thing: task.data.body(thing).xpos.copy() for thing in THINGS[name]}
    run(task, 3, Always(0, 0, 0, 0), 20)
    for thing, where in before.items():
        np.testing.assert_allclose(task.data.body(thing).xpos, where, atol=2e-3)
    assert not task.succeeded


@pytest.mark.parametrize("name", NAMES)
def test_the_expert_succeeds_and_only_at_the_end(name):
    task = task_of(name)
    for seed in (0, 1):
        seen = run(task, seed, Expert())
        assert task.succeeded
        assert not any(observation.success for observation in seen[: len(seen) // 4])
        assert seen[-1].success, "and it stays done"
        assert task.score == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("repeat", "noise", "enough"), [(50, 0.0, 95), (25, 0.0, 95), (50, 0.5, 75)])
def test_the_expert_succeeds_nearly_always_and_often_when_disturbed(name, repeat, noise, enough):
    config = default_config(f"franka/{name}")
    task = task_of(name, action_repeat=repeat, horizon=config.horizon * 50 // repeat)
    won = 0
    for seed in range(100):
        run(task, seed, Disturbed(Expert(), noise, 0.0))
        won += task.succeeded
    assert won >= enough


@pytest.mark.parametrize("name", NAMES)
def test_who_does_not_look_does_not_succeed(name):
    task = task_of(name)
    won = 0
    for seed in range(3):
        run(task, seed, Random())
        won += task.succeeded
    assert won == 0


@pytest.mark.parametrize("name", ["pick-apple", "put-bread-in", "put-bread-out"])
def test_what_is_grasped_is_held_by_friction_alone(name):
    task = task_of(name)
    for geom in range(task.model.ngeom):
        task.model.geom_friction[geom] = 1e-4
    run(task, 0, Expert(), 40)
    assert not task.succeeded


def test_an_apple_in_the_hand_stays_there():
    task = task_of("pick-apple")
    seen = run(task, 2, Expert(), 100)
    assert all(observation.success for observation in seen[30:])


def test_a_button_comes_up_again_and_the_success_stays():
    task = task_of("push-button")
    run(task, 0, Expert())
    assert (task.succeeded, task.score) == (True, 1.0)
    for _ in range(5):
        observation = task.step(np.array([0, 0, 1, 1], np.float32))
    assert not observation.success
    assert task.succeeded
    assert task.score < 0.05
    assert task.reset(0).success is False
    assert task.succeeded is False


@pytest.mark.parametrize("name", ["put-bread-in", "put-bread-out"])
def test_bread_that_is_not_let_go_of_is_not_delivered(name):
    task = task_of(name)
    observation, expert, scores = task.reset(4), Expert(), []
    expert.begin(task, np.random.default_rng(0))
    carried = False
    for _ in range(task.config.horizon):
        action = expert.act(observation)
        carried = carried or (observation.proprio[3] < 0.7 and action[3] > 0 and action[2] > 0)
        observation = task.step(np.array([*action[:3], 1.0], np.float32) if carried else action)
        scores.append(task.score)
    assert carried
    assert not task.succeeded
    assert max(scores) == 0.9, "it was where it belongs, in the hand"


def test_an_action_beyond_its_bounds_is_the_action_at_the_bound():
    task = task_of("pick-apple")
    ends = [run(task, 0, Always(*action), 3)[-1] for action in ([5, -3, 2, 9], [1, -1, 1, 1])]
    np.testing.assert_array_equal(ends[0].frame, ends[1].frame)
    np.testing.assert_array_equal(ends[0].proprio, ends[1].proprio)


@pytest.mark.parametrize("repeat", [50, 25, 7])
def test_the_command_is_the_sum_of_the_actions_and_the_hand_is_there(repeat):
    task = task_of("push-button", action_repeat=repeat)
    assert task.rate == pytest.approx(500 / repeat)
    command = task.reset(1).proprio[:3].astype(float)
    rng = np.random.default_rng(1)
    for _ in range(12):
        action = rng.uniform(-1.5, 1.5, 4).astype(np.float32)
        proprio = task.step(action).proprio
        command = np.clip(command + np.clip(action[:3], -1, 1) * np.array(task.action_high[:3]), LOW, HIGH)
        np.testing.assert_allclose(proprio[4:], command, atol=1e-6)
        np.testing.assert_allclose(proprio[:3], command, atol=0.025)  # half its torque turns it round late
    for _ in range(500 // repeat):
        proprio = task.step(np.zeros(4, np.float32)).proprio
    np.testing.assert_allclose(proprio[:3], proprio[4:], atol=2e-4)


@pytest.mark.parametrize("dimension", [0, 1, 2])
def test_the_hand_moves_as_fast_at_any_rate_and_along_its_axis_alone(dimension):
    ends = []
    for repeat, steps in ((50, 4), (25, 8), (100, 2)):
        task = task_of("pick-apple", action_repeat=repeat)
        action = np.zeros(4, np.float32)
        action[dimension] = -1
        seen = run(task, 0, Always(*action), steps)
        assert task.data.time == pytest.approx(0.4)
        ends.append(seen[-1].proprio[:3] - seen[0].proprio[:3])
    for end in ends:
        assert end[dimension] == pytest.approx(-0.4 * SPEED, abs=2e-3)
        assert np.abs(np.delete(end, dimension)).max() < 2e-3


def test_the_fourth_action_closes_above_zero_and_opens_below():
    task = task_of("close-drawer")
    observation = task.reset(0)
    assert observation.proprio[3] == pytest.approx(1.0, abs=1e-3)
    shut = run(task, 0, Always(0, 0, 0, 0.1), 8)[-1].proprio[3]
    for _ in range(8):
        opened = task.step(np.array([0, 0, 0, -0.1], np.float32)).proprio[3]
    assert shut < 0.02
    assert opened > 0.98


CORNERS = [(x, y, z, 1) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]


@pytest.mark.parametrize("name", NAMES)
def test_extreme_actions_leave_the_hand_in_its_box_and_the_joints_in_their_limits(name):
    task = task_of(name)
    for corner in CORNERS[:: 2 if name != "pick-apple" else 1]:
        for observation in run(task, 6, Always(*corner), 18):
            hand, command = observation.proprio[:3], observation.proprio[4:]
            assert (command >= LOW - 1e-6).all() and (command <= HIGH + 1e-6).all()
            assert (hand > LOW - 0.03).all() and (hand < HIGH + 0.03).all()
            q = task.data.qpos[:7]
            assert (q > np.array(panda.LOWER)).all() and (q < np.array(panda.UPPER)).all()
        assert np.isfinite(state_of(task.model, task.data)).all()
        assert np.abs(task.data.qvel).max() < 50
        assert task.data.warning.number.sum() == 0


def test_every_corner_of_the_box_is_within_reach():
    model = mujoco.MjModel.from_xml_string(panda.scene(""))
    reach = Reach(model)
    for where in np.stack(np.meshgrid(*np.linspace(LOW, HIGH, 4).T), -1).reshape(-1, 3):
        q = reach.solve(where, np.array(panda.HOME))
        np.testing.assert_allclose(reach.position(q), where, atol=1e-5)


def test_wild_actions_leave_the_physics_finite():
    task = task_of("put-bread-in")
    rng = np.random.default_rng(0)
    task.reset(0)
    for _ in range(80):
        observation = task.step(np.sign(rng.normal(size=4)).astype(np.float32))
        assert np.isfinite(observation.proprio).all()
    assert task.data.warning.number.sum() == 0


@pytest.mark.parametrize("name", NAMES)
def test_hand_fingers_and_things_are_clearly_seen(name):
    """Taken away, each leaves several pixels of another colour at 64 x 64."""
    task = task_of(name)
    run(task, 1, Always(0, 0, -0.5, -1), 3)
    model, camera = task.model, task.config.camera
    frame = RayRenderer(model, camera, 64).render(task.data).astype(int)
    for part in ("hand", "finger_body1", THINGS[name][0]):
        geoms = model.geom_bodyid == model.body(part).id
        groups = model.geom_group.copy()
        model.geom_group[geoms] = 5
        without = RayRenderer(model, camera, 64).render(task.data).astype(int)
        model.geom_group[:] = groups
        assert (np.abs(frame - without).max(axis=-1) > 40).sum() >= 4, part


def test_a_step_before_any_reset_is_refused():
    with pytest.raises(UserError, match="reset"):
        task_of("pick-apple").step(np.zeros(4, np.float32))


def test_nobody_plays():
    task = task_of("pick-apple")
    task.reset(0)
    with pytest.raises(UserError, match="nobody plays"):
        task.player(np.random.default_rng(0))


def test_an_unknown_scene_is_refused_with_its_neighbour():
    with pytest.raises(UserError, match=r"no such scene.*franka/pick-apple"):
        scene_xml("franka/pick-aple")


def test_without_mujoco_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "w4rl_fast.tasks.franka.task", None)
    with pytest.raises(MissingExtra, match=r"w4rl-fast\[sim\]"):
        task_of("pick-apple")
