"""What all worlds share, imagined or real: batched, reproducible world by world, and judged alike.

Shapes: B worlds, A action and P proprioception dimensions, S x S pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from w4rl_fast.errors import UserError
from w4rl_fast.imagine.past import Past
from w4rl_fast.imagine.starts import Starts
from w4rl_fast.reward.config import Rule
from w4rl_fast.world.model import Landing
from w4rl_kernels.edm_step import write_bytes
from w4rl_kernels.noise import Draw, normal_noise

FRAME_STREAM, ACTION_STREAM = 0, 1
"""Streams of noise; starts have a third."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImaginationConfig:
    """`num_worlds` worlds, of which an episode is truncated after `horizon` steps.

    The step runs on slices of exactly `slice_size` worlds, the last one padded, so that no kernel ever sees another
    shape: that makes a world's numbers independent of how many there are. A slice also stays in the cache; one world
    alone takes as long as a slice. With `autoreset` a world that ended begins its next episode in the same step;
    otherwise it goes on, paid no more, until it is reset. Without `ends` success ends no episode, only time does: for
    rewards that are paid at every step. `precision` is the backbone's.
    """

    num_worlds: int = 64
    horizon: int = 20
    slice_size: int = 32
    sampling_steps: int | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    autoreset: bool = True
    ends: bool = True

    def __post_init__(self) -> None:
        if min(self.num_worlds, self.horizon, self.slice_size) < 1:
            raise ValueError(
                f"num_worlds={self.num_worlds}, horizon={self.horizon}, slice_size={self.slice_size}: at least 1 each"
            )


class Outcome(NamedTuple):
    """reward (B,) float32 in {0, 1}, terminated and truncated (B,) bool, probability of success (B,)."""

    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    probability: Tensor


class Observation(NamedTuple):
    """frames (B, 3, S, S) uint8 and proprio (B, P); they may be written again by the next call."""

    frames: Tensor
    proprio: Tensor


class Sizes(Protocol):
    """What worlds are made of: what a policy has to fit."""

    @property
    def image_size(self) -> int: ...

    @property
    def action_dim(self) -> int: ...

    @property
    def proprio_dim(self) -> int: ...

    @property
    def history(self) -> int:
        """Moments that are remembered."""
        ...


