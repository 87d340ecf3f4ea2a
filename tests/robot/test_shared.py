"""Memory that two processes share."""

import os

import numpy as np
import pytest

from w4rl_fast.errors import UserError
from w4rl_fast.robot import shared


@pytest.fixture
def name():
    name = f"w4rl-test-{os.getpid()}"
    yield name
    shared.remove(name)


def test_a_vector_is_read_whole_or_not_at_all(name):
    writer = shared.SceneWriter(name, 4)
    reader = shared.SceneReader(name)
    writer.write(7, np.arange(4.0))
    tick, values = reader.read()
    assert (tick, values.tolist()) == (7, [0, 1, 2, 3])
    writer._head[0] += 1  # as if it were being written
    with pytest.raises(UserError, match="its writer died half way"):
        reader.read()


def test_new_memory_replaces_what_was_left_and_does_not_disturb_who_has_that(name):
    old = shared.create(name, 64)
    old[:] = 1
    new = shared.create(name, 128)
    assert len(shared.attach(name)) == 128 and not new.any() and old.all()


@pytest.mark.parametrize("bad", ["", "a/b", "../x"])
def test_a_name_is_a_plain_file_name(bad):
    with pytest.raises(UserError, match="plain file name"):
        shared.create(bad, 8)


def test_memory_that_nobody_made_is_named():
    with pytest.raises(UserError, match="there is none of that name"):
        shared.SceneReader("w4rl-no-such-memory")


def test_a_scene_goes_through_a_vector_and_back():
    mujoco = pytest.importorskip("mujoco")
    from w4rl_fast.tasks.franka.place import place, scene_xml

    task = "franka/push-button"
    model = mujoco.MjModel.from_xml_string(scene_xml(task))
    one, other = mujoco.MjData(model), mujoco.MjData(model)
    place(task, model, one, 3)
    place(task, model, other, 4)
    assert not np.array_equal(shared.vector(one), shared.vector(other))
    shared.draw(other, shared.vector(one))
    np.testing.assert_array_equal(shared.vector(one), shared.vector(other))
