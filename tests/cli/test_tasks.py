import json

from w4rl_fast.tasks import default_config, task_names


def test_all_tasks_are_listed_with_their_settings(cli):
    listed = json.loads(cli("tasks", "--json").stdout)
    assert [task["name"] for task in listed] == task_names()
    for task in listed:
        config = default_config(task["name"])
        assert (task["horizon"], task["action_repeat"]) == (config.horizon, config.action_repeat)
        if task["name"] == "push-t":
            assert task["actions"] == "where the disc goes: x, y"
            assert "camera" not in task and task["push_t"]["control"] == "absolute"
        else:
            assert tuple(task["camera"]["lookat"]) == config.camera.lookat
            assert "gripper" in task["actions"] and "push_t" not in task


def test_the_table_names_every_task_and_what_its_actions_mean(cli):
    shown = cli("tasks")
    meanings = " ".join(shown.stdout.split())
    assert "gripper closes" in meanings and "push-t: where the disc goes: x, y" in meanings
    assert shown.exit_code == 0
    assert all(name in shown.stdout for name in task_names())
