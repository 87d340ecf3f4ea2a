"""Is an imagined contact decided? A frame that lies between two outcomes is none that was ever seen.

A contact is a real frame for which there is a real frame of the other outcome with the hand in the same place. Where
these two differ, an imagined frame shows one of them, something else, or, pixel by pixel, a mixture of both.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from w4rl_fast.data.store import Episodes
from w4rl_fast.data.windows import Batch, WindowConfig, Windows
from w4rl_fast.progress import Progress
from w4rl_fast.truth.fidelity import HAND, moved
from w4rl_fast.truth.held_out import HeldOut
from w4rl_fast.truth.intervals import Share, wilson

REACH_M = 0.02
"""Hands no farther apart than this are in the same place."""
TELLING = 8
"""Two frames that differ in fewer pixels than these do not tell two outcomes apart."""
BLENDED = 0.25
"""A frame is a blend if more than this share of the telling pixels is a mixture."""
COARSE, SLICE = 12, 256
"""Pixels a side by which the nearest frame is found, and how many frames are read at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Blend:
    """Of all contact frames, those that are blends and those that are nearer to the other outcome than to what
    happened; and the mean share of telling pixels that are mixtures.
    """

    blended: Share
    other: Share
    mixed_pixels: float


class Contacts(NamedTuple):
    """N contacts: row (N,) of the held-out windows and step (N,) after their present, from 0; real and other outcome
    (N, 3, S, S), and which pixels tell them apart, (N, 1, S, S) bool.
    """

    row: Tensor
    step: Tensor
    real: Tensor
    other: Tensor
    telling: Tensor


class Sights(NamedTuple):
    """N real frames: coarse pictures of frame and anchor (N, F), hand (N, 3), whether they show success (N,), whether
    the outcome of their episode is what they show (N,), and the numbers of episode and task, (N,) each.
    """

    coarse: Tensor
    hand: Tensor
    success: Tensor
    decided: Tensor
    episode: Tensor
    task: Tensor


def find_contacts(held: HeldOut) -> Contacts:
    """The contacts in the futures of held-out windows; the other outcome may come from any episode of the store."""
    windows = Windows(held.windows.store, WindowConfig(history=1, future=0, anchor=True, held_out=0.0))
    with Progress("look for contacts", total=len(windows), unit="frames") as bar:
        parts = []
        for batch in windows.in_order(SLICE):
            parts.append(look(batch, 0, windows.store))
            bar.advance(len(batch.frames))
    gallery = Sights(*(torch.cat(each) for each in zip(*parts, strict=True)))
    found, first = [], 0
    for batch in held.batches():
        found.append(contacts_of(batch, held.windows.config.history, gallery, windows))
        found[-1].row.add_(first)
        first += len(batch.frames)
    return Contacts(*(torch.cat(each) for each in zip(*found, strict=True)))


def look(batch: Batch, first: int, store: Episodes) -> Sights:
    """All frames of some windows from observation `first` on, window by window."""
    frames = batch.frames[:, first:].float()
    assert batch.anchor is not None
    anchors = batch.anchor[:, None].expand_as(frames)
    coarse = [F.adaptive_avg_pool2d(each.flatten(0, 1), COARSE).flatten(1) for each in (frames, anchors)]
    episode = torch.from_numpy(batch.episode).repeat_interleave(frames.shape[1])
    infos = [store.infos[number] for number in episode.tolist()]
    tasks = sorted({info.task for info in store.infos})
    success = batch.success[:, first:].flatten()
    return Sights(
        coarse=torch.cat(coarse, 1),
        hand=batch.proprio[:, first:, :HAND].flatten(0, 1),
        success=success,
        decided=success | torch.tensor([not info.succeeded for info in infos]),
        episode=episode,
        task=torch.tensor([tasks.index(info.task) for info in infos]),
    )


def contacts_of(batch: Batch, history: int, gallery: Sights, windows: Windows) -> Contacts:
    """The contacts in the futures of one batch of windows."""
    mine = look(batch, history, windows.store)
    candidate = mine.decided[:, None] & gallery.decided & (mine.success[:, None] != gallery.success)
    candidate &= (mine.task[:, None] == gallery.task) & (mine.episode[:, None] != gallery.episode)
    candidate &= torch.cdist(mine.hand, gallery.hand) <= REACH_M
    far, nearest = torch.cdist(mine.coarse, gallery.coarse).masked_fill(~candidate, torch.inf).min(1)
    at = far.isfinite().nonzero()[:, 0]
    chosen, present = (each[nearest[at].numpy()] for each in windows.places())
    theirs = windows.gather(chosen, present)
    assert batch.anchor is not None and theirs.anchor is not None
    real = batch.frames[:, history:].flatten(0, 1)[at].float()
    steps = batch.frames.shape[1] - history
    row, step, other = at // steps, at % steps, theirs.frames[:, 0].float()
    telling = moved(real, other) & (moved(real, batch.anchor[row]) | moved(other, theirs.anchor))
    kept = telling.flatten(1).sum(1) >= TELLING
    return Contacts(*(each[kept] for each in (row, step, real, other, telling)))


def mixed(made: Tensor, contacts: Contacts) -> Tensor:
    """The share (N,) of telling pixels of imagined frames (N, 3, S, S) that are mixtures.

    The colour of a mixture lies about on the line between those of the two outcomes, and at least a quarter of the way
    from both.
    """
    apart = distance(contacts.real, contacts.other)
    one, other = distance(made, contacts.real), distance(made, contacts.other)
    between = (torch.minimum(one, other) >= apart / 4) & (one + other <= 1.25 * apart)
    return share_of(between, contacts.telling)


def is_other(made: Tensor, contacts: Contacts) -> Tensor:
    """Whether imagined frames (N, 3, S, S) are nearer to the other outcome, on the telling pixels: (N,)."""
    one, other = (distance(made, each).square() for each in (contacts.real, contacts.other))
    return ((one - other) * contacts.telling).flatten(1).sum(1) > 0


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Between the colours of frames, (N, 1, S, S)."""
    apart: Tensor = torch.linalg.vector_norm(a - b, dim=-3, keepdim=True)
    return apart


def share_of(pixels: Tensor, among: Tensor) -> Tensor:
    return (pixels & among).flatten(1).sum(1) / among.flatten(1).sum(1)


def measure_blend(made: Tensor, contacts: Contacts) -> Blend | None:
    """Count over the imagined frames (N, 3, S, S) of all contacts; None where there is no contact."""
    if not len(made):
        return None
    shares, others = mixed(made, contacts), is_other(made, contacts)
    return Blend(
        blended=wilson(int((shares > BLENDED).sum()), len(made)),
        other=wilson(int(others.sum()), len(made)),
        mixed_pixels=float(shares.mean()),
    )
