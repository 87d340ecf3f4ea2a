"""The OpenGL renderer: one context per process, so everything that draws does it in a process of its own."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("metaworld")

from w4rl_fast.errors import UserError
from w4rl_fast.tasks import default_config, make_task
from w4rl_fast.tasks.gl import GLRenderer

TASK = replace(default_config("metaworld/button-press-v3", image_size=32), renderer="gl")


def test_a_second_renderer_in_a_process_is_refused(monkeypatch):
    monkeypatch.setattr(GLRenderer, "taken", os.getpid())
    with pytest.raises(UserError, match=r"second OpenGL renderer in one process.*one rendering context.*ray renderer"):
        make_task(TASK).reset(0)


def test_a_parent_that_has_one_does_not_stand_in_the_way_of_its_children(monkeypatch):
    """A forked child inherits the mark, but not the process it names."""
    monkeypatch.setattr(GLRenderer, "taken", os.getpid() + 1)
    monkeypatch.setenv("MUJOCO_GL", "glfw")  # what this process has loaded anyway
    monkeypatch.setattr("mujoco.Renderer", lambda *_: (_ for _ in ()).throw(RuntimeError("got as far as OpenGL")))
    with pytest.raises(UserError, match="got as far as OpenGL"):
        make_task(TASK).reset(0)


WITHOUT_LIBRARIES = """
import importlib.abc, sys

class NoLibrary(importlib.abc.MetaPathFinder):
    "PyOpenGL where the system has no EGL and no OSMesa."

    def find_spec(self, name, path=None, target=None):
        if name == "OpenGL" or name.startswith("OpenGL."):
            raise AttributeError("'NoneType' object has no attribute 'eglQueryString'")

sys.meta_path.insert(0, NoLibrary())
"""
# Collecting processes start afresh and would find the libraries, so this one plays the worker itself.
IN_THIS_PROCESS = """
import w4rl_fast.data.collect as collect

def here(jobs, tasks, config, actor, out):
    worker = collect.Worker(tasks, config, actor, out / "pending")
    yield from map(worker.run, jobs)

collect.run = here
"""
CALL = """
from w4rl_fast.cli import main
main(prog_name="w4rl")
"""


@pytest.mark.parametrize("chosen", [None, "egl", "osmesa"])
def test_a_machine_without_opengl_is_told_so_in_one_line(chosen, tmp_path, python_environment):
    environment = {
        name: value for name, value in python_environment.items() if "_GL" not in name and "OPENGL" not in name
    }
    if chosen:
        environment["MUJOCO_GL"] = chosen
    arguments = ["collect", TASK.name, "--expert", "1", "--size", "16", "--renderer", "gl", "--out", tmp_path / "store"]
    code = WITHOUT_LIBRARIES + IN_THIS_PROCESS + CALL
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    for word in ("MUJOCO_GL", chosen or "EGL", "eglQueryString", "ray renderer"):
        assert word in errors[0]
    assert "Traceback" not in done.stderr


DRAW = """
import hashlib, sys
from dataclasses import replace
import numpy as np
import mujoco  # before anyone asked for OpenGL: it settles for GLFW, which needs a screen
from w4rl_fast.errors import UserError
from w4rl_fast.tasks import default_config, make_task

config = replace(default_config("metaworld/button-press-v3", image_size=64), renderer="gl")
task = make_task(config)
try:
    frames = [task.reset(5).frame] + [task.step(np.full(4, 0.3, np.float32)).frame for _ in range(4)]
except UserError as error:
    print("none", error)
    sys.exit()
np.save(sys.argv[1], np.stack(frames))
print("drawn")
try:
    task.render(32)
except UserError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def drawn(run_python, tmp_path_factory):
    """Frames drawn by two processes, one after the other."""
    files = [tmp_path_factory.mktemp("gl") / "frames.npy" for _ in range(2)]
    for file in files:
        if not (said := run_python(DRAW, file)).startswith("drawn"):
            pytest.skip(f"no OpenGL here: {said}")
        assert "second OpenGL renderer" in said
    return [np.load(file) for file in files]


def test_two_processes_draw_the_same_pixels(drawn):
    np.testing.assert_array_equal(drawn[0], drawn[1])


def test_it_shows_the_scene_of_the_ray_renderer_the_same_way_up(drawn):
    task = make_task(replace(TASK, image_size=64, renderer="ray"))
    rays = [task.reset(5).frame] + [task.step(np.full(4, 0.3, np.float32)).frame for _ in range(4)]
    for gl, ray in zip(drawn[0].astype(float), np.stack(rays).astype(float), strict=True):
        flipped = [likeness(gl, other) for other in (ray, ray[::-1], ray[:, ::-1], ray[::-1, ::-1])]
        assert flipped[0] > 0.75
        assert max(flipped[1:]) < flipped[0] - 0.2


def likeness(first, second):
    return np.corrcoef(first.ravel(), second.ravel())[0, 1]
