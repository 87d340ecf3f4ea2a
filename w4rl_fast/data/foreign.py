"""Episodes of others, read where they lie."""

import contextlib
import hashlib
from pathlib import Path

import numpy as np

from w4rl_fast.data.episode import Episode
from w4rl_fast.data.importers import diffusion_policy
from w4rl_fast.data.importers.diffusion_policy import DiffusionPolicyConfig
from w4rl_fast.data.importers.staging import readable
from w4rl_fast.data.store import Episodes, Store


class ReplayStore:
    """A Diffusion Policy replay buffer (folder or zip), read in place; nothing is ever written into it."""

    def __init__(self, path: Path, config: DiffusionPolicyConfig) -> None:
        self.path, self.config = path, config
        with contextlib.ExitStack() as stack:
            stack.enter_context(readable(path, diffusion_policy.KIND))
            self._buffer = stack.enter_context(diffusion_policy.open_arrays(path, config))
            self.schema = diffusion_policy.schema_of(self._buffer, path, config)
            self._open = stack.pop_all()
        self.lengths = np.diff(self._buffer.ends, prepend=0).tolist()
        self.infos = diffusion_policy.infos_of(self._buffer, path, config)
        self.keys = [info.key for info in self.infos]

    @property
    def digest(self) -> str:
        """Of the actions and the ends: whoever changes frames alone has to remove the cache by hand."""
        content = np.asarray(self._buffer.actions[:]).tobytes() + self._buffer.ends.tobytes()
        return hashlib.sha256(content).hexdigest()[:16]

    @property
    def cache(self) -> Path:
        return self.path.with_name(f"{self.path.name}.cache")

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, number: int) -> Episode:
        with readable(self.path, diffusion_policy.KIND):
            return diffusion_policy.episode_of(self._buffer, number, self.path, self.config, self.schema)


def is_replay_buffer(path: Path) -> bool:
    return path.suffix == ".zip" or (path / "meta" / "episode_ends").exists()


def open_store(path: Path, task: str = "imported") -> Episodes:
    """Open a store of this toolkit, or a Diffusion Policy replay buffer of the named task."""
    if path.exists() and not (path / "store.json").exists() and is_replay_buffer(path):
        return ReplayStore(path, DiffusionPolicyConfig(task=task))
    return Store(path)
