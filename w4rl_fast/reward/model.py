"""The network that says how likely a frame shows success."""

import torch
from torch import Tensor, nn

from w4rl_fast.convolutions import strided
from w4rl_fast.hub import HubModel
from w4rl_fast.reward.config import RewardConfig
from w4rl_fast.reward.resnet import ResNet18


class SmallNetwork(nn.Module):
    """Strided convolutions over (B, inputs, S, S), then two layers, to one logit (B, 1)."""

    def __init__(self, config: RewardConfig, inputs: int) -> None:
        super().__init__()
        self.convolutions, seen = strided(inputs, config.widths, config.image_size)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(seen, config.hidden),
            nn.LayerNorm(config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        logit: Tensor = self.head(self.convolutions(x))
        return logit


class RewardModel(HubModel, tags=["robotics", "reward-model"]):
    """Frames (B, n, 3, S, S) in [-1, 1] and the first frame of the episode (B, 3, S, S) to success logits (B,).

    Training shows more successes and near misses than there are; `scale` and `shift` turn what it learnt there into
    the log-odds of frames as they come.
    """

    config: RewardConfig
    config_class = RewardConfig
    weights_file = "reward.safetensors"
    scale: Tensor
    shift: Tensor

    def __init__(self, config: RewardConfig) -> None:
        super().__init__()
        self.config = config
        inputs = 3 * (config.frames + config.anchor)
        self.network = SmallNetwork(config, inputs) if config.network == "small" else ResNet18(inputs)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))

    def raw(self, frames: Tensor, anchor: Tensor) -> Tensor:
        """Logits (B,) before calibration: what training improves."""
        pictures = [frames.flatten(1, 2)]
        if self.config.anchor:
            pictures.append(frames[:, -1] - anchor)
        logits: Tensor = self.network(torch.cat(pictures, dim=1))[:, 0]
        return logits

    def forward(self, frames: Tensor, anchor: Tensor) -> Tensor:
        return self.raw(frames, anchor) * self.scale + self.shift
