"""First-order refinement: the world says what happens, a small surrogate how it would have been otherwise."""

import copy
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from w4rl_fast.errors import UserError
from w4rl_fast.fit import generator_at
from w4rl_fast.hub import write_model
from w4rl_fast.imagine.worlds import Worlds
from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.refine.checkpoint import Kept, digest
from w4rl_fast.refine.config import FoGConfig
from w4rl_fast.refine.learner import Learner
from w4rl_fast.refine.objective import divergence
from w4rl_fast.refine.refinement import Refinement, explorer
from w4rl_fast.refine.returns import explained_variance, lambda_returns
from w4rl_fast.refine.segment import Eyes, Lived, Place, Segment, live, rehearsed, worth
from w4rl_fast.refine.through import Through
from w4rl_fast.refine.value import ValueNetwork
from w4rl_fast.surrogate.losses import dynamics_loss
from w4rl_fast.surrogate.model import Surrogate
from w4rl_fast.surrogate.tracks import RealTracks, Ring, Track


class FirstOrder(Refinement):
    """FoG whose every iteration is one imagined episode of all worlds, segment by segment.

    The policy sees with the eyes of the surrogate, which stay as they are; a copy of its dynamics goes on learning,
    from what is imagined and, where `tracks` are given, from real data.
    """

    config: FoGConfig

    def __init__(
        self, clone: GaussianPolicy, surrogate: Surrogate, worlds: Worlds, config: FoGConfig, folder: Path, *,
        tracks: RealTracks | None = None, origin: str = "",
    ) -> None:  # fmt: skip
        require_fit(clone, surrogate, worlds, config, tracks)
        real = 0 if tracks is None else len(tracks.latents)
        super().__init__(clone, config, folder, origin=f"{origin} {digest(surrogate)} {real} real")
        self.clone = explorer(clone, config.std).requires_grad_(False)
        self.worlds, self.tracks = worlds, tracks
        self.policy.log_std.requires_grad_(config.learn_std)
        self.surrogate = copy.deepcopy(surrogate).eval().requires_grad_(False)
        self.eyes = Eyes(self.surrogate, worlds)
        self.through = Through(self.surrogate, worlds) if config.roll == "straight-through" else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.critic = ValueNetwork.beside(clone).eval()
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        self.actor = Learner(self.policy, config.learning_rate, config.max_grad_norm)
        self.judge = Learner(self.critic, config.critic_learning_rate, config.max_grad_norm)
        self.surrogate.dynamics.requires_grad_(True)
        self.model = Learner(self.surrogate.dynamics, config.surrogate_learning_rate, config.max_grad_norm)
        of = self.surrogate.config
        self.ring = Ring(config.ring, config.horizon, of.size, of.action_dim)
        self.memory = Memory(config, of.size, of.cell)
        self.take_up()

    @property
    def kept(self) -> Mapping[str, Kept]:
        return {
            "policy": self.actor, "critic": self.judge, "target": Weights(self.target), "dynamics": self.model,
            "ring": self.ring, "memory": self.memory,
        }  # fmt: skip

    def save_networks(self) -> None:
        write_model(self.folder / "value", self.critic)
        write_model(self.folder / "surrogate", self.surrogate)

    @property
    def segments(self) -> int:
        return self.config.steps // self.config.horizon

    def iterate(self) -> dict[str, float]:
        config = self.config
        # Spaced by the number of worlds: no two iterations share a seed + i.
        self.worlds.reset((config.seed * 1_000_003 + self.iteration) * config.worlds)
        place = Place(self.eyes.look(), self.surrogate.first_cell(config.worlds).to(self.worlds.device))
        generator = generator_at(config.seed, self.iteration)
        figures: list[dict[str, float]] = []
        for number in range(self.segments):
            lived = self._live(place, generator)
            place = lived.place
            self.memory.add(lived.segment)
            moved = self._improve(lived, generator)
            figures.append({**moved, **self._learn_worth(generator), **self._refresh(lived.segment, generator)})
            self._require_finite(**{f"{name}_{number}": value for name, value in figures[-1].items()})
        self.iteration += 1
        self.away = self._distance(self.memory.newest.to(self.worlds.device))
        shared = {name: fmean(each[name] for each in figures) for name in figures[0]}
        return shared | {"return": shared["reward"] * config.steps, "rate": self._rate()}

    def _live(self, place: Place, generator: torch.Generator) -> Lived:
        alone, chances = self.config.roll == "surrogate", self._chances(self.config.horizon, place, generator)
        return live(self.policy, self.surrogate, self.eyes, place, chances, alone=alone, through=self.through)

    def _chances(self, steps: int, place: Place, generator: torch.Generator) -> Tensor:
        shape = (steps, len(place.latent), self.surrogate.config.action_dim)
        return torch.randn(shape, generator=generator).to(place.latent.device)

    def _improve(self, lived: Lived, generator: torch.Generator) -> dict[str, float]:
        """Follow the gradient of what a segment was worth, then of what the surrogate foresees from places that were
        visited, but no further than the policy may go.
        """
        config, latents = self.config, lived.segment.latents.flatten(0, 1)
        start, norms, kl = self.actor.weights(), list[float](), 0.0
        with torch.no_grad():
            acted = [each.clone() for each in self.policy.decide(latents)]
        cosine = float(lived.cosine.mean())
        passes = config.passes + (config.rehearsals if cosine >= config.trust else 0)
        for number in range(passes if self.iteration >= config.value_warm_up else 0):
            loss = -self._worth(number, lived.segment, generator).mean() / config.horizon
            norms.append(self.actor.adopt(torch.autograd.grad(loss, list(self.actor.named.values()))))
            self._require_tame(norms[-1])
            kl = self._move(latents, acted, start)
            if kl >= config.target_kl:
                break
        return {
            "reward": float(lived.segment.rewards.mean()), "gradient": fmean(norms or [0.0]), "passes": len(norms),
            "cosine": cosine, "std": float(self.policy.log_std.detach().exp().mean()), "kl": kl,
        }  # fmt: skip

    def _worth(self, number: int, segment: Segment, generator: torch.Generator) -> Tensor:
        """What the policy follows in its so manieth pass."""
        config = self.config
        settings = {
            "gamma": config.gamma, "entropy_coefficient": config.entropy_coefficient, "excess": config.excess
        }  # fmt: skip
        if number < config.passes and config.roll in ("decoupled", "straight-through"):
            return worth(self.policy, self.surrogate, self.target, segment, through=self.through, **settings)
        place, steps = Place(segment.latents[0], segment.cells[0]), config.horizon
        if number >= config.passes:
            visited = self.memory.places(config.rehearsed, generator)
            place, steps = Place(*(each.to(segment.latents.device) for each in visited)), config.ahead
        chances = self._chances(steps, place, generator)
        return rehearsed(self.policy, self.surrogate, self.target, place, chances, **settings)

    @torch.no_grad()
    def _distance(self, latents: Tensor) -> float:
        """From the clone, at these latents (N, D), in nats."""
        return float(divergence(*self.policy.decide(latents), *self.clone.decide(latents)).mean())

    @torch.no_grad()
    def _move(self, latents: Tensor, acted: list[Tensor], start: list[Tensor]) -> float:
        """Take the step, but no further than about `target_kl` from the policy that acted, whose weights are `start`;
        returns how far that is.

        The divergence grows with the square of the way, near its beginning.
        """
        self.actor.step(self._rate())
        self._bound_std()
        kl = float(divergence(*self.policy.decide(latents), *acted).mean())
        if kl > self.config.target_kl:
            self.actor.draw_back(start, math.sqrt(self.config.target_kl / kl))
        return min(kl, self.config.target_kl)

    def _learn_worth(self, generator: torch.Generator) -> dict[str, float]:
        """Passes over the newest segments; targets come from the network that follows, as it is at each pass."""
        config, losses, explained = self.config, [], 0.0
        for _ in range(config.critic_passes):
            latents, returns, before = self.memory.lessons(self.target, config.gamma, config.lam)
            explained = float(explained_variance(before, returns))
            order = torch.randperm(len(latents), generator=generator).to(latents.device)
            for rows in order.tensor_split(config.minibatches):
                loss = 0.5 * (self.critic.judge(latents[rows]) - returns[rows]).square().mean()
                self.judge.differentiate(loss)
                self.judge.step(self._rate())
                losses.append(float(loss.detach()))
            follow(self.target, self.critic, config.target_step)
        return {"critic_loss": fmean(losses) if losses else 0.0, "explained_variance": explained}

    def _refresh(self, segment: Segment, generator: torch.Generator) -> dict[str, float]:
        """Teach the dynamics what the world has just done, and what it does in the data."""
        config, losses = self.config, []
        if config.roll != "surrogate":
            whole = ~(segment.terminated | segment.truncated)[:-1].any(0)
            latents = torch.cat([segment.latents, segment.after[-1:]])[:, whole].transpose(0, 1)
            self.ring.add(latents.cpu(), segment.actions[:, whole].transpose(0, 1).cpu())
        for _ in range(config.refreshes if len(self.ring) else 0):
            parts = [self.ring.sample(config.refresh_imagined, generator)] if config.refresh_imagined else []
            if self.tracks is not None and config.refresh_real:
                parts.append(self.tracks.sample(config.refresh_real, config.horizon, generator))
            track = Track(*(torch.cat(each).to(segment.latents.device) for each in zip(*parts, strict=True)))
            loss = dynamics_loss(self.surrogate.dynamics, track)
            self.model.differentiate(loss)
            self.model.step(self._rate())
            losses.append(float(loss.detach()))
        return {"refresh_loss": fmean(losses) if losses else 0.0}

    def _require_tame(self, norm: float) -> None:
        if not norm <= self.config.exploding:
            raise UserError(
                f"a gradient of norm {norm:.3g} in iteration {self.iteration} of the refinement",
                rule=f"one beyond {self.config.exploding:g} says nothing about the policy; the best one until then, and"
                f" the checkpoint in {self.folder}, are kept",
                remedy="Use a shorter horizon, a lower learning_rate, or a surrogate that agrees better"
                " (`w4rl evaluate surrogate`)",
            )


