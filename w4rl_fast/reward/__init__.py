"""The success classifier: what it is, how it learns from real and imagined frames, and when it may say success."""

from w4rl_fast.reward.checkpoint import has_reward, load_reward, never, save_reward
from w4rl_fast.reward.config import RewardConfig, Rule
from w4rl_fast.reward.model import RewardModel

__all__ = ["RewardConfig", "RewardModel", "Rule", "has_reward", "load_reward", "never", "save_reward"]
