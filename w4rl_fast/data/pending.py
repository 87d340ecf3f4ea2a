"""A finished episode that waits to be sealed: one file, whole or absent, with its own checksum."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
from numpy.typing import NDArray

from w4rl_fast.data.episode import Episode, EpisodeInfo
from w4rl_fast.errors import UserError
from w4rl_fast.files import publish

SUFFIX = ".episode"
MAGIC = b"W4RLEP01"
DIGEST = 32


def save_pending(folder: Path, episode: Episode) -> Path:
    """Publish an episode as `<key>.episode`; once this returns, no kill can lose it."""
    from safetensors.numpy import save

    arrays = {name: getattr(episode, name) for name in ("frames", "actions", "proprio", "success", "landmarks")}
    # safetensors writes memory as it lies, whatever the strides say.
    tensors: dict[str, NDArray[Any]] = {
        name: np.ascontiguousarray(array) for name, array in arrays.items() if array is not None
    }
    raw = save(tensors, metadata={"info": json.dumps(dataclasses.asdict(episode.info))})
    body = numcodecs.Zstd(level=1).encode(raw)
    path = folder / (episode.info.key + SUFFIX)
    publish(path, MAGIC + hashlib.sha256(body).digest() + body)
    return path


def load_pending(path: Path) -> Episode:
    """Read an episode back, refusing one whose bytes changed."""
    from safetensors.numpy import load

    blob = path.read_bytes()
    body = blob[len(MAGIC) + DIGEST :]
    if not blob.startswith(MAGIC) or hashlib.sha256(body).digest() != blob[len(MAGIC) : len(MAGIC) + DIGEST]:
        raise UserError(
            f"episode file {path}",
            rule="its bytes differ from those that were written",
            remedy="Delete it and run the same collect command again: it fills the gap",
        )
    raw = bytes(numcodecs.Zstd().decode(body))
    tensors = load(raw)
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    info = EpisodeInfo(**json.loads(header["__metadata__"]["info"]))
    return Episode(
        tensors["frames"], tensors["actions"], tensors["proprio"], tensors["success"].astype(np.bool_), info,
        tensors.get("landmarks"),
    )  # fmt: skip
