"""Batches of 64 windows of 5 frames at 64x64, drawn at random from a store ten times larger than the batch cache.

The store is real (zarr, 56,000 frames, 688 MB decoded), its frames are synthetic. The baseline slices every window
from the decoded array by itself and normalises it in torch, as a plain Dataset does. Beside the speed: every frame of
a batch is compared with the episode it should come from, and resident memory is sampled all along.
"""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from w4rl_fast.data.episode import Episode, EpisodeInfo, Schema
from w4rl_fast.data.store import SEAL_ROWS, Store, writing
from w4rl_fast.data.windows import Batch, WindowConfig, Windows
from w4rl_fast.measure import resident_bytes, time_blocks, write_result

SIZE, BATCH, ROWS, LENGTH = 64, 64, 56_000, 20
RESIDENT_MB = 64
SAMPLES = 300
SCHEMA = Schema(image_size=SIZE, action_low=(-1.0,) * 4, action_high=(1.0,) * 4, proprio_dim=4)


def episode(number: int, rng: np.random.Generator) -> Episode:
    """Smooth moving pictures: as hard to compress as rendered frames, and no two alike."""
    phase = rng.uniform(0, 6.28, (LENGTH, 1, 1, 3)) + np.arange(SIZE)[None, :, None, None] * rng.uniform(0.05, 0.3)
    frames = 127.5 + 100 * np.sin(phase + np.arange(SIZE)[None, None, :, None] * rng.uniform(0.05, 0.3))
    actions = rng.uniform(-1, 1, (LENGTH, 4)).astype(np.float32)
    actions[-1] = 0
    info = EpisodeInfo(task="bench/synthetic", source="random", seed=number, succeeded=False)
    proprio = np.stack([np.full(LENGTH, number), np.arange(LENGTH), np.zeros(LENGTH), np.zeros(LENGTH)], axis=1)
    return Episode(frames.astype(np.uint8), actions, proprio.astype(np.float32), np.zeros(LENGTH, np.bool_), info)


def build(folder: Path) -> Store:
    rng = np.random.default_rng(0)
    with writing(folder, SCHEMA, {"bench/synthetic": {}}) as writer:
        for number in range(ROWS // LENGTH):
            writer.add(episode(number, rng))
            if number * LENGTH % (4 * SEAL_ROWS) == 0:
                writer.seal()
    return Store(folder)


def naive(windows: Windows, number: int) -> Tensor:
    """One window after another: slice, stack, convert."""
    rng = np.random.default_rng(number)
    pixels = windows._arrays["frames"].array
    parts = []
    for _ in range(BATCH):
        chosen = rng.integers(len(windows.episodes))
        first = windows.starts[chosen] + rng.integers(LENGTH - 5)
        parts.append(torch.from_numpy(pixels[first : first + 5]).permute(0, 3, 1, 2).float().div(127.5).sub(1.0))
    windows._arrays["frames"].touch(BATCH * 5)
    return torch.stack(parts)


def require_equal(store: Store, batch: Batch) -> None:
    """Every frame is the frame of the episode and row that its proprioception names."""
    back = ((batch.frames.permute(0, 1, 3, 4, 2) + 1) * 127.5).round().to(torch.uint8).numpy()
    by_seed = {info.seed: number for number, info in enumerate(store.infos)}
    for window in range(0, len(back), 8):
        for frame in range(back.shape[1]):
            number, row = (int(value) for value in batch.proprio[window, frame, :2])
            assert np.array_equal(back[window, frame], store.read(by_seed[number]).frames[row])


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="w4rl-bench-"))
    try:
        store = build(folder / "store")
        files = sum(1 for file in (folder / "store").rglob("*") if file.is_file())
        before = resident_bytes()
        started = time.perf_counter()
        config = WindowConfig(history=4, future=1, held_out=0.0, resident_mb=RESIDENT_MB)
        windows = Windows(store, config)
        decode_s = time.perf_counter() - started
        require_equal(store, windows.batch(0, BATCH))
        counter = iter(range(10**9))
        out = {dtype: windows.batch(0, BATCH, dtype=dtype).frames for dtype in (torch.float32, torch.bfloat16)}
        most, most_mapped = 0, 0

        def draw(dtype: torch.dtype) -> Any:
            nonlocal most, most_mapped
            batch = windows.batch(next(counter), BATCH, out=out[dtype])
            now = resident_bytes()
            most, most_mapped = max(most, now.total), max(most_mapped, now.file or 0)
            return batch

        timings = time_blocks(
            {
                "windows, float32": lambda: draw(torch.float32),
                "windows, bfloat16": lambda: draw(torch.bfloat16),
                "one by one, float32": lambda: naive(windows, next(counter)),
            },
            samples=SAMPLES,
        )
        frames = BATCH * 5
        rates = {name: frames / timing.median_s for name, timing in timings.items()}
        for name, rate in rates.items():
            print(f"{name:22s} {rate:9.0f} frames/s")
        result = {
            "store_rows": ROWS,
            "store_decoded_mb": ROWS * SIZE * SIZE * 3 / 2**20,
            "store_files": files,
            "batch_cache_mb": RESIDENT_MB,
            "decode_frames_per_s": ROWS / decode_s,
            "threads": 1,
            "timings": timings,
            "frames_per_s": rates,
            "speedup_over_one_by_one": rates["windows, float32"] / rates["one by one, float32"],
            "resident_growth_mb": (most - before.total) / 2**20,
            "resident_growth_of_mapped_files_mb": (most_mapped - (before.file or 0)) / 2**20,
            "frames_equal_to_store": True,
        }
        write_result("windows", result)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