class Worlds(ABC):
    """B worlds on the device of their starts. World i is a function of its seed and its actions alone.

    An episode has a number, counted from the last `reset` of its world; start and noise come from (seed, episode) and
    (seed, episode, step), so the second episode does not depend on how the first one went.
    """

    def __init__(self, sizes: Sizes, rule: Rule, starts: Starts, scenes: Tensor, config: ImaginationConfig) -> None:
        self.sizes, self.rule, self.starts, self.config = sizes, rule, starts, config
        self.device = device = starts.pixels.device
        rows = -(-config.num_worlds // config.slice_size) * config.slice_size
        self.parts = [slice(first, first + config.slice_size) for first in range(0, rows, config.slice_size)]
        self.past = Past(starts, scenes, rows, config.slice_size)

        def filled(value: float, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.full((rows, *shape), value, dtype=dtype, device=device)

        self.seeds, self.episodes, self.clock, self.hits = (filled(0, dtype=torch.int64) for _ in range(4))
        self.won, self.late = (filled(False, dtype=torch.bool) for _ in range(2))
        self.acting = filled(0, sizes.action_dim)
        pixels = (3, sizes.image_size, sizes.image_size)
        self.logit, self.noise = filled(0), torch.zeros(config.slice_size, *pixels, device=device)
        self.frames, self.proprio = filled(0, *pixels, dtype=torch.uint8), filled(0, sizes.proprio_dim)
        self.begun = False

    @property
    def num_worlds(self) -> int:
        return self.config.num_worlds

    @torch.no_grad()
    def reset(
        self,
        seeds: int | Sequence[int] | Tensor,
        *,
        mask: Tensor | None = None,
        episodes: int | Tensor = 0,
    ) -> Observation:
        """Begin episodes anew, in all worlds or in those of a mask (B,): world i with seeds[i], or with seed + i.

        `episodes` are the numbers (B,) to begin with; 0 is the first.
        """
        if not self.begun and mask is not None:
            raise UserError("a mask in the first reset", rule="every world begins once", remedy="Leave mask=... away")
        count, device = self.num_worlds, self.device
        given = torch.arange(count, device=device) + seeds if isinstance(seeds, int) else torch.as_tensor(seeds)
        if given.shape != (count,):
            raise UserError(f"{given.numel()} seeds", rule=f"there are {count} worlds", remedy="Give one to each world")
        chosen = torch.ones(count, dtype=torch.bool, device=device) if mask is None else mask
        whole = self._rows(chosen, fill=not self.begun)
        self.seeds.copy_(torch.where(whole, self._rows(given), self.seeds))
        numbers = torch.full((count,), episodes, device=device) if isinstance(episodes, int) else episodes
        self.episodes.copy_(torch.where(whole, self._rows(numbers), self.episodes))
        self._begin(whole)
        self.begun = True
        return self.observe()

    def step(self, actions: Tensor) -> tuple[Observation, Outcome, Observation]:
        """Act (B, A) in every world: what is seen now, how it went, and what was seen before any world began anew.

        Actions beyond [-1, 1] count as the nearer end. Where nothing began, both observations are the same.
        """
        outcome = self.advance(actions)
        if self.config.autoreset:
            self.restart(outcome.terminated | outcome.truncated)
        return self.observe(), outcome, self.ended_with()

    @torch.no_grad()
    def advance(self, actions: Tensor) -> Outcome:
        """The first half of a step: everything but beginning anew."""
        self._require_begun(actions)
        self.acting[: self.num_worlds].copy_(actions).clamp_(-1, 1)
        self.past.act(self.acting)
        return self.lead_on(self._lead)

    @abstractmethod
    def _lead(self, part: slice) -> tuple[Tensor, Tensor]:
        """What the worlds of a slice come to: proprioception and the logit of success; the frames are landed."""

    @torch.no_grad()
    def lead_on(self, run: Callable[[slice], tuple[Tensor, Tensor]]) -> Outcome:
        """Lead each slice to what `run` makes of it, as `_lead` does, and judge all of them."""
        for part in self.parts:
            proprio, logit = run(part)
            self.proprio[part].copy_(proprio)
            self.logit[part].copy_(logit)
        self.past.push(self.proprio)
        return Outcome(*(each[: self.num_worlds] for each in self._judge()))

    def landing(self, part: slice) -> Landing:
        """Where the next frames of a slice belong."""
        return Landing(self.frames[part], self.past.frames[part], self.past.oldest)

    def land(self, part: slice, frames: Tensor) -> None:
        """Put the next frames (B, 3, S, S) of a slice, in [-1, 1] and of whole bytes, where they belong."""
        write_bytes(frames, **self.landing(part)._asdict())

    def draw(self, part: slice) -> Draw:
        """The noise of this moment."""
        return Draw(self.seeds[part], self.clock[part], self.episodes[part], FRAME_STREAM)

    def noise_of(self, part: slice) -> Tensor:
        """The same (B, 3, S, S) as numbers; the tensor is filled again by the next call."""
        return self.draw(part).normal(self.noise.shape[1:], out=self.noise)

    def last_noise(self) -> Tensor:
        """The noise (B, 3, S, S) that led to this moment, before any world begins anew."""
        drawn = self.draw(slice(self.num_worlds))
        return drawn._replace(first=drawn.first - 1).normal(self.noise.shape[1:])

    @torch.no_grad()
    def restart(self, mask: Tensor) -> None:
        """The second half: the worlds of a mask (B,) begin their next episode."""
        whole = self._rows(mask)
        self.episodes.add_(whole)
        self._begin(whole)

    def observe(self) -> Observation:
        """The newest moment of every world."""
        past, count = self.past, self.num_worlds
        return Observation(past.frames[:count, past.newest], past.proprio[:count, past.newest])

    def ended_with(self) -> Observation:
        """What the last step led to, before any world began anew."""
        return Observation(self.frames[: self.num_worlds], self.proprio[: self.num_worlds])

    def action_noise(self, out: Tensor) -> Tensor:
        """Standard normal numbers (B, A) for the actions of this moment, each world's from its own seed."""
        count = self.num_worlds
        where = (self.seeds[:count], self.clock[:count], self.episodes[:count])
        return normal_noise(*where, out.shape[1:], stream=ACTION_STREAM, out=out)

    def _judge(self) -> Outcome:
        """Success is paid once and latched; a world that is late has not won, and one that won is not late."""
        probability = self.logit.sigmoid()
        self.clock.add_(1)
        self.hits.add_(1).mul_(probability >= self.rule.threshold)
        before = self.won.clone()
        self.won |= (self.hits >= self.rule.hits) & ~self.late
        over = self.won & self.config.ends
        self.late |= (self.clock >= self.config.horizon) & ~over
        return Outcome((self.won & ~before).float(), over, self.late.clone(), probability)

    def _begin(self, mask: Tensor) -> None:
        self.past.begin(mask, self._starts_of(mask))
        for state in (self.clock, self.hits, self.won, self.late):
            state.masked_fill_(mask, 0)

    def _starts_of(self, mask: Tensor) -> Tensor:
        """The start of every world's episode (R,); those outside the mask are not read."""
        return self.starts.draw(self.seeds, self.episodes)

    def _rows(self, values: Tensor, *, fill: bool = False) -> Tensor:
        """Values (B,) on the device, followed by those of the worlds that only fill the last slice."""
        rest = torch.full((len(self.seeds) - self.num_worlds,), fill, dtype=values.dtype, device=self.device)
        return torch.cat([values.to(self.device), rest])

    def _require_begun(self, actions: Tensor) -> None:
        if not self.begun:
            raise UserError("a step before the first reset", rule="no world has begun", remedy="Call reset(seed) first")
        wanted = (self.num_worlds, self.sizes.action_dim)
        if actions.shape != wanted:
            raise UserError(
                f"actions {tuple(actions.shape)}", rule=f"one for each world is {wanted}", remedy="Reshape them"
            )
