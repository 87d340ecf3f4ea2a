"""Sequences of latents to learn dynamics from: real ones, encoded once, and a ring of imagined ones."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from w4rl_fast.data.windows import Windows, open_arrays
from w4rl_fast.progress import Progress
from w4rl_fast.surrogate.model import Surrogate

CHUNK = 512


class Track(NamedTuple):
    """N sequences of S steps: latents (N, S + 1, D) and the actions (N, S, A) between them."""

    latents: Tensor
    actions: Tensor


class RealTracks:
    """The episodes of one side of a store as latents."""

    def __init__(self, surrogate: Surrogate, windows: Windows) -> None:
        """Windows have the surrogate's history and no future."""
        self.windows = windows
        chosen, present = windows.places()
        arrays = open_arrays(windows.store, windows.config)
        self.actions = torch.from_numpy(arrays["actions"].array[windows.starts[chosen] + present])
        self.latents = torch.empty(len(chosen), surrogate.config.size)
        with Progress("encode", total=len(chosen), unit="frames") as bar:
            for first in range(0, len(chosen), CHUNK):
                part = slice(first, first + CHUNK)
                batch = windows.gather(chosen[part], present[part])
                self.latents[part] = surrogate.encode(batch.frames, batch.proprio)
                bar.advance(len(batch.frames))
        self.lengths = torch.from_numpy(windows.counts)
        self.firsts = self.lengths.cumsum(0) - self.lengths

    def sample(self, count: int, steps: int, generator: torch.Generator) -> Track:
        """Sequences that begin anywhere in an episode that is long enough; each such place is as likely."""
        places = (self.lengths - steps).clamp_min(0)
        chance = places.cumsum(0)
        drawn = (torch.rand(count, generator=generator, dtype=torch.float64) * chance[-1]).long()
        episode = torch.searchsorted(chance, drawn, right=True)
        first = self.firsts[episode] + drawn - (chance[episode] - places[episode])
        rows = first[:, None] + torch.arange(steps + 1)
        return Track(self.latents[rows], self.actions[rows[:, :-1]])


class Ring:
    """The newest imagined sequences, all of the same length; what is oldest is written over."""

    def __init__(self, capacity: int, steps: int, latent: int, action: int) -> None:
        self.track = Track(torch.zeros(capacity, steps + 1, latent), torch.zeros(capacity, steps, action))
        self.capacity, self.written = capacity, 0

    def __len__(self) -> int:
        return min(self.written, self.capacity)

    def add(self, latents: Tensor, actions: Tensor) -> None:
        """Sequences (N, S + 1, D) and (N, S, A)."""
        rows = (self.written + torch.arange(len(latents))) % self.capacity
        self.track.latents[rows], self.track.actions[rows] = latents, actions
        self.written += len(latents)

    def sample(self, count: int, generator: torch.Generator) -> Track:
        rows = torch.randint(len(self), (count,), generator=generator)
        return Track(self.track.latents[rows], self.track.actions[rows])

    def state(self) -> Iterator[tuple[str, Tensor]]:
        yield "latents", self.track.latents
        yield "actions", self.track.actions
        yield "written", torch.tensor(self.written)

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.track.latents.copy_(state["latents"])
        self.track.actions.copy_(state["actions"])
        self.written = int(state["written"])
