"""The ray renderer on small scenes of our own, where the answer is known."""

import numpy as np
import pytest

pytest.importorskip("mujoco")

import mujoco

from w4rl_fast.tasks import shading
from w4rl_fast.tasks.camera import Camera
from w4rl_fast.tasks.ray import RayRenderer
from w4rl_fast.tasks.renderers import Marker

FRONT = Camera(lookat=(0.0, 0.0, 0.0), distance=2.0, azimuth=90.0, elevation=0.0, fovy=30.0)  # from -y, x to the right
ABOVE = Camera(lookat=(0.0, 0.0, 0.0), distance=2.0, azimuth=70.0, elevation=-35.0, fovy=45.0)


def scene(body, assets=""):
    model = mujoco.MjModel.from_xml_string(
        f"<mujoco><compiler angle='degree'/><asset>{assets}</asset><worldbody>{body}</worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def moved(body, x, y=0.0, z=0.0, turn="0 0 0"):
    return f"<body pos='{x} {y} {z}' euler='{turn}'><freejoint/>{body}</body>"


PRIMITIVES = {
    "sphere": ("0.3", lambda p, s: np.linalg.norm(p) - s[0]),
    "capsule": ("0.15 0.3", lambda p, s: np.linalg.norm(p - [0, 0, np.clip(p[2], -s[1], s[1])]) - s[0]),
    "cylinder": ("0.25 0.3", lambda p, s: max(np.linalg.norm(p[:2]) - s[0], abs(p[2]) - s[1])),
    "ellipsoid": ("0.4 0.2 0.3", lambda p, s: (p**2 / s**2).sum() - 1),
    "box": ("0.3 0.2 0.25", lambda p, s: (np.abs(p) - s).max()),
}


def surface_gradient(inside, point, step=1e-6):
    """Central differences of an implicit surface, as a unit vector; None beside an edge, where there is no normal."""
    shifts = np.eye(3) * step
    gradient = np.array([inside(point + shift) - inside(point - shift) for shift in shifts]) / (2 * step)
    near = [inside(point + 1e-3 * d) - inside(point) - 1e-3 * gradient @ d for d in (*np.eye(3), *-np.eye(3))]
    return gradient / np.linalg.norm(gradient) if np.abs(near).max() < 1e-4 else None


@pytest.mark.parametrize("kind", PRIMITIVES)
@pytest.mark.parametrize("turn", ["0 0 0", "25 -40 60", "90 0 0", "170 20 -10"])
@pytest.mark.parametrize("moves", [False, True])
def test_the_normal_of_a_primitive_is_the_gradient_of_its_surface(kind, turn, moves):
    text, surface = PRIMITIVES[kind]
    geom = f"<geom type='{kind}' size='{text}'/>"
    model, data = scene(moved(geom, 0.1, z=0.05, turn=turn) if moves else f"<body euler='{turn}'>{geom}</body>")
    renderer = RayRenderer(model, ABOVE, 12)
    hits, touched = renderer.hits(data)
    size, place, turned = model.geom_size[0], data.geom_xpos[0], data.geom_xmat[0].reshape(3, 3)
    out, checked = np.zeros(3), 0
    assert touched[hits.geom == 0].all() == moves
    for at in np.flatnonzero(hits.geom == 0):
        point = renderer.eye + hits.depth[at] * renderer.rays[at]
        local = turned.T @ (point - place)
        assert abs(surface(local, size)) < 1e-8
        expected = surface_gradient(lambda p: surface(p, size), local)
        if expected is None:
            continue
        shading.primitive_normal(model.geom_type[0], size, place, data.geom_xmat[0], point, out)
        np.testing.assert_allclose(out, turned @ expected, atol=1e-5)
        assert out @ renderer.rays[at] < 1e-6, "what is seen faces the camera"
        checked += 1
    assert checked > 60


def test_the_normal_of_the_floor_points_up():
    model, data = scene("<geom type='plane' size='3 3 0.1'/>")
    renderer = RayRenderer(model, ABOVE, 8)
    hits, _ = renderer.hits(data)
    assert (hits.geom == 0).sum() > 100
    out = np.zeros(3)
    shading.primitive_normal(0, model.geom_size[0], data.geom_xpos[0], data.geom_xmat[0], np.zeros(3), out)
    np.testing.assert_allclose(out, [0, 0, 1])


CUBE = " ".join(f"{0.2 * x} {0.3 * y} {0.25 * z}" for x in (-1, 1) for y in (-1, 1) for z in (-1, 1))


@pytest.mark.parametrize("turn", ["0 0 0", "25 -40 60", "100 10 -20"])
@pytest.mark.parametrize("moves", [False, True])
def test_a_mesh_in_the_shape_of_a_box_is_drawn_as_that_box(turn, moves):
    mesh, box = "<geom type='mesh' mesh='cube'/>", "<geom type='box' size='0.2 0.3 0.25'/>"
    pictures, found = [], []
    for geom in (mesh, box):
        body = moved(geom, 0.0, turn=turn) if moves else f"<body euler='{turn}'>{geom}</body>"
        model, data = scene(body, f"<mesh name='cube' vertex='{CUBE}'/>" if geom is mesh else "")
        renderer = RayRenderer(model, ABOVE, 32)
        found.append(renderer.hits(data)[0])
        pictures.append(renderer.render(data).astype(int))
    both = (found[0].geom == 0) & (found[1].geom == 0)
    assert both.sum() > 500
    assert (found[0].geom != found[1].geom).mean() < 2e-3
    np.testing.assert_allclose(found[0].depth[both], found[1].depth[both], atol=1e-5)
    # Equal but for the few samples on an edge, which may belong to either side.
    assert (np.abs(pictures[0] - pictures[1]).max(-1) > 1).mean() < 0.01


def test_light_falls_as_lambert_says():
    """A white ball: ambient light, plus the key light and the camera's, each times the cosine to the normal."""
    model, data = scene("<geom type='sphere' size='0.4' rgba='1 1 1 1'/>")
    renderer = RayRenderer(model, ABOVE, 16, supersample=1)
    frame = renderer.render(data).reshape(-1, 3)
    hits, _ = renderer.hits(data)
    seen = np.flatnonzero(hits.geom == 0)
    normals = (renderer.eye + hits.depth[seen, None] * renderer.rays[seen]) / 0.4
    key = np.array(shading.KEY_LIGHT) / np.linalg.norm(shading.KEY_LIGHT)
    facing = np.maximum(normals @ key, 0), np.maximum(-(normals * renderer.rays[seen]).sum(-1), 0)
    light = np.minimum(shading.AMBIENT + shading.KEY * facing[0] + shading.HEAD * facing[1], 1.0)
    np.testing.assert_allclose(frame[seen], np.repeat(255 * light[:, None], 3, axis=1), atol=0.51)


def test_up_in_the_world_is_up_in_the_picture_and_right_is_right():
    ball = "<geom type='sphere' size='0.12' pos='{}' rgba='{} 1'/>"
    model, data = scene(ball.format("0 0 0.3", "1 0 0") + ball.format("0.3 0 0", "0 1 0"))
    frame = RayRenderer(model, FRONT, 48).render(data).astype(int)
    red = np.argwhere(frame[..., 0] > frame[..., 1] + 60).mean(axis=0)
    green = np.argwhere(frame[..., 1] > frame[..., 0] + 60).mean(axis=0)
    assert red[0] < 20, "the red ball is above the middle row"
    assert abs(red[1] - 23.5) < 1
    assert green[1] > 28, "the green ball is right of the middle column"
    assert abs(green[0] - 23.5) < 1


def test_colours_come_from_the_geom_or_its_material_and_texture():
    texture = "<texture name='t' type='2d' builtin='flat' width='4' height='4' rgb1='0.5 1 1'/>"
    material = "<material name='m' texture='t' rgba='1 0.5 0 1'/>"
    body = "<geom size='0.1' rgba='0.1 0.2 0.3 1'/><geom size='0.1' pos='1 0 0' material='m' rgba='1 1 1 1'/>"
    model, _ = scene(body, texture + material)
    np.testing.assert_allclose(shading.geom_tones(model), [[0.1, 0.2, 0.3], [0.5, 0.5, 0.0]], atol=0.01)


@pytest.mark.parametrize("how", ["rgba='1 0 0 0.2'", "material='glass' rgba='1 0 0 1'"])
def test_a_ray_passes_a_transparent_pane(how):
    glass = "<material name='glass' rgba='1 1 1 0.1'/>"
    behind = "<geom type='sphere' size='0.2' rgba='0 0 1 1'/>"
    pane = f"<geom type='box' size='0.5 0.01 0.5' pos='0 -0.6 0' {how}/>"
    pictures = []
    for front in (pane, "", pane.replace(how, "rgba='1 0 0 1'")):
        model, data = scene(behind + front, glass)
        renderer = RayRenderer(model, FRONT, 24)
        assert (1 in renderer.hits(data)[0].geom) == (len(pictures) == 2)
        pictures.append(renderer.render(data))
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[0] != pictures[2]).any(axis=-1).sum() > 200


