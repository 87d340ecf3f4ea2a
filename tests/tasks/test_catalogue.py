import pytest

from w4rl_fast.errors import MissingExtra, UserError
from w4rl_fast.tasks import TaskConfig, default_config, make_task, task_names
from w4rl_fast.tasks.catalogue import CAMERAS, FAMILY, FRANKA, FRANKA_CAMERAS, FRANKA_TIMING, PUSH_T, TIMING
from w4rl_fast.tasks.metaworld import SIMULATOR_STEPS


def test_there_are_fifty_tasks_of_metaworld_six_of_a_franka_and_one_more_and_each_default_fits_its_simulator():
    names = task_names()
    assert len(names) == len(set(names)) == 57 and PUSH_T in names
    assert sum(name.startswith(FRANKA) for name in names) == 6
    assert set(CAMERAS) <= set(TIMING) and set(FRANKA_CAMERAS) <= set(FRANKA_TIMING)
    for name in names:
        config = default_config(name, image_size=32)
        assert (config.name, config.image_size, config.renderer) == (name, 32, "ray")
        assert config.horizon * config.action_repeat <= SIMULATOR_STEPS or not name.startswith(FAMILY)


def test_the_names_are_those_of_metaworld():
    environments = pytest.importorskip("metaworld.env_dict").ALL_V3_ENVIRONMENTS
    assert {name.removeprefix(FAMILY) for name in task_names() if name.startswith(FAMILY)} == {*environments}


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("metaworld/buton-press-v3", "metaworld/button-press-v3"),
        ("button-press-v3", "metaworld/button-press-v3"),
        ("metaworld/button-press-v2", "metaworld/button-press-v3"),
        ("metaworld/Coffee-Pull-V3", "metaworld/coffee-pull-v3"),
        ("", "franka/close-drawer"),
        ("franka/pick-aple", "franka/pick-apple"),
    ],
)
@pytest.mark.parametrize("call", [default_config, lambda name: make_task(TaskConfig(name=name))])
def test_an_unknown_task_is_refused_with_its_neighbours(wrong, meant, call):
    with pytest.raises(UserError, match="there is no such task") as caught:
        call(wrong)
    assert repr(wrong) in caught.value.value
    assert meant in caught.value.remedy


@pytest.mark.parametrize(
    "values",
    [
        *({"image_size": size} for size in (0, 7, 1025, -64)),
        *({"action_repeat": repeat} for repeat in (0, -1, 101)),
        *({"horizon": horizon} for horizon in (0, -5, 10_001)),
    ],
)
def test_settings_outside_their_range_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        TaskConfig(name="metaworld/reach-v3", **values)


def test_a_task_without_its_simulator_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "metaworld.env_dict", None)
    with pytest.raises(MissingExtra, match=r"w4rl-fast\[sim\]"):
        make_task(default_config("metaworld/reach-v3"))
