"""Proximal policy optimisation in imagined worlds, held near the policy that was cloned."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from w4rl_fast.errors import UserError
from w4rl_fast.fit import generator_at
from w4rl_fast.hub import write_model
from w4rl_fast.imagine.engine import dtype_of
from w4rl_fast.policy.gaussian import GaussianPolicy, log_probability
from w4rl_fast.refine.checkpoint import Kept
from w4rl_fast.refine.config import PPOConfig
from w4rl_fast.refine.learner import Learner
from w4rl_fast.refine.objective import (
    clipped_objective,
    divergence,
    entropy,
    sampled_divergence,
    scaled,
)
from w4rl_fast.refine.refinement import Refinement, explorer
from w4rl_fast.refine.returns import explained_variance, gae
from w4rl_fast.refine.rollout import Rollout, Rollouts
from w4rl_fast.refine.samples import Samples, act, gather, see
from w4rl_fast.refine.value import ValueNetwork


class PPO(Refinement):
    """PPO whose every iteration is one rollout of all worlds, and what is learnt from it."""

    config: PPOConfig

    def __init__(
        self, clone: GaussianPolicy, rollouts: Rollouts, config: PPOConfig, folder: Path, *, origin: str = ""
    ) -> None:
        super().__init__(clone, config, folder, origin=origin)
        self.rollouts = rollouts
        self.clone = explorer(clone, config.std).requires_grad_(False)
        self.policy.log_std.requires_grad_(config.learn_std)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.value = ValueNetwork.beside(clone).eval()
        self.actor = Learner(self.policy, config.learning_rate, config.max_grad_norm)
        self.critic = Learner(self.value, config.value_learning_rate, config.max_grad_norm)
        self.dtype = dtype_of(config.precision, self.policy.log_std.device)
        self.take_up()

    @property
    def kept(self) -> Mapping[str, Kept]:
        return {"policy": self.actor, "value": self.critic}

    def save_networks(self) -> None:
        write_model(self.folder / "value", self.value)

    def is_due(self) -> bool:
        """Not while only the value network learns: until then it is still the clone."""
        return self.iteration > self.config.value_warm_up and super().is_due()

    def iterate(self) -> dict[str, float]:
        rollout = self._imagine()
        advantages = gae(
            rollout.rewards,
            rollout.values,
            rollout.final_values,
            rollout.last_values,
            rollout.terminated,
            rollout.truncated,
            gamma=self.config.gamma,
            lam=self.config.lam,
        )
        self._require_finite(advantages=advantages)
        returns = advantages + rollout.values
        lesson = scaled(advantages, self.config.advantage_floor)
        learnt = self._learn(self._samples(rollout, lesson, returns))
        self.iteration += 1
        return {
            **outcome(rollout),
            "explained_variance": float(explained_variance(rollout.values, returns)),
            "advantage_std": float(advantages.std(correction=0)),
            **learnt,
        }

    def _imagine(self) -> Rollout:
        config = self.config
        # Spaced by the number of worlds: no two iterations share a seed + i.
        seed = (config.seed * 1_000_003 + self.iteration) * config.worlds
        self.rollout = rollout = self.rollouts.rollout(self.policy, self.value, config.steps, seed)
        if rollout.rewards.shape != (config.steps, config.worlds):
            raise UserError(
                f"a rollout of {tuple(rollout.rewards.shape)} steps and worlds",
                rule=f"the config says steps={config.steps}, worlds={config.worlds}",
                remedy="Imagine as many worlds as the config says",
            )
        names = ("proprio", "actions", "log_probs", "values", "rewards", "last_values")
        self._require_finite(**{name: getattr(rollout, name) for name in names})
        return rollout

    def _samples(self, rollout: Rollout, advantages: Tensor, returns: Tensor) -> Samples:
        with self._narrow():
            return gather(rollout, advantages, returns, self.clone, self.config.minibatches)

    def _learn(self, samples: Samples) -> dict[str, float]:
        """Epochs of minibatches; the policy moves while it is near the one that acted, the value network always."""
        found: dict[str, list[float]] = defaultdict(list)
        acted, moves = self.actor.weights(), self.iteration >= self.config.value_warm_up
        for rows in self._minibatches(len(samples.returns)):
            part = samples.at(rows)
            seen = see(part.frames, part.proprio, part.latents)
            if moves:
                loss, figures = self._policy_loss(part, seen)
                moves = figures["kl"] <= self.config.target_kl
                append(found, figures)
            if moves:
                append(found, self._descend("policy", self.actor, loss))
                self._bound_std()
            append(found, self._descend("value", self.critic, self._value_loss(part, seen)))
        kl = self._keep_near(acted, part, seen) if "kl" in found else 0.0
        std = self.policy.log_std.detach().exp()
        self.away = fmean(found["anchor_kl"]) if "anchor_kl" in found else 0.0
        return {
            **dict.fromkeys(("anchor_kl", "clip_fraction", "policy_loss", "policy_gradient"), 0.0),
            **{name: fmean(values) for name, values in found.items()},
            "kl": kl,
            "updates": float(len(found["policy_loss"])),
            "entropy": float(entropy(std)),
            "std": float(std.mean()),
            "rate": self._rate(),
        }

    def _policy_loss(self, part: Samples, seen: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, float]]:
        config = self.config
        with self._narrow():
            mean, std = act(self.policy, seen)
        mean = mean.float()
        log_ratio = log_probability(mean, std, part.actions) - part.log_probs
        ratio = log_ratio.exp()
        objective = clipped_objective(ratio, part.advantages, config.clip).mean()
        from_clone = divergence(mean, std, part.clone_mean, part.clone_std).mean()
        loss = -objective + config.anchor * from_clone - config.entropy_coefficient * entropy(std).mean()
        with torch.no_grad():
            figures = {
                "kl": float(sampled_divergence(log_ratio)),
                "anchor_kl": float(from_clone.detach()),
                "clip_fraction": float(((ratio - 1).abs() > config.clip).float().mean()),
            }
        self._require_finite(**figures)
        return loss, figures

    def _value_loss(self, part: Samples, seen: tuple[Tensor, ...]) -> Tensor:
        with self._narrow():
            values: Tensor = self.value(*seen)
        return 0.5 * (values.float() - part.returns).square().mean()

    @torch.no_grad()
    def _keep_near(self, acted: list[Tensor], part: Samples, seen: tuple[Tensor, ...]) -> float:
        """Draw the policy back to about `target_kl` from the one that acted; returns how far it is.

        A step is taken before anyone knows how far it leads. The divergence grows with the square of the way, but only
        near its beginning: from afar it takes more than one try.
        """
        for _ in range(TRIES):
            kl = self._policy_loss(part, seen)[1]["kl"]
            if kl <= BEYOND * self.config.target_kl:
                break
            self.actor.draw_back(acted, math.sqrt(self.config.target_kl / kl))
        return kl

    def _narrow(self) -> torch.autocast:
        """In here networks compute in the precision of the config."""
        device = self.policy.log_std.device.type
        return torch.autocast(device, self.dtype, enabled=self.dtype is torch.bfloat16)

    def _descend(self, name: str, learner: Learner, loss: Tensor) -> dict[str, float]:
        figures = {f"{name}_loss": float(loss.detach()), f"{name}_gradient": learner.differentiate(loss)}
        self._require_finite(**figures)
        learner.step(self._rate())
        return figures

    def _minibatches(self, count: int) -> Iterator[Tensor]:
        generator = generator_at(self.config.seed, self.iteration)
        for _ in range(self.config.epochs):
            order = torch.randperm(count, generator=generator).to(self.policy.log_std.device)
            yield from order.tensor_split(self.config.minibatches)


BEYOND, TRIES = 1.2, 4
"""So many times the target may be exceeded, since that is measured on some moments only; and how often to draw back."""


def outcome(rollout: Rollout) -> dict[str, float]:
    """Share of the worlds whose first episode succeeded, and the mean reward that a world collected.

    Of all episodes that ended, successes would be too large a share: they end sooner, and make room for others.
    """
    ended = rollout.terminated | rollout.truncated
    is_first = (ended.cumsum(0) - ended.long()) == 0
    return {
        "success": float((rollout.terminated & is_first).any(0).float().mean()),
        "return": float(rollout.rewards.sum(0).mean()),
    }


def append(seen: dict[str, list[float]], figures: dict[str, float]) -> None:
    for name, figure in figures.items():
        seen[name].append(figure)
