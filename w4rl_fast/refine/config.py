"""Settings of a refinement."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class PPOConfig:
    """`iterations` of a rollout of `steps` in `worlds`, each learnt from in `epochs` of `minibatches`.

    Exploration is conservative: the deviation of the actions is `std`, or, if `learn_std`, begins there and stays
    within the bounds of the policy. `anchor` weighs the divergence from the cloned policy, which is given the same
    `std`, so that it measures the means. The policy waits `value_warm_up` iterations for the value network. Once it is
    further than `target_kl` from the policy that acted in a rollout it is drawn back to there, and learns no more from
    it. Advantages are divided by their deviation, but by no less than `advantage_floor`. Both learning rates fall
    linearly, to `final_rate` of themselves. `precision` is that of the networks while they learn; what they say and
    all that follows is float32. A score is asked for every `score_every` iterations, and one of `enough` ends the
    refinement. The policy that is kept has the best score less `caution` for every nat that it is away from the clone:
    the further it is, the less a dream is worth. A checkpoint is written every `save_seconds`.
    """

    worlds: int = 96
    steps: int = 18
    iterations: int = 40
    gamma: float = 0.97
    lam: float = 0.95
    clip: float = 0.2
    epochs: int = 3
    minibatches: int = 4
    learning_rate: float = 3e-4
    value_learning_rate: float = 1e-3
    final_rate: float = 0.1
    max_grad_norm: float = 0.5
    entropy_coefficient: float = 0.0
    std: float = 0.3
    learn_std: bool = False
    anchor: float = 0.02
    target_kl: float = 0.06
    advantage_floor: float = 0.1
    value_warm_up: int = 2
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = 0
    score_every: int = 5
    enough: float = 1.0
    caution: float = 0.1
    save_seconds: float = 60.0

    def __post_init__(self) -> None:
        require(self, "at least 1", "worlds", "steps", "iterations", "epochs", "minibatches", "score_every")
        require(self, "from 0 to 1", "gamma", "lam", "final_rate")
        require(self, "above 0", "clip", "max_grad_norm", "std", "target_kl", "advantage_floor")
        require(self, "not below 0", "learning_rate", "value_learning_rate", "entropy_coefficient", "anchor")
        require(self, "not below 0", "value_warm_up", "seed", "caution")
        if self.minibatches > self.worlds * self.steps:
            raise ValueError(f"minibatches={self.minibatches}: at most worlds x steps, {self.worlds * self.steps}")


Roll = Literal["decoupled", "coupled", "surrogate", "straight-through"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FoGConfig:
    """First-order gradients: `iterations` of an imagined episode of `steps` in `worlds`, in segments of `horizon`.

    After each segment the policy follows the gradient of its return, of the rewards and of gamma^horizon times what the
    critic says of its end, `passes` times; then, `rehearsals` times, that of what the surrogate alone foresees of
    `ahead` steps from `rehearsed` moments of the newest segments, if it foresaw the changes of this one with a mean
    cosine of `trust`; but no further in all than `target_kl` from the policy that acted. `roll` says where the passes
    go: at the values of the world, "decoupled"; at those of the surrogate's own rollout from the same start, "coupled",
    while the world is imagined beside it; in the surrogate alone and no world, "surrogate"; or through the diffusion
    world itself, "straight-through". An action beyond [-1, 1] is one at the bound, without a slope; `excess` weighs
    means beyond it.

    The critic learns TD(lambda) targets in `critic_passes` of `minibatches` over the newest `critic_windows` segments,
    from a target network that follows it by `target_step`. The dynamics of the surrogate learn, `refreshes` times a
    segment, from `refresh_imagined` of the newest `ring` sequences and `refresh_real` of the data; 0 is no refresh. In
    a long ring there is little of what the policy does by now. A gradient whose norm exceeds `exploding`, or is not
    finite, ends the refinement. The rest is as in PPOConfig.
    """

    worlds: int = 32
    steps: int = 16
    horizon: int = 16
    iterations: int = 40
    roll: Roll = "decoupled"
    gamma: float = 0.97
    lam: float = 0.95
    learning_rate: float = 1e-3
    critic_learning_rate: float = 2e-3
    surrogate_learning_rate: float = 5e-4
    final_rate: float = 0.1
    max_grad_norm: float = 1.0
    exploding: float = 1e4
    entropy_coefficient: float = 0.0
    std: float = 0.15
    learn_std: bool = False
    excess: float = 1.0
    passes: int = 2
    rehearsals: int = 10
    rehearsed: int = 128
    ahead: int = 12
    trust: float = 0.95
    target_kl: float = 0.2
    value_warm_up: int = 0
    critic_windows: int = 8
    critic_passes: int = 4
    minibatches: int = 4
    target_step: float = 0.1
    refreshes: int = 4
    refresh_imagined: int = 128
    refresh_real: int = 64
    ring: int = 256
    seed: int = 0
    score_every: int = 5
    enough: float = 1e9
    caution: float = 0.0
    save_seconds: float = 60.0

    def __post_init__(self) -> None:
        require(self, "at least 1", "worlds", "steps", "horizon", "iterations", "critic_windows", "minibatches")
        require(self, "at least 1", "score_every", "ring", "rehearsed", "ahead")
        require(self, "from 0 to 1", "gamma", "lam", "final_rate", "target_step")
        require(self, "a cosine, from -1 to 1", "trust")
        require(self, "above 0", "max_grad_norm", "exploding", "std", "target_kl")
        require(self, "not below 0", "learning_rate", "critic_learning_rate", "surrogate_learning_rate")
        require(self, "not below 0", "entropy_coefficient", "excess", "value_warm_up", "seed", "caution")
        require(self, "not below 0", "passes", "rehearsals", "critic_passes")
        require(self, "not below 0", "refreshes", "refresh_imagined", "refresh_real")
        if self.steps % self.horizon:
            raise ValueError(f"steps={self.steps}, horizon={self.horizon}: whole segments make an episode")
        if not self.passes + self.rehearsals:
            raise ValueError("passes=0, rehearsals=0: a policy learns from one of them at least")
        if self.refreshes and not self.refresh_imagined + self.refresh_real:
            raise ValueError(f"refreshes={self.refreshes}: a refresh learns from imagined or from real sequences")


RULES: dict[str, Callable[[float], bool]] = {
    "at least 1": lambda x: x >= 1,
    "from 0 to 1": lambda x: 0 <= x <= 1,
    "a cosine, from -1 to 1": lambda x: -1 <= x <= 1,
    "above 0": lambda x: x > 0,
    "not below 0": lambda x: x >= 0,
}


def require(config: Any, rule: str, *names: str) -> None:
    """Raise a ValueError for the first of some settings that breaks a rule."""
    for name in names:
        if not RULES[rule](getattr(config, name)):
            raise ValueError(f"{name}={getattr(config, name)}: {rule}")
