import numpy as np
import pytest

from w4rl_fast.tasks.camera import Camera

CAMERAS = [
    Camera(),
    Camera(lookat=(0.1, -0.2, 0.3), distance=1.3, azimuth=37.0, elevation=-20.0, fovy=50.0),
    Camera(lookat=(0.0, 0.0, 0.0), distance=0.4, azimuth=-130.0, elevation=65.0, fovy=100.0),
    Camera(lookat=(2.0, 1.0, 0.0), distance=3.0, azimuth=0.0, elevation=0.0, fovy=10.0),
]


def pixel_centres(size):
    """Image coordinates (size, size, 2), 0 to 1, of the middle of every pixel."""
    centres = (np.arange(size) + 0.5) / size
    return np.stack(np.meshgrid(centres, centres), axis=-1)


@pytest.mark.parametrize("camera", CAMERAS)
def test_axes_are_orthonormal_and_right_handed(camera):
    right, up, forward = camera.axes
    np.testing.assert_allclose(camera.axes @ camera.axes.T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(np.cross(right, up), -forward, atol=1e-14)
    assert right[2] == 0
    assert up[2] > 0


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("size", [8, 63])
def test_a_point_anywhere_on_a_ray_projects_back_to_its_pixel(camera, size):
    rays = camera.rays(size)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1.0, atol=1e-12)
    for away in (0.1, 5.0):
        np.testing.assert_allclose(camera.project(camera.position + away * rays), pixel_centres(size), atol=1e-10)


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_ray_of_a_pixel_meets_the_point_that_projects_there(camera):
    rng = np.random.default_rng(0)
    points = camera.position + camera.axes[2] + 0.05 * rng.normal(size=(200, 3))
    image = camera.project(points)
    size = 256
    seen = ((image >= 0) & (image < 1)).all(axis=-1)
    assert seen.sum() > 100 or camera.fovy < 20
    column, row = np.floor(image[seen].T * size).astype(int)
    towards = points[seen] - camera.position
    towards /= np.linalg.norm(towards, axis=-1, keepdims=True)
    assert (1 - (camera.rays(size)[row, column] * towards).sum(-1)).max() < (2 / size) ** 2


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_point_looked_at_is_in_the_middle(camera):
    np.testing.assert_allclose(camera.project(np.array(camera.lookat)), 0.5, atol=1e-12)
    assert np.linalg.norm(camera.position - camera.lookat) == pytest.approx(camera.distance)


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_picture_is_the_right_way_up(camera):
    higher = camera.project(np.add(camera.lookat, (0, 0, 0.01)))
    assert higher[1] < 0.5
    assert higher[0] == pytest.approx(0.5)
    assert (camera.rays(8)[0, :, 2] > camera.rays(8)[-1, :, 2]).all()


def test_the_picture_is_not_mirrored():
    """Seen from -y, looking along +y, the world's x axis points to the right."""
    camera = Camera(lookat=(0.0, 0.0, 0.0), azimuth=90.0, elevation=0.0)
    np.testing.assert_allclose(camera.position, [0, -camera.distance, 0], atol=1e-12)
    assert camera.project(np.array([0.01, 0.0, 0.0]))[0] > 0.5


@pytest.mark.parametrize("camera", CAMERAS)
def test_it_is_the_free_camera_of_mujoco(camera):
    mujoco = pytest.importorskip("mujoco")
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='.1'/></worldbody></mujoco>")
    model.vis.global_.fovy = camera.fovy
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    free = mujoco.MjvCamera()
    free.lookat[:] = camera.lookat
    free.distance, free.azimuth, free.elevation = camera.distance, camera.azimuth, camera.elevation
    scene = mujoco.MjvScene(model, 10)
    mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, free, mujoco.mjtCatBit.mjCAT_ALL, scene)
    left, right = scene.camera  # two eyes, one on either side
    np.testing.assert_allclose((left.pos + right.pos) / 2, camera.position, atol=1e-6)
    np.testing.assert_allclose([left.up, left.forward], camera.axes[1:], atol=1e-6)
    assert left.frustum_top / left.frustum_near == pytest.approx(np.tan(np.deg2rad(camera.fovy) / 2))


@pytest.mark.parametrize(
    "values", [{"distance": 0.0}, {"fovy": 0.0}, {"fovy": 180.0}, {"elevation": 90.0}, {"elevation": -90.0}]
)
def test_a_camera_that_sees_nothing_is_refused(values):
    with pytest.raises(ValueError, match="camera"):
        Camera(**values)
