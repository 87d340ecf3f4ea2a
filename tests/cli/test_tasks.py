import json

from w4rl_fast.tasks import default_config, task_names


def test_all_fifty_tasks_are_listed_with_their_settings(cli):
    listed = json.loads(cli("tasks", "--json").stdout)
    assert [task["name"] for task in listed] == task_names()
    for task in listed:
        config = default_config(task["name"])
        assert (task["horizon"], task["action_repeat"]) == (config.horizon, config.action_repeat)
        assert tuple(task["camera"]["lookat"]) == config.camera.lookat
        assert "gripper" in task["actions"]


def test_the_table_names_every_task(cli):
    shown = cli("tasks")
    assert shown.exit_code == 0
    assert all(name in shown.stdout for name in task_names())
