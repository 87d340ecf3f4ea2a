"""Let a policy act in imagined worlds, and keep what an improvement of it needs, on the device.

Shapes: B worlds, H frames that the policy sees, A action and P proprioception dimensions, S x S pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from w4rl_fast.errors import UserError
from w4rl_fast.imagine.acting import Acting, draw
from w4rl_fast.imagine.capture import Call, Recorder
from w4rl_fast.imagine.engine import Imagination
from w4rl_fast.imagine.worlds import Outcome, Worlds
from w4rl_fast.policy.gaussian import GaussianPolicy

Value = Callable[..., Tensor]
"""Frames (B, H, 3, S, S) in [-1, 1] and proprio (B, H, P), or the latent (B, D) that frozen eyes make of them, to the
return (B,) that is still to come."""
Pay = Callable[[Tensor], Tensor]
"""What a policy's frozen eyes make of a moment (B, D) to the reward (B,) of being there."""


@dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """Row t holds what belongs to the t-th action; a world that ended with it shows its next episode in row t + 1.

    frames (steps, B, H, S, S, 3) uint8 and proprio (steps, B, H, P): what the policy saw, oldest first; actions
    (steps, B, A) as drawn, before the world clamps them; log_probs, rewards and values (steps, B); terminated and
    truncated (steps, B) bool; probabilities (steps, B) of success in what the action led to; final_values (steps, B) of
    what the action led to before any reset; last_values (B,) of what is seen after the last row. Values are zero
    without a value network. latents (steps, B, D) are what frozen eyes saw, D being 0 where a policy has its own.
    """

    frames: Tensor
    proprio: Tensor
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    probabilities: Tensor
    final_values: Tensor
    last_values: Tensor
    latents: Tensor


class Rollouts:
    """Rollouts of a policy in an imagination; storage is allocated once for each length and used again.

    `compiled` makes one unit of policy, world step and classifier, which torch.compile takes whole; `acting` is such a
    unit that was made before, for one policy as it is. The policy then sees a slice of worlds at a time, so that a
    rollout equals the eager one but for rounding.

    A policy with frozen eyes looks at every moment once, whoever wants to know what it saw. For such a one the reward
    may be what `pay` says of the moment that an action led to, instead of that of the worlds.

    With a `recorder` all steps of a rollout are recorded once and then replayed: policy, world, classifier, resets and
    what is kept, as one launch. Weights may learn in place between two rollouts; others are recorded anew.
    """

    def __init__(
        self, imagination: Worlds, *, compiled: bool = False, acting: Acting | None = None, pay: Pay | None = None,
        recorder: Recorder | None = None,
    ) -> None:  # fmt: skip
        self.imagination, self.compiled, self.acting, self.pay = imagination, compiled, acting, pay
        self.recorder = recorder
        self._storage: dict[tuple[int, int, int], tuple[Rollout, Sight]] = {}
        self._recorded: tuple[object, Call, int] | None = None

    @torch.no_grad()
    def rollout(self, policy: GaussianPolicy, value: Value | None, steps: int, seed: int) -> Rollout:
        """Reset every world, world i with seed + i, then act `steps` times by draws from the policy.

        The result depends on the arguments alone, and is written again by the next call.
        """
        imagination = self.imagination
        require_fit(policy, imagination)
        if self.pay is not None and policy.config.latent is None:
            raise UserError(
                "a policy with eyes of its own",
                rule="what pays here is shown the latent of frozen eyes",
                remedy="Give a policy that sees as the surrogate does, or leave pay=... away",
            )
        out, sight = self._allocate(policy, steps)

        def begin() -> None:
            imagination.past.rewind()
            imagination.reset(seed)

        def play() -> None:
            self._play(policy, value, out, sight)

        if self.recorder is None:
            begin()
            play()
        else:
            self._replay(self.recorder, begin, play, (steps, *memory_of(policy), *memory_of(value)))
        return out

    def _replay(self, recorder: Recorder, begin: Call, play: Call, what: object) -> None:
        """Play by a recording of the same memory; where the rings stand afterwards is not in it."""
        past = self.imagination.past
        if self._recorded is None or self._recorded[0] != what:
            self._recorded = None  # its memory first
            self._recorded = (what, recorder(begin, play), past.oldest)
        _, replay, past_end = self._recorded
        begin()
        replay()
        past.oldest = past_end

    def _play(self, policy: GaussianPolicy, value: Value | None, out: Rollout, sight: "Sight") -> None:
        """Every step of a rollout whose worlds have begun."""
        imagination = self.imagination
        for t in range(len(out.rewards)):
            sight.turn_to(imagination)
            seen = see(policy, sight.seen())
            out.frames[t].copy_(sight.frames.movedim(2, -1))
            out.proprio[t].copy_(sight.proprio)
            if policy.config.latent is not None:
                out.latents[t].copy_(seen[0])
            if value is not None:
                out.values[t].copy_(value(*seen))
            outcome = self._advance(policy, seen, out, t)
            if value is not None or self.pay is not None:
                led_to = see(policy, sight.look(imagination))
                if value is not None:
                    out.final_values[t].copy_(value(*led_to))
                if self.pay is not None:
                    outcome = outcome._replace(reward=self.pay(*led_to))
            imagination.restart(outcome.terminated | outcome.truncated)
            for rows, now in zip((out.rewards, out.terminated, out.truncated, out.probabilities), outcome, strict=True):
                rows[t].copy_(now)
        if value is not None:
            out.last_values.copy_(value(*see(policy, sight.look(imagination))))

    def _advance(self, policy: GaussianPolicy, seen: tuple[Tensor, ...], out: Rollout, t: int) -> Outcome:
        """Draw the actions of row t, each world's from its own noise, with their log-probabilities, and take them."""
        if self.compiled and (self.acting is None or self.acting.policy is not policy):
            assert isinstance(self.imagination, Imagination), "only what is imagined can be compiled"
            self.acting = Acting.compiled(policy, self.imagination)
        if self.acting is None:
            mean, std = policy.decide(*seen) if policy.config.latent is not None else policy(*seen)
            actions, log_probs = draw(mean, std, self.imagination.action_noise(out.actions[t]))
            out.actions[t].copy_(actions)
            out.log_probs[t].copy_(log_probs)
            return self.imagination.advance(actions)
        if self.acting.policy is not policy:
            raise UserError(
                "another policy",
                rule="the engine of these rollouts has a policy built into it",
                remedy="Give that policy, or make rollouts without acting=...",
            )
        return self.acting.advance(out.actions[t], out.log_probs[t])

    def _allocate(self, policy: GaussianPolicy, steps: int) -> "tuple[Rollout, Sight]":
        history, latent = policy.config.history, policy.config.latent or 0
        if (history, latent, steps) not in self._storage:
            self._storage.clear()  # one length at a time: it is the largest thing there is
            self._storage[history, latent, steps] = (
                allocate(self.imagination, history, latent, steps),
                Sight(self.imagination, history),
            )
        return self._storage[history, latent, steps]