class Memory:
    """The newest segments, for a critic to learn from and a rehearsal to begin in."""

    def __init__(self, config: FoGConfig, latent: int, cell: int) -> None:
        rows, shape = config.critic_windows, (config.horizon, config.worlds)
        self.latents, self.after = (torch.zeros(rows, *shape, latent) for _ in range(2))
        self.cells = torch.zeros(rows, *shape, cell)
        self.rewards = torch.zeros(rows, *shape)
        self.terminated, self.truncated = (torch.zeros(rows, *shape, dtype=torch.bool) for _ in range(2))
        self.written = 0

    def add(self, segment: Segment) -> None:
        row = self.written % len(self.rewards)
        for name in STORED:
            getattr(self, name)[row] = getattr(segment, name).cpu()
        self.written += 1

    @torch.no_grad()
    def lessons(self, target: ValueNetwork, gamma: float, lam: float) -> tuple[Tensor, Tensor, Tensor]:
        """N latents (N, D), what they turned out to be worth (N,), and what the target says of them (N,)."""
        device = target.proprio_mean.device
        found = []
        for row in range(min(self.written, len(self.rewards))):
            latents, after, rewards, terminated, truncated = (getattr(self, name)[row].to(device) for name in LESSONS)
            values = target.judge(after.flatten(0, 1)).view_as(rewards)
            returns = lambda_returns(rewards, values, terminated, truncated, gamma=gamma, lam=lam)
            found.append((latents.flatten(0, 1), returns.flatten()))
        latents, returns = (torch.cat(each) for each in zip(*found, strict=True))
        return latents, returns, target.judge(latents)

    def places(self, count: int, generator: torch.Generator) -> Place:
        """Any moments that are remembered."""
        written = min(self.written, len(self.latents))
        latents, cells = (each[:written].flatten(0, 2) for each in (self.latents, self.cells))
        drawn = torch.randint(len(latents), (count,), generator=generator)
        return Place(latents[drawn], cells[drawn])

    @property
    def newest(self) -> Tensor:
        """The latents (N, D) of the last segment."""
        return self.latents[(self.written - 1) % len(self.latents)].flatten(0, 1)

    def state(self) -> Iterator[tuple[str, Tensor]]:
        for name in STORED:
            yield name, getattr(self, name)
        yield "written", torch.tensor(self.written)

    def load(self, state: Mapping[str, Tensor]) -> None:
        for name in STORED:
            getattr(self, name).copy_(state[name])
        self.written = int(state["written"])


