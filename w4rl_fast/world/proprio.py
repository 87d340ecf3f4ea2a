"""The vector head: where the robot will be, from where it is, its actions, and the first frame of the episode."""

import torch
from torch import Tensor, nn


class ProprioHead(nn.Module):
    """Predicts the change of proprioception, on the scale of the data and within the range that was ever seen.

    The scene matters (an arm stops at a button), so the first frame is encoded once an episode by `look`.
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    std: Tensor
    step_std: Tensor

    def __init__(self, image_size: int, action_dim: int, proprio_dim: int, history: int, hidden: int = 256) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(proprio_dim))
        self.register_buffer("std", torch.ones(proprio_dim))
        self.register_buffer("step_std", torch.ones(proprio_dim))
        self.register_buffer("low", torch.full((proprio_dim,), -torch.inf))
        self.register_buffer("high", torch.full((proprio_dim,), torch.inf))
        side = image_size
        layers: list[nn.Module] = []
        for before, after in ((3, 16), (16, 32), (32, 32)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.SiLU()]
            side = (side + 1) // 2
        self.look = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * side * side, 64), nn.LayerNorm(64))
        self.body = nn.Sequential(
            nn.Linear(64 + history * (action_dim + proprio_dim), hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, proprio_dim),
        )

    def forward(self, scene: Tensor, proprio: Tensor, actions: Tensor) -> Tensor:
        """scene (B, 64) from `look`, proprio (B, T, P) and actions (B, T, A) up to now, to the next proprio (B, P)."""
        where = (proprio - self.mean) / self.std
        change = self.body(torch.cat([scene, where.flatten(1), actions.flatten(1)], dim=1))
        return (proprio[:, -1] + change * self.step_std).clamp(self.low, self.high)
