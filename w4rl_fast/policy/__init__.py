"""The policy: frames and proprioception in, a Gaussian over normalised actions out."""

from w4rl_fast.policy.actor import policy_actor
from w4rl_fast.policy.checkpoint import load_policy, policy_digest, save_policy
from w4rl_fast.policy.gaussian import GaussianPolicy, PolicyConfig

__all__ = ["GaussianPolicy", "PolicyConfig", "load_policy", "policy_actor", "policy_digest", "save_policy"]
