"""Let the world replay recorded episodes, free-running and step by step, and keep what it makes of them."""

import hashlib
import io
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w4rl_fast.data.windows import Batch, Windows
from w4rl_fast.files import publish
from w4rl_fast.fit import generator_at
from w4rl_fast.progress import Progress, plan
from w4rl_fast.reward.rows import Dreams
from w4rl_fast.world.losses import context_of
from w4rl_fast.world.model import WorldModel
from w4rl_fast.world.rollout import roll_out

SLICE = 32
"""Episodes imagined at once; what is done is kept in slices, so that an interrupted run goes on."""


def dream(world: WorldModel, windows: Windows, folder: Path, *, episodes: int, seed: int) -> Dreams:
    """Up to `episodes` of these windows from their beginning, as this world imagines them; made once, then read.

    A slice carries the checksum of its bytes in its name; one that is damaged is imagined again.
    """
    chosen = spread(windows, episodes)
    folder = folder / name_of(world, windows, chosen, seed)
    wanted = -(-len(chosen) // SLICE)
    missing = [number for number in range(wanted) if intact(folder, number) is None]
    if missing:
        steps, size = windows.config.future, world.config.image_size
        plan(
            "imagine for the classifier",
            memory_bytes=SLICE * (3 * steps + world.config.history) * size * size * 3 * 4 + (300 << 20),
            disk_bytes=len(missing) * SLICE * 2 * steps * size * size * 3,
            folder=folder.parents[1],
        )
        folder.mkdir(parents=True, exist_ok=True)
        with Progress("imagine", total=wanted, unit="slices", completed=wanted - len(missing)) as bar:
            for number in missing:
                some = chosen[number * SLICE : (number + 1) * SLICE]
                keep(folder, number, imagine_both(world, windows.gather(some, np.zeros_like(some)), seed + number))
                bar.advance()
    slices = [intact(folder, number) for number in range(wanted)]
    return Dreams(folder, [part for part in slices if part is not None], windows.episodes[chosen])


def spread(windows: Windows, most: int) -> NDArray[np.int64]:
    """At most so many episodes: first those of repair, then some from the whole range of names, where every source has
    its part; in the order of the store.
    """
    repair = [windows.store.infos[episode].source == "repair" for episode in windows.episodes]
    first, others = np.flatnonzero(repair)[:most], np.flatnonzero(np.logical_not(repair))
    rest = np.linspace(0, len(others) - 1, min(most - len(first), len(others))).astype(np.int64)
    return np.sort(np.concatenate([first, others[rest]]))


def keep(folder: Path, number: int, pixels: NDArray[np.uint8]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    publish(folder / f"dreams-{number:05d}-{zlib.crc32(buffer.getbuffer()):08x}.npy", buffer.getvalue())


def intact(folder: Path, number: int) -> NDArray[np.uint8] | None:
    """The slice of that number, memory-mapped, if it is there and whole; a damaged one is removed."""
    for path in folder.glob(f"dreams-{number:05d}-*.npy"):
        if f"{zlib.crc32(path.read_bytes()):08x}" == path.stem[-8:]:
            pixels: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
            return pixels
        path.unlink()
    return None


def imagine_both(world: WorldModel, batch: Batch, seed: int) -> NDArray[np.uint8]:
    """Pixels (B, 2, H, S, S, 3): free-running, and each step from the real past; in bfloat16, which bytes survive."""
    with torch.autocast("cpu", torch.bfloat16):
        free, forced = roll_out(world, batch, seed=seed).frames, step_by_step(world, batch, seed=seed)
    both = torch.stack([free, forced], dim=1)
    return np.asarray(((both + 1) * 127.5).round().to(torch.uint8).movedim(3, -1))


@torch.inference_mode()
def step_by_step(world: WorldModel, batch: Batch, *, seed: int) -> Tensor:
    """Every step (B, H, 3, S, S) imagined from the real frames before it."""
    history = world.config.history
    frames = []
    for step in range(batch.frames.shape[1] - history):
        noise = torch.randn(batch.frames[:, 0].shape, generator=generator_at(seed, step))
        frames.append(world(context_of(batch, history, step), noise)[0].float())
    return torch.stack(frames, 1)


def name_of(world: WorldModel, windows: Windows, chosen: NDArray[np.int64], seed: int) -> str:
    """A short name of everything that these dreams depend on."""
    digest = hashlib.sha256()
    for tensor in world.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    settings = f"{world.config} {windows.config} {windows.store.digest} {windows.episodes[chosen].tolist()} {seed}"
    digest.update(settings.encode())
    return digest.hexdigest()[:12]
