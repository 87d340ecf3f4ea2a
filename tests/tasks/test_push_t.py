import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("pymunk")

from w4rl_fast.errors import UserError
from w4rl_fast.tasks.catalogue import default_config, make_task
from w4rl_fast.tasks.push_t.config import PushTConfig
from w4rl_fast.tasks.push_t.shape import coverage, distance, landmarks_of, to_frame

GOAL = PushTConfig().goal
FLAT = 250.0, 200.0, 0.0
"""The bar level with its upper edge at y = 200, the stem downwards."""
RIGHT = np.array([1.0, 0.0], dtype=np.float32)


def task_of(image_size=16, **settings):
    return make_task(replace(default_config("push-t", image_size=image_size), push_t=PushTConfig(**settings)))


def play(task, seed, *, steps=12):
    """A digest of everything an episode shows; the disc is thrown through the middle of the table."""
    rng = np.random.default_rng(seed)
    digest = hashlib.sha256()
    observation = task.reset(seed)
    for _ in range(steps):
        for part in (observation.frame, observation.proprio, observation.landmarks, np.array(task.pose)):
            digest.update(part.tobytes())
        observation = task.step(rng.uniform(-0.6, 0.6, 2).astype(np.float32))
    return digest.hexdigest()


def send(task, *targets, repeat=10):
    """Where the block is after the disc has been sent to each target for a second."""
    for target in targets:
        for _ in range(repeat):
            task.step(task.action_for(target))
    return np.array(task.pose)


def test_a_seed_is_an_episode_bit_for_bit():
    task = task_of()
    first = play(task, 3)
    assert play(task, 4) != first
    act = task.expert()
    for _ in range(20):
        task.step(act())
    assert play(task, 3) == first, "after another episode"
    assert play(task_of(), 3) == first, "in a fresh object"


def test_an_episode_begins_where_the_settings_say():
    task = task_of(middle=(200.0, 300.0), spread=20.0, turn=0.3, disc_low=100.0, disc_high=350.0)
    seen = []
    for seed in range(60):
        disc = task.reset(seed).proprio
        seen.append([*task.pose, *disc])
        assert distance(*to_frame(task.pose, *disc)) >= 20.0 - 1e-3, "the disc begins clear of the block"
    x, y, angle, *disc = np.array(seen).T
    for values, low, high in ((x, 180, 220), (y, 280, 320), (angle, GOAL[2] - 0.3, GOAL[2] + 0.3)):
        span = high - low
        assert low <= values.min() < low + 0.15 * span and high - 0.15 * span < values.max() <= high
    assert np.min(disc) >= 100 and np.max(disc) <= 350 and np.ptp(disc) > 200


def test_what_is_not_touched_does_not_move():
    task = task_of()
    task.place((60.0, 450.0), FLAT)
    assert send(task, (450.0, 450.0), (450.0, 60.0)).tolist() == pytest.approx(FLAT, abs=1e-9)


def test_a_push_through_the_centre_moves_and_does_not_turn():
    task = task_of()
    task.place((250.0, 150.0), FLAT)
    assert send(task, (250.0, 235.0)).tolist() == pytest.approx((250.0, 250.0, 0.0), abs=0.5), "35 + 15 = 50 down"
    assert send(task, (250.0, 150.0)).tolist() == pytest.approx((250.0, 250.0, 0.0), abs=0.5), "no momentum, no pull"


def test_a_push_off_the_centre_turns():
    task = task_of()
    task.place((300.0, 150.0), FLAT)
    assert send(task, (300.0, 205.0))[2] > 0.1, "down on the right arm: clockwise in the picture, where y points down"
    task.place((200.0, 150.0), FLAT)
    assert send(task, (200.0, 205.0))[2] < -0.1


def test_a_short_push_obeys_the_law_of_a_block_without_momentum():
    """A contact moved by d moves it by j n and turns it by j c / I: j = d / (1 + c^2 / I), c = r x n, I = 3000."""
    task = task_of()
    task.place((290.0, 180.0), FLAT)
    pose = send(task, (290.0, 188.0))
    share = 3.0 / (1 + 40.0**2 / 3000.0)
    turn = share * 40.0 / 3000.0
    centre = pose[:2] + 45.0 * np.array([-math.sin(pose[2]), math.cos(pose[2])])
    assert pose[2] == pytest.approx(turn, rel=0.1)
    assert centre - (250.0, 245.0) == pytest.approx((0.0, share), abs=0.2)


def test_friction_takes_the_block_along():
    poses = []
    for friction in (0.0, 1.0):
        task = task_of(friction=friction)
        task.place((230.0, 180.0), FLAT)
        poses.append(send(task, (230.0, 190.0), (300.0, 195.0)))
    assert poses[1][0] - poses[0][0] > 2.0, "it slips sideways along the bar, and rubs"


