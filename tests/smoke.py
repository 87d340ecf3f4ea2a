"""What an installed package must do wherever it lies; run by `make build` in an environment that holds nothing else."""

import importlib.util
from pathlib import Path

import torch

import w4rl_engines
import w4rl_fast
import w4rl_kernels
from w4rl_kernels.window_gather import CHOICE, gather_windows

for package in (w4rl_kernels, w4rl_engines, w4rl_fast):
    assert package.__file__ is not None
    assert "site-packages" in package.__file__, f"{package.__name__} comes from the source tree: {package.__file__}"
    assert (Path(package.__file__).parent / "py.typed").is_file(), f"{package.__name__} has lost its type marker"
assert all(importlib.util.find_spec(name) is None for name in ("bench", "tests")), "the wheel holds what it should not"

frames = torch.arange(256, dtype=torch.uint8).view(4, 8, 8, 1)
rows = torch.tensor([[3, 0], [1, 1]])
assert torch.equal(gather_windows(frames, rows).permute(0, 1, 3, 4, 2), frames[rows] / 127.5 - 1)
print(f"w4rl_fast {w4rl_fast.__version__} works; gather_windows: {CHOICE.name} {CHOICE.why}")