def memory_of(network: object) -> tuple[int, ...]:
    """Which network this is and where its weights lie: a recording is good for these alone."""
    if not isinstance(network, nn.Module):
        return (id(network),)
    return (id(network), *(each.data_ptr() for each in (*network.parameters(), *network.buffers())))


def see(policy: GaussianPolicy, observed: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """What policy and value network decide on: observations, or what their common frozen eyes make of them."""
    return observed if policy.config.latent is None else (policy.observe(*observed),)


class Sight:
    """What a policy sees of the worlds: bytes as they are kept, floats as a network takes them."""

    def __init__(self, imagination: Worlds, history: int) -> None:
        of, count, device = imagination.sizes, imagination.num_worlds, imagination.device
        shape = (count, history, 3, of.image_size, of.image_size)
        self.frames = torch.zeros(shape, dtype=torch.uint8, device=device)
        self.floats = torch.zeros(shape, device=device)
        self.proprio = torch.zeros(count, history, of.proprio_dim, device=device)
        self.ready = False

    def turn_to(self, imagination: Worlds) -> None:
        past, count = imagination.past, imagination.num_worlds
        past.unroll(past.frames[:count], self.frames)
        past.unroll(past.proprio[:count], self.proprio)
        self.ready = False

    def seen(self) -> tuple[Tensor, Tensor]:
        if not self.ready:
            self.floats.copy_(self.frames).div_(127.5).sub_(1)
            self.ready = True
        return self.floats, self.proprio

    def look(self, imagination: Worlds) -> tuple[Tensor, Tensor]:
        self.turn_to(imagination)
        return self.seen()


def allocate(imagination: Worlds, history: int, latent: int, steps: int) -> Rollout:
    of, count = imagination.sizes, imagination.num_worlds

    def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=imagination.device)

    return Rollout(
        frames=zeros(steps, count, history, of.image_size, of.image_size, 3, dtype=torch.uint8),
        proprio=zeros(steps, count, history, of.proprio_dim),
        actions=zeros(steps, count, of.action_dim),
        log_probs=zeros(steps, count),
        values=zeros(steps, count),
        rewards=zeros(steps, count),
        terminated=zeros(steps, count, dtype=torch.bool),
        truncated=zeros(steps, count, dtype=torch.bool),
        probabilities=zeros(steps, count),
        final_values=zeros(steps, count),
        last_values=zeros(count),
        latents=zeros(steps, count, latent),
    )


def require_fit(policy: GaussianPolicy, imagination: Worlds) -> None:
    """Refuse a policy that cannot act in these worlds."""
    acts, world = policy.config, imagination.sizes
    there = (acts.image_size, acts.action_dim, acts.proprio_dim)
    wanted = (world.image_size, world.action_dim, world.proprio_dim)
    if there != wanted or acts.history > world.history:
        raise UserError(
            f"policy with image size, action and proprioception dimensions {there} and history {acts.history}",
            rule=f"this world has {wanted}, and remembers {world.history} frames",
            remedy="Train a policy for this task that sees no more than the world remembers",
        )
