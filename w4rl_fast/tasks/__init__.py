"""Real tasks behind one contract."""

from w4rl_fast.tasks.camera import Camera
from w4rl_fast.tasks.catalogue import default_config, make_task, task_names
from w4rl_fast.tasks.protocol import Observation, Task, TaskConfig

__all__ = ["Camera", "Observation", "Task", "TaskConfig", "default_config", "make_task", "task_names"]
