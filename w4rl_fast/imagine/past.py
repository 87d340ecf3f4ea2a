"""What imagined worlds remember: the last T moments of each, in rings that are allocated once.

Shapes: R worlds, T frames of history, A action and P proprioception dimensions, S x S pixels, uint8 inside: a frame of
whole bytes loses nothing, and takes a quarter of the memory to move.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from w4rl_fast.imagine.starts import Starts

EIGHT = 8
"""Bytes that are chosen between at once: one by one it takes several times as long."""


class Inputs(NamedTuple):
    """What the world step takes before its noise, for the worlds of one slice; written again by the next slice."""

    frames: Tensor
    proprio: Tensor
    actions: Tensor
    anchor: Tensor
    scene: Tensor


class Past:
    """All rings turn together: slot `oldest` is the next to be written, whatever world was begun when."""

    def __init__(self, starts: Starts, scenes: Tensor, rows: int, slice_size: int) -> None:
        history, size = starts.rows.shape[1], starts.pixels.shape[-1]
        pixels, device = starts.pixels.shape[1:], starts.pixels.device
        self.starts, self.scenes, self.history, self.oldest = starts, scenes, history, 0

        def bytes_(*shape: int) -> Tensor:
            return torch.zeros(*shape, *pixels, dtype=torch.uint8, device=device)

        def floats(*shape: int) -> Tensor:
            return torch.zeros(*shape, device=device)

        self.frames, self.anchor = bytes_(rows, history), bytes_(rows)
        self.proprio = floats(rows, history, starts.proprio.shape[2])
        self.actions = floats(rows, history, starts.actions.shape[2])
        self.scene = floats(rows, scenes.shape[1])
        self.fresh_frames, self.fresh_anchor = bytes_(rows * history), bytes_(rows)
        self.inputs = Inputs(
            floats(slice_size, history, 3, size, size),
            floats(slice_size, *self.proprio.shape[1:]),
            floats(slice_size, *self.actions.shape[1:]),
            floats(slice_size, 3, size, size),
            floats(slice_size, scenes.shape[1]),
        )

    @property
    def newest(self) -> int:
        return (self.oldest - 1) % self.history

    def rewind(self) -> None:
        """Turn the rings back to where they began; what they hold is of no use then until every world begins anew."""
        self.oldest = 0

    def act(self, actions: Tensor, part: slice = slice(None)) -> None:
        """What is done at the newest moment (R, A), by all worlds or by those of a slice."""
        self.actions[part, self.newest].copy_(actions)

    def push(self, proprio: Tensor) -> None:
        """The next moment, with proprio (R, P); its frames were written into the oldest slot before."""
        self.proprio[:, self.oldest].copy_(proprio)
        self.oldest = (self.oldest + 1) % self.history

    def gather(self, part: slice) -> Inputs:
        """What the world step takes of these worlds; the tensors are filled again by the next call."""
        inputs = self.inputs
        for ring, out in ((self.frames, inputs.frames), (self.proprio, inputs.proprio), (self.actions, inputs.actions)):
            self.unroll(ring[part], out)
        inputs.anchor.copy_(self.anchor[part])
        inputs.scene.copy_(self.scene[part])
        for pixels in (inputs.frames, inputs.anchor):
            pixels.div_(127.5).sub_(1)
        return inputs

    def unroll(self, ring: Tensor, out: Tensor) -> None:
        """The last moments of a ring (B, T, ...), oldest first, into out (B, H, ...), H at most T."""
        count = out.shape[1]
        for place in range(count):
            out[:, place].copy_(ring[:, (self.oldest + self.history - count + place) % self.history])

    def begin(self, mask: Tensor, chosen: Tensor) -> None:
        """Put the worlds of a mask (R,) at their chosen starts (R,); the others stay. Nothing depends on how many."""
        starts, history = self.starts, self.history
        frames = torch.index_select(starts.pixels, 0, starts.rows[chosen].flatten(), out=self.fresh_frames)
        torch.index_select(starts.pixels, 0, starts.anchors[chosen], out=self.fresh_anchor)
        pairs = (
            (frames.view(-1, *self.frames.shape[1:]), self.frames),
            (starts.proprio[chosen], self.proprio),
            (starts.actions[chosen], self.actions),
        )
        for fresh, ring in pairs:
            for place in range(history):
                replace(ring[:, (self.oldest + place) % history], mask, fresh[:, place])
        replace(self.anchor, mask, self.fresh_anchor)
        replace(self.scene, mask, self.scenes[chosen])


def replace(values: Tensor, mask: Tensor, fresh: Tensor) -> None:
    """Write the rows of `fresh` that the mask (R,) names over those of `values`."""
    if values.dtype is torch.uint8 and values.shape[-1] % EIGHT == 0:
        values, fresh = values.view(torch.int64), fresh.view(torch.int64)
    torch.where(mask.view(-1, *[1] * (values.ndim - 1)), fresh, values, out=values)