def test_walls_hold_the_block():
    task = task_of()
    task.place((150.0, 245.0), FLAT)
    pose = send(task, (500.0, 245.0), repeat=40)
    assert landmarks_of(pose).reshape(4, 2)[:, 0].max() * 256 + 256 < 506


def test_the_disc_goes_where_it_is_sent():
    task = task_of()
    task.place((60.0, 60.0), FLAT)
    for _ in range(20):
        seen = task.step(np.array([-0.5, 0.5], dtype=np.float32))
    assert seen.proprio == pytest.approx((128.0, 384.0), abs=0.1)
    assert task.action_low == (0.0, 0.0) and task.action_high == (512.0, 512.0)


def test_one_action_of_the_field():
    """Ten steps of v += (100 (target - x) - 20 v) / 100, x += v / 100."""
    task = task_of()
    task.place((100.0, 100.0), FLAT)
    x = v = 0.0
    for _ in range(10):
        v += (100 * (156.0 - x) - 20 * v) * 0.01
        x += v * 0.01
    assert task.step(np.array([0.0, -0.609375], dtype=np.float32)).proprio == pytest.approx((100 + x, 100), abs=1e-3)


def test_a_relative_action_is_a_way_from_where_the_disc_is():
    task = task_of(control="relative", reach=50.0)
    task.place((400.0, 400.0), FLAT)
    other = task_of()
    other.place((400.0, 400.0), FLAT)
    seen = task.step(RIGHT).proprio
    assert seen == pytest.approx(other.step(other.action_for((450.0, 400.0))).proprio, abs=1e-2)
    for _ in range(30):
        seen = task.step(RIGHT).proprio
    assert seen == pytest.approx((512.0, 400.0), abs=0.5), "the target stays in the square"
    assert task.action_low == (-50.0, -50.0) and task.action_high == (50.0, 50.0)


def test_success_is_latched_and_of_a_moment():
    goal = FLAT
    task = task_of(goal=goal)
    near = task.place((250.0, 150.0), (250.0, 196.0, 0.0))
    assert (
        not near.success and not task.succeeded and task.coverage == pytest.approx(coverage((250.0, 196.0, 0.0), goal))
    )
    for _ in range(10):
        seen = task.step(task.action_for((250.0, 184.5)))
    assert seen.success and task.score == 1.0
    send(task, (250.0, 250.0))
    assert task.succeeded and task.coverage < 0.7
    assert not task.step(task.action_for((250.0, 250.0))).success
    task.place((250.0, 150.0), (250.0, 196.0, 0.0))
    assert not task.succeeded, "another episode"


def test_what_needs_an_episode_says_so():
    task = task_of()
    for call in (lambda: task.step(RIGHT), lambda: task.render(16), task.expert, lambda: task.player(None)):
        with pytest.raises(UserError, match=r"reset\(seed\)"):
            call()
    task.reset(0)
    task.close()
    with pytest.raises(UserError, match="before reset"):
        task.step(RIGHT)


def test_settings_left_out_are_the_fields():
    bare = make_task(replace(default_config("push-t", image_size=16), push_t=None))
    assert play(bare, 5) == play(task_of(), 5)


@pytest.mark.parametrize("control", ["absolute", "relative"])
def test_a_player_moves_the_block_and_keeps_it_on_the_table(control):
    task = task_of(image_size=8, control=control)
    moved, turned = [], []
    for seed in range(24):
        before = task.reset(seed).landmarks
        start = task.pose[2]
        act = task.player(np.random.default_rng(seed))
        for _ in range(24):
            action = act()
            assert action.shape == (2,) and action.dtype == np.float32 and np.abs(action).max() <= 1.0
            seen = task.step(action)
        moved.append(np.linalg.norm((seen.landmarks - before).reshape(4, 2).mean(0)) * 256)
        turned.append(abs(task.pose[2] - start))
        assert np.abs(seen.landmarks.reshape(4, 2).mean(0)).max() < 0.9
    assert np.mean(np.array(moved) > 15.0) > 0.7 and np.mean(np.array(turned) > 0.15) > 0.6


def test_a_player_repeats_itself_and_no_other():
    def actions(seed):
        task.reset(1)
        act = task.player(np.random.default_rng(seed))
        taken = []
        for _ in range(20):
            taken.append(act())
            task.step(taken[-1])
        return np.stack(taken)

    task = task_of(image_size=8)
    assert np.array_equal(actions(2), actions(2))
    assert not np.array_equal(actions(2), actions(3))


@pytest.mark.parametrize("settings", [{}, {"control": "relative", "reach": 60.0}, {"friction": 0.5}])
def test_the_expert_succeeds(settings):
    task = task_of(image_size=8, **settings)
    for seed in range(4):
        task.reset(seed)
        act = task.expert()
        for _ in range(task.config.horizon):
            task.step(act())
            if task.succeeded:
                break
        assert task.succeeded, seed