@pytest.mark.parametrize("group", [3, 4, 5])
def test_a_group_that_mujoco_hides_is_hidden(group):
    model, data = scene(f"<geom type='sphere' size='0.2' group='{group}'/>")
    assert (RayRenderer(model, FRONT, 16).hits(data)[0].geom == -1).all()


BALL = "<geom size='0.1'/>"
STILL = {
    "box": "<geom type='box' size='0.2 0.2 0.2' rgba='0.8 0.5 0.2 1'/>",
    "mesh": "<geom type='mesh' mesh='cube' rgba='0.8 0.5 0.2 1'/>",
}


@pytest.mark.parametrize("kind", STILL)
def test_a_fixed_part_that_is_put_elsewhere_is_drawn_there(kind):
    """Meta-World moves its walls and doors in the model itself when an episode begins."""
    body = f"<body name='wall'>{STILL[kind]}</body>{moved(BALL, 0.4)}"
    model, data = scene(body, f"<mesh name='cube' vertex='{CUBE}'/>" if kind == "mesh" else "")
    kept = RayRenderer(model, ABOVE, 32)
    frames = []
    for place, turn in (((0, 0, 0), (1, 0, 0, 0)), ((0.2, 0.1, 0), (1, 0, 0, 0)), ((0, 0, 0), (0.9, 0.1, 0.4, 0.1))):
        model.body("wall").pos[:] = place
        model.body("wall").quat[:] = np.array(turn) / np.linalg.norm(turn)
        mujoco.mj_forward(model, data)
        frames.append(kept.render(data))
        np.testing.assert_array_equal(frames[-1], RayRenderer(model, ABOVE, 32).render(data))
    assert len({frame.tobytes() for frame in frames}) == 3


