"""The ray renderer on the scenes it is for; that another process draws the same pixels, test_metaworld says."""

import numpy as np
import pytest

pytest.importorskip("metaworld")

from w4rl_fast.tasks import default_config, make_task, task_names
from w4rl_fast.tasks.ray import RayRenderer

# Meshes in all; hinged doors, boxes with lids, a hammer of capsules, panes of glass, and the camera far away.
VARIED = ["coffee-pull-v3", "door-open-v3", "hammer-v3", "stick-pull-v3", "window-open-v3"]


def moments(name, *, seed=3, at=(0, 5, 14)):
    """A task at some moments of an expert episode."""
    task = make_task(default_config(f"metaworld/{name}", image_size=8))
    task.reset(seed)
    act = task.expert()
    for step in range(max(at) + 1):
        if step in at:
            yield task
        task.step(act())
    task.close()


def frame_by_a_new_renderer(task, size=48):
    renderer = RayRenderer(task._env.model, task.config.camera, size)
    return renderer.render(task._env.data, task._markers())


def check_hits(name):
    for task in moments(name):
        model, data = task._env.model, task._env.data
        renderer = RayRenderer(model, task.config.camera, 64)
        ours, _ = renderer.hits(data)
        reference = renderer.reference_hits(data)
        same = ours.geom == reference.geom
        assert same.mean() >= 0.995
        np.testing.assert_allclose(ours.depth[same], reference.depth[same], rtol=0, atol=1e-6)
        # The edge of a mesh may be seen by one and not by the other; everything else is MuJoCo's own answer.
        meshes = [np.isin(hits.geom[~same], renderer.meshes) for hits in (ours, reference)]
        assert (meshes[0] | meshes[1]).all()
        assert len(np.unique(ours.geom)) > 8


@pytest.mark.parametrize("name", VARIED)
def test_every_ray_meets_what_it_meets_in_mujoco(name):
    check_hits(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in task_names() if name.startswith("metaworld/")])
def test_every_ray_of_every_task_meets_what_it_meets_in_mujoco(name):
    check_hits(name.removeprefix("metaworld/"))


@pytest.mark.parametrize("name", VARIED[1:4])
def test_a_frame_tells_nothing_of_the_frames_before(name):
    """What is kept between frames shows in none of them, over two episodes in which the objects lie elsewhere."""
    task = make_task(default_config(f"metaworld/{name}", image_size=8))
    kept = RayRenderer(task._env.model, task.config.camera, 48)
    seen = set()
    for seed in (3, 4):
        task.reset(seed)
        act = task.expert()
        for step in range(12):
            frame = kept.render(task._env.data, task._markers())
            if step % 4 == 0:
                np.testing.assert_array_equal(frame, frame_by_a_new_renderer(task))
                seen.add(frame.tobytes())
            task.step(act())
    assert len(seen) == 6


def test_rendering_changes_nothing_in_the_simulation():
    task = next(moments("coffee-pull-v3", at=(4,)))
    renderer = RayRenderer(task._env.model, task.config.camera, 32)
    before = {name: getattr(task._env.data, name).copy() for name in ("qpos", "qvel", "geom_xpos", "mocap_pos", "ctrl")}
    groups = task._env.model.geom_group.copy()
    renderer.render(task._env.data, task._markers())
    for name, values in before.items():
        np.testing.assert_array_equal(getattr(task._env.data, name), values)
    np.testing.assert_array_equal(task._env.model.geom_group, groups)


def test_a_task_renders_at_any_size_without_a_trace_in_the_others():
    task = next(moments("door-open-v3", at=(6,)))
    small = task.render(24)
    large = task.render(96)
    assert (small.shape, large.shape) == ((24, 24, 3), (96, 96, 3))
    np.testing.assert_array_equal(task.render(24), small)
    shrunk = large.reshape(24, 4, 24, 4, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small).mean() < 3, "the same picture at another size"


THINGS = [("push-v3", "obj"), ("button-press-v3", "button"), ("coffee-pull-v3", "mug"), ("pick-place-v3", "obj")]


@pytest.mark.parametrize(("name", "thing"), THINGS)
def test_both_fingers_the_object_and_the_goal_are_clearly_seen(name, thing):
    """Taken away, each leaves several pixels of another colour at 64 x 64."""
    task = next(moments(name, at=(2,)))
    model = task._env.model
    frame = frame_by_a_new_renderer(task, 64).astype(int)
    for part in ("leftpad", "rightpad", thing):
        geoms = model.geom_bodyid == model.body(part).id
        groups, model.geom_group[geoms] = model.geom_group[geoms], 5
        without = frame_by_a_new_renderer(task, 64).astype(int)
        model.geom_group[geoms] = groups
        assert (np.abs(frame - without).sum(-1) > 60).sum() >= 6, part
    if task._markers():
        unmarked = RayRenderer(model, task.config.camera, 64).render(task._env.data).astype(int)
        assert (np.abs(frame - unmarked).sum(-1) > 60).sum() >= 6, "goal"
