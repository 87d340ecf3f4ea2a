"""A policy that looks at one robot: the newest frames and what is felt, to actions."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w4rl_fast.robot.camera import Frame

Mean = Callable[[Tensor, Tensor], Any]


class Decider:
    """The mean actions (K, A) of a policy; frames and proprioception of `history` moments, the first repeated at first.

    `mean` takes frames (1, H, 3, S, S) in [-1, 1] and proprioception (1, H, P): eager torch, or an engine.
    """

    def __init__(self, mean: Mean, history: int, name: str = "eager") -> None:
        self.name = name
        self._mean = mean
        self._seen: deque[tuple[Frame, NDArray[np.float32]]] = deque(maxlen=history)
        self._history = history

    def begin(self) -> None:
        """Forget the last episode."""
        self._seen.clear()

    @torch.inference_mode()
    def decide(self, frame: Frame, proprio: NDArray[np.float32]) -> NDArray[np.float32]:
        while len(self._seen) < self._history:
            self._seen.append((frame, proprio))
        self._seen.append((frame, proprio))
        pixels = np.stack([seen for seen, _ in self._seen]).transpose(0, 3, 1, 2)
        frames = torch.from_numpy(pixels).float().div(127.5).sub(1.0)[None]
        felt = torch.from_numpy(np.stack([each for _, each in self._seen]))[None]
        out = self._mean(frames, felt)
        mean = out[0] if isinstance(out, tuple) else out
        return np.asarray(mean.detach().float().clamp(-1.0, 1.0).reshape(-1, mean.shape[-1]).numpy().copy())

    def latency(self, frame: Frame, proprio: NDArray[np.float32], calls: int = 20) -> float:
        """Seconds of a call, the median of some."""
        times = []
        for _ in range(calls):
            begun = time.perf_counter()
            self.decide(frame, proprio)
            times.append(time.perf_counter() - begun)
        self.begin()
        return float(np.median(times))
