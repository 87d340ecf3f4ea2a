"""Refinement: a cloned policy gets better in worlds that are only imagined."""

from w4rl_fast.refine.config import PPOConfig
from w4rl_fast.refine.loop import Result, refine
from w4rl_fast.refine.ppo import PPO
from w4rl_fast.refine.rollout import Rollout, Rollouts
from w4rl_fast.refine.value import ValueConfig, ValueNetwork

__all__ = ["PPO", "PPOConfig", "Result", "Rollout", "Rollouts", "ValueConfig", "ValueNetwork", "refine"]
