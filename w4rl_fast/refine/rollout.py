"""What refinement asks of an imagination."""

from typing import Protocol

from torch import Tensor

from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.refine.value import ValueNetwork


class Rollout(Protocol):
    """`steps` actions in each of B worlds, all on one device; row t holds what belongs to the t-th action.

    A world whose episode ends with action t is reset at once: row t + 1 holds the first observation of the next one.
    """

    @property
    def frames(self) -> Tensor:
        """What the policy saw, oldest first: (steps, B, H, S, S, 3) uint8, H its history.

        Stacked rather than indexed back, so that nothing here has to know where an episode began.
        """

    @property
    def proprio(self) -> Tensor:
        """What it felt beside those frames: (steps, B, H, P)."""

    @property
    def actions(self) -> Tensor:
        """As drawn from the policy, before the world clamps them: (steps, B, A)."""

    @property
    def log_probs(self) -> Tensor:
        """Of these actions when they were drawn, summed over A: (steps, B)."""

    @property
    def values(self) -> Tensor:
        """Of the observation that was acted on: (steps, B)."""

    @property
    def rewards(self) -> Tensor:
        """What the action led to: (steps, B)."""

    @property
    def terminated(self) -> Tensor:
        """The action ended the episode with success: (steps, B) bool."""

    @property
    def truncated(self) -> Tensor:
        """Time ran out with this action: (steps, B) bool."""

    @property
    def probabilities(self) -> Tensor:
        """Of success in what the action led to, as the classifier sees it: (steps, B)."""

    @property
    def final_values(self) -> Tensor:
        """Of the observation that the action led to, before the reset; read where truncated only: (steps, B)."""

    @property
    def latents(self) -> Tensor:
        """What frozen eyes saw: (steps, B, D), D being 0 where the policy has eyes of its own."""

    @property
    def last_values(self) -> Tensor:
        """Of the observation after the last row: (B,)."""


class Rollouts(Protocol):
    """A number of worlds that a policy can act in."""

    def rollout(self, policy: GaussianPolicy, value: ValueNetwork, steps: int, seed: int) -> Rollout:
        """Reset every world, then act `steps` times by draws from the policy, without gradients.

        The result depends on the arguments alone: that is what makes a resumed refinement exact. World i may use
        seed + i, which no other iteration of the same refinement uses. Storage may be used again by the next call.
        """
