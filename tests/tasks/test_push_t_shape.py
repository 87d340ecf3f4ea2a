"""Geometry and pictures of Push-T, where the answer is known."""

import itertools
import math

import numpy as np
import pytest
import torch

from w4rl_fast.tasks.push_t.drawing import BLOCK, DISC, GOAL, TABLE, Painter
from w4rl_fast.tasks.push_t.route import route
from w4rl_fast.tasks.push_t.shape import AREA, BAR, STEM, closeness, coverage, distance, landmarks_of, pose_of, to_frame

HOME = (256.0, 256.0, math.pi / 4)
FAR = (-1000.0, -1000.0)
AWAY = (-1000.0, -1000.0, 0.0)


def is_inside(points, pose):
    """Which points (N, 2) of the square lie in the T, by its two rectangles."""
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    x, y = ((points - pose[:2]) @ np.array([[cos, -sin], [sin, cos]])).T
    return ((abs(x) <= 60) & (y >= 0) & (y <= 30)) | ((abs(x) <= 15) & (y >= 30) & (y <= 120))


def random_poses(count, spread=60.0):
    rng = np.random.default_rng(count)
    return np.concatenate([256 + rng.uniform(-spread, spread, (count, 2)), rng.uniform(-3, 3, (count, 1))], axis=1)


def test_area():
    def shoelace(corners):
        x, y = np.array(corners).T
        return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2

    assert shoelace(BAR) + shoelace(STEM) == AREA


@pytest.mark.parametrize(
    ("pose", "share"),
    [
        ((0, 0, 0), 6300), ((0, 0, 2 * math.pi), 6300), ((30, 0, 0), 90 * 30), ((10, 0, 0), 110 * 30 + 20 * 90),
        ((0, 30, 0), 30 * 60 + 30 * 30), ((0, 20, 0), 120 * 10 + 30 * 90), ((200, 0, 0), 0), ((0, -1, math.pi), 0),
        ((0, 30, math.pi), 120 * 30), ((0, 15, math.pi / 2), 30 * 60 + 15 * 45),
    ],
)  # fmt: skip
def test_coverage_by_hand(pose, share):
    cos, sin = math.cos(HOME[2]), math.sin(HOME[2])
    moved = (HOME[0] + cos * pose[0] - sin * pose[1], HOME[1] + sin * pose[0] + cos * pose[1], HOME[2] + pose[2])
    assert coverage(moved, HOME) == pytest.approx(share / AREA, abs=1e-9)


def test_coverage_agrees_with_counting():
    points = np.random.default_rng(0).uniform(120, 392, (300_000, 2))
    points = points[is_inside(points, HOME)]
    for pose in random_poses(12):
        counted = is_inside(points, pose).mean()
        assert coverage(tuple(pose), HOME) == pytest.approx(counted, abs=0.012)
        assert coverage(tuple(pose), HOME) == pytest.approx(coverage(HOME, tuple(pose)), abs=1e-9)


def test_distance_is_to_the_outline():
    cases = {(0, 0): 0, (0, -7): 7, (63, -4): 5, (0, 15): -15, (0, 60): -15, (40, 35): 5, (0, 30): -15, (-18, 124): 5}
    for point, expected in cases.items():
        assert distance(*map(float, point)) == pytest.approx(expected), point


def test_landmarks_say_the_pose():
    poses = random_poses(20, spread=200.0)
    marks = landmarks_of(poses)
    assert marks.shape == (20, 8) and marks.dtype == np.float32
    assert pose_of(marks) == pytest.approx(poses, abs=1e-3)
    assert landmarks_of((256.0, 256.0, math.pi / 2)) * 256 == pytest.approx(
        [-15, -60, -15, 60, -120, 0, -30, 0], abs=1e-4
    )


def test_a_pose_is_the_least_squares_of_noisy_landmarks():
    marks = landmarks_of(HOME) + np.random.default_rng(0).normal(0, 0.02, 8)
    best = pose_of(marks)
    error = ((landmarks_of(best) - marks) ** 2).sum()
    for axis, by in ((0, 0.3), (1, 0.3), (2, 0.005)):
        for sign in (-1, 1):
            other = best.copy()
            other[axis] += sign * by
            assert ((landmarks_of(other) - marks) ** 2).sum() > error


