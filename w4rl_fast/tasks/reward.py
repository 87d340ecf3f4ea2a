"""How near a moment is to the goal, for tasks that can say so of landmarks: a dense reward to learn from."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from w4rl_fast.tasks.protocol import TaskConfig

if TYPE_CHECKING:
    from torch import Tensor

Closeness = Callable[["Tensor", "Tensor"], "Tensor"]
"""Landmarks (..., K) and proprioception (..., P) to the dense reward (...) of being there."""


def closeness_of(task: TaskConfig) -> Closeness | None:
    """The dense reward of a task, or None where the task has no landmarks."""
    if task.push_t is None:
        return None
    import torch

    from w4rl_fast.tasks.push_t.shape import closeness, landmarks_of

    goal = torch.from_numpy(landmarks_of(task.push_t.goal))

    def near(landmarks: "Tensor", proprio: "Tensor") -> "Tensor":
        return closeness(landmarks, proprio, goal.to(landmarks.device))

    return near


Error = Callable[["Tensor", "Tensor"], "Tensor"]
"""Landmarks (..., K) that were said and true ones to how far the first are off (...)."""


def errors_of(task: TaskConfig) -> dict[str, Error]:
    """What a user of the task would measure of landmarks, with its unit in its name."""
    if task.push_t is None:
        return {"landmarks": lambda said, true: (said - true).square().mean(-1).sqrt()}
    import torch

    from w4rl_fast.tasks.push_t.config import SQUARE
    from w4rl_fast.tasks.push_t.shape import pose_of

    def poses(said: "Tensor", true: "Tensor") -> "tuple[Tensor, Tensor]":
        one, other = (torch.from_numpy(pose_of(each.numpy())) for each in (said, true))
        return one, other

    def position(said: "Tensor", true: "Tensor") -> "Tensor":
        one, other = poses(said, true)
        away: Tensor = (one - other)[..., :2].norm(dim=-1)
        return 100 * away / SQUARE

    def angle(said: "Tensor", true: "Tensor") -> "Tensor":
        one, other = poses(said, true)
        turn: Tensor = (one - other)[..., 2] + torch.pi
        return turn.remainder(2 * torch.pi).sub(torch.pi).abs().rad2deg()

    return {"position of the block, % of the square": position, "angle of the block, degrees": angle}
