"""What an action was worth: generalised advantage estimation."""

import torch
from torch import Tensor


def gae(
    rewards: Tensor,
    values: Tensor,
    final_values: Tensor,
    last_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    lam: float,
) -> Tensor:
    """Advantages (steps, B) of a rollout; plus `values` they are the returns that the value network learns.

    All (steps, B) but `last_values` (B,), as in `Rollout`. After termination nothing follows; after truncation the
    value of the final observation does; advantages of one episode never reach into another.
    """
    next_values = torch.cat([values[1:], last_values[None]])
    next_values = torch.where(truncated, final_values, next_values).masked_fill(terminated, 0.0)
    errors = rewards + gamma * next_values - values
    decay = (gamma * lam) * (~(terminated | truncated)).to(values.dtype)
    advantages = torch.empty_like(values)
    following = torch.zeros_like(last_values)
    for t in reversed(range(len(values))):
        following = errors[t] + decay[t] * following
        advantages[t] = following
    return advantages


def explained_variance(values: Tensor, returns: Tensor) -> Tensor:
    """Share of the returns' variance that the values foresaw: 1 at best, 0 where the returns do not vary."""
    spread = returns.var(correction=0)
    share = 1 - (returns - values).var(correction=0) / spread
    return torch.where(spread > 1e-8, share, torch.zeros_like(share))


def lambda_returns(
    rewards: Tensor, next_values: Tensor, terminated: Tensor, truncated: Tensor, *, gamma: float, lam: float
) -> Tensor:
    """What each moment of a segment turned out to be worth, all (steps, B): TD(lambda).

    next_values are those of what each action led to, before any reset. After termination nothing follows; after
    truncation, and after the last row, the value of what was led to does.
    """
    returns = torch.empty_like(rewards)
    following = next_values[-1]
    for t in reversed(range(len(rewards))):
        blended = (1 - lam) * next_values[t] + lam * following
        blended = torch.where(truncated[t], next_values[t], blended).masked_fill(terminated[t], 0.0)
        following = returns[t] = rewards[t] + gamma * blended
    return returns