GOAL = Marker(np.array([0.0, 0.0, 0.0]), 0.1, (1.0, 0.0, 1.0))


def is_goal(frame):
    frame = frame.astype(int)
    return (frame[..., 0] > frame[..., 1] + 80) & (frame[..., 2] > frame[..., 1] + 80)


@pytest.mark.parametrize("moves", [False, True])
def test_a_marker_is_hidden_by_what_is_nearer_and_hides_what_is_behind(moves):
    wall = "<geom type='box' size='0.3 0.02 0.3' rgba='0.5 0.5 0.5 1'/>"
    shown = []
    for y in (-0.5, 0.5):
        model, data = scene(moved(wall, 0.3, y=y) if moves else f"<body pos='0.3 {y} 0'>{wall}</body>")
        shown.append(is_goal(RayRenderer(model, FRONT, 64).render(data, [GOAL])))
    model, data = scene("<geom size='0.01' pos='0 5 0'/>")
    alone = is_goal(RayRenderer(model, FRONT, 64).render(data, [GOAL]))
    radius = 64 * 0.1 / (2 * 2.0 * np.tan(np.deg2rad(15)))
    assert alone.sum() == pytest.approx(np.pi * radius**2, rel=0.1)
    np.testing.assert_array_equal(shown[1], alone)
    hidden = alone & ~shown[0]
    assert hidden.any()
    assert not (shown[0] & ~alone).any()
    assert np.argwhere(hidden)[:, 1].min() > np.argwhere(shown[0])[:, 1].mean(), "the wall covers its right side"