LESSONS = ("latents", "after", "rewards", "terminated", "truncated")
STORED = (*LESSONS, "cells")


class Weights:
    """The weights of a network that only follows another."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network

    def state(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.network.state_dict().items()

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.network.load_state_dict(dict(state))


@torch.no_grad()
def follow(target: torch.nn.Module, network: torch.nn.Module, share: float) -> None:
    """Move the weights of a target a share of the way to those of a network."""
    for one, other in zip(target.parameters(), network.parameters(), strict=True):
        one.lerp_(other, share)


def require_fit(
    clone: GaussianPolicy, surrogate: Surrogate, worlds: Worlds, config: FoGConfig, tracks: RealTracks | None
) -> None:
    """Refuse parts that do not belong together."""
    of, sizes = surrogate.config, worlds.sizes
    there = (of.image_size, of.action_dim, of.proprio_dim)
    wanted = (sizes.image_size, sizes.action_dim, sizes.proprio_dim)
    if there != wanted or of.history > sizes.history:
        raise UserError(
            f"a surrogate of image size, action and proprioception dimensions {there} and history {of.history}",
            rule=f"these worlds have {wanted}, and remember {sizes.history} moments",
            remedy="Train a surrogate on the data of this world: `w4rl train surrogate`",
        )
    if clone.config.latent != of.size or not same_eyes(clone, surrogate):
        raise UserError(
            "a policy with other eyes than the surrogate's",
            rule="a gradient reaches the policy through the latent of the surrogate alone",
            remedy="Clone one that has them: `w4rl train policy STORE --run RUN --eyes surrogate`",
        )
    if config.worlds != worlds.num_worlds:
        raise UserError(
            f"{worlds.num_worlds} worlds", rule=f"the config says {config.worlds}", remedy="Imagine as many as it says"
        )
    if tracks is None and config.refreshes and not config.refresh_imagined:
        raise UserError(
            f"refresh_real={config.refresh_real} without real data",
            rule="a refresh learns from imagined or from real sequences",
            remedy="Give tracks, or refresh from what is imagined",
        )
    if tracks is not None and config.refreshes and config.horizon > int(tracks.lengths.max()) - 1:
        raise UserError(
            f"horizon {config.horizon}",
            rule=f"the longest real episode has {int(tracks.lengths.max()) - 1} actions to refresh the surrogate with",
            remedy="Use a shorter horizon",
        )


def same_eyes(policy: GaussianPolicy, surrogate: Surrogate) -> bool:
    there = policy.state_dict()
    return all(
        name in there and there[name].shape == tensor.shape and bool(torch.equal(there[name], tensor))
        for name, tensor in surrogate.eyes.state_dict().items()
    )