def test_closeness_by_hand():
    goal = torch.from_numpy(landmarks_of(HOME))
    centre = 256 + 45 * torch.tensor([-math.sin(HOME[2]), math.cos(HOME[2])])
    shifted = torch.from_numpy(landmarks_of((256.0 + 25.6, 256.0, HOME[2])))
    marks, disc = torch.stack([goal, goal, shifted]), torch.stack([centre, centre + torch.tensor([0.0, 128.0]), centre])
    assert closeness(marks, disc, goal).tolist() == pytest.approx([1.0, 0.9, 1 - 0.25 - 0.02], abs=1e-5)


def test_a_way_keeps_clear_of_the_block():
    rng = np.random.default_rng(0)
    for _ in range(30):
        pose = (256.0, 256.0, rng.uniform(-3, 3))
        start, aim = (tuple(p) for p in rng.uniform(40, 470, (2, 2)))
        if min(distance(*to_frame(pose, *p)) for p in (start, aim)) < 21:
            continue
        way = [start, *route(start, aim, pose)]
        assert way[-1] == pytest.approx(aim)
        points = np.concatenate([np.linspace(a, b, 50) for a, b in itertools.pairwise(way)])
        assert min(distance(*to_frame(pose, *p)) for p in points) > 19


def share_of(frame, tone):
    """How much of a picture (n, n, 3) has this colour on white, each pixel by its part."""
    white = np.array(TABLE, dtype=float)
    return ((white - frame) @ (white - tone) / ((white - tone) @ (white - tone))).mean()


@pytest.mark.parametrize("size", [16, 32, 64, 256])
def test_a_block_covers_its_share_of_the_picture(size):
    painter = Painter(size, AWAY)
    empty = painter.paint(FAR, AWAY)
    for pose in random_poses(3):
        frame = painter.paint(FAR, tuple(pose)).astype(float) + 255 - empty
        assert share_of(frame, BLOCK) == pytest.approx(AREA / 512**2, rel=0.03)
    frame = painter.paint((300.0, 211.0), AWAY).astype(float) + 255 - empty
    assert share_of(frame, DISC) == pytest.approx(math.pi * 225 / 512**2, rel=0.05)


def test_colours_and_their_order():
    painter = Painter(256, (256.0, 128.0, 0.0))
    frame = painter.paint((400.0, 400.0), (256.0, 158.0, 0.0))
    assert tuple(frame[200, 200]) == DISC and tuple(frame[69, 110]) == GOAL and tuple(frame[130, 128]) == BLOCK
    assert tuple(frame[180, 60]) == TABLE and tuple(frame[100, 2]) == (211, 211, 211)
    assert tuple(frame[85, 128]) == BLOCK, "the block lies on the goal"


def test_a_small_picture_is_the_mean_of_a_large_one():
    for pose in random_poses(4):
        small, large = (Painter(size, AWAY).paint((150.0, 380.0), tuple(pose)) for size in (32, 256))
        pooled = large.astype(float).reshape(32, 8, 32, 8, 3).mean((1, 3))
        assert np.abs(small - pooled).max() < 5 and np.abs(small - pooled).mean() < 0.2


def test_a_whole_pixel_further_is_the_picture_shifted():
    painter = Painter(64, AWAY)
    at = painter.paint((200.0, 200.0), (256.0, 256.0, 0.7))[8:56, 8:56]
    on = painter.paint((216.0, 192.0), (272.0, 248.0, 0.7))[7:55, 10:58]
    assert np.abs(at.astype(int) - on).max() <= 1


def test_pictures_do_not_depend_on_those_before():
    painter = Painter(32, HOME)
    first = painter.paint((100.0, 100.0), HOME)
    painter.paint((0.0, 511.0), (500.0, 0.0, 1.0))
    assert np.array_equal(painter.paint((100.0, 100.0), HOME), first)