def test_the_nearer_of_two_markers_is_seen_whatever_their_order():
    model, data = scene("<geom size='0.01' pos='0 5 0'/>")
    near = Marker(np.array([0.02, -0.4, 0.0]), 0.05, (0.0, 1.0, 0.0))
    renderer = RayRenderer(model, FRONT, 32)
    frames = [renderer.render(data, order) for order in ([GOAL, near], [near, GOAL])]
    np.testing.assert_array_equal(frames[0], frames[1])
    assert (frames[0][..., 1] > 200).any()


def test_a_marker_behind_the_camera_is_not_drawn():
    model, data = scene("<geom size='0.1'/>")
    renderer = RayRenderer(model, FRONT, 16)
    behind = Marker(np.array([0.0, -3.0, 0.0]), 0.2, (1.0, 0.0, 1.0))
    np.testing.assert_array_equal(renderer.render(data, [behind]), renderer.render(data))


def bar_contributions(*, width, tilt, supersample, size=64):
    """How much light a thin bar adds to the picture while it moves by a twentieth of a pixel at a time."""
    pixel = 2 * 1.98 * np.tan(np.deg2rad(FRONT.fovy) / 2) / size
    bar = f"<geom type='box' size='{width * pixel / 2} 0.02 0.2' rgba='0 0 0 1' euler='0 {tilt} 0'/>"
    model, data = scene(f"<body><joint type='slide' axis='1 0 0'/>{bar}</body>")
    renderer = RayRenderer(model, FRONT, size, supersample=supersample)
    data.qpos[0] = 0.8
    mujoco.mj_forward(model, data)
    empty = renderer.render(data).astype(float)
    sums, columns = [], []
    for step in range(41):
        data.qpos[0] = (step / 20 - 1.02) * pixel
        mujoco.mj_forward(model, data)
        shade = (empty - renderer.render(data)).sum(-1)
        sums.append(shade.sum())
        columns.append((shade > 20).any(axis=1).sum())
    return np.array(sums), np.array(columns)


@pytest.mark.parametrize(
    ("width", "tilt", "tolerance"), [(1.0, 5, 0.02), (0.5, 20, 0.06), (0.4, 7, 0.05), (0.3, 10, 0.08)]
)
def test_a_thin_part_does_not_flicker_as_it_moves(width, tilt, tolerance):
    """Its sum of light stays within the tolerance of its mean, it never breaks apart; with one sample it is worse."""
    sums, rows = bar_contributions(width=width, tilt=tilt, supersample=3)
    assert np.abs(sums / sums.mean() - 1).max() < tolerance
    assert np.ptp(rows) == 0
    single, _ = bar_contributions(width=width, tilt=tilt, supersample=1)
    assert np.abs(single / single.mean() - 1).max() > tolerance


def test_an_upright_thin_part_would_come_and_go_without_supersampling():
    """The hardest case: edges parallel to the columns of samples."""
    sums, _ = bar_contributions(width=0.4, tilt=0, supersample=1)
    assert sums.min() == 0 < sums.max()
    steady, _ = bar_contributions(width=0.4, tilt=0, supersample=3)
    assert 0 < steady.max() <= 2.1 * steady.min(), "one or two of three columns of samples, never none"


def test_a_thin_part_darkens_the_picture_by_its_area():
    sums, _ = bar_contributions(width=0.4, tilt=7, supersample=3)
    truth, _ = bar_contributions(width=0.4, tilt=7, supersample=15)
    assert sums.mean() == pytest.approx(truth.mean(), rel=0.03)
