"""Behaviour cloning: the policy learns to give the actions of the demonstrations."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from w4rl_fast.config import save_config
from w4rl_fast.data.windows import Batch, Windows
from w4rl_fast.fit import Fit, FitConfig, generator_at
from w4rl_fast.policy.checkpoint import save_policy
from w4rl_fast.policy.gaussian import GaussianPolicy, log_probability

CLONE = "clone.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class CloneConfig:
    """Noise on what the policy is shown keeps it from reading its action off details that never come back.

    `frame_noise` in units of the picture (2 from black to white), `proprio_noise` in deviations of the data.
    """

    fit: FitConfig = FitConfig(steps=600, batch=64, weight_decay=1e-4, ema=0.99)  # noqa: RUF009
    frame_noise: float = 0.05
    proprio_noise: float = 0.05


def clone(policy: GaussianPolicy, windows: Windows, config: CloneConfig, folder: Path) -> Fit:
    """Train the policy by negative log-likelihood and save it; windows have its history and one future observation."""
    folder.mkdir(parents=True, exist_ok=True)
    save_config(folder / CLONE, config)
    if policy.config.latent is None:  # eyes that are not its own know what they saw
        set_statistics(policy, windows)
    policy.train()
    fit = Fit(policy, config.fit, folder, stage="clone")

    def loss_at(step: int) -> Tensor:
        generator = generator_at(config.fit.seed, step)
        return negative_log_likelihood(policy, windows.batch(step, config.fit.batch), config, generator)

    fit.run(loss_at)
    save_policy(folder, policy.eval())
    return fit


def negative_log_likelihood(
    policy: GaussianPolicy, batch: Batch, config: CloneConfig, generator: torch.Generator
) -> Tensor:
    """Of the action taken at the present of each window."""
    history = policy.config.history
    frames, proprio = batch.frames[:, :history], batch.proprio[:, :history]
    frames = frames + config.frame_noise * torch.randn(frames.shape, generator=generator)
    proprio = proprio + config.proprio_noise * policy.proprio_std * torch.randn(proprio.shape, generator=generator)
    mean, std = policy(frames, proprio)
    return -log_probability(mean, std, batch.actions[:, history - 1]).mean()


def set_statistics(policy: GaussianPolicy, windows: Windows) -> None:
    """Mean and deviation of proprioception over some windows."""
    proprio = windows.batch(0, 1024).proprio.flatten(0, 1)
    policy.proprio_mean.copy_(proprio.mean(0))
    policy.proprio_std.copy_(proprio.std(0).clamp_min(1e-3))
