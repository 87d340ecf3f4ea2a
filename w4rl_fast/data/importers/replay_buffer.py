"""The layout of Diffusion Policy's replay buffer, opened and checked; the frames stay on disk."""

import contextlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.data.importers.checks import require_episodes, require_square
from w4rl_fast.errors import UserError

if TYPE_CHECKING:
    import zarr

_ENDS = "meta/episode_ends"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayBuffer:
    """images (N, S, S, 3) uint8 or float, actions (N, A) and states (N, P) float, on disk; ends (E,), the last is N."""

    images: "zarr.Array[Any]"
    actions: "zarr.Array[Any]"
    states: "zarr.Array[Any] | None"
    ends: NDArray[np.int64]
    ignored: tuple[str, ...]


@contextlib.contextmanager
def open_buffer(path: Path, *, image: str, action: str, state: str | None) -> Iterator[ReplayBuffer]:
    """Open a folder or a zip file, naming its arrays; refuses a layout whose parts do not fit together."""
    with _open_group(path) as group:
        images, actions = _array(group, f"data/{image}", path), _array(group, f"data/{action}", path)
        states = None if state is None else _array(group, f"data/{state}", path)
        _check_images(images)
        for array in (actions, states):
            _check_rows(array, images.shape[0])
        ends = _read_ends(_array(group, _ENDS, path), images.shape[0], path)
        ignored = tuple(sorted(set(_names(group, "data")) - {image, action, state}))
        yield ReplayBuffer(images=images, actions=actions, states=states, ends=ends, ignored=ignored)


@contextlib.contextmanager
def _open_group(path: Path) -> "Iterator[zarr.Group]":
    import zarr

    if path.is_dir():
        yield zarr.open_group(path, mode="r")
        return
    with zipfile.ZipFile(path) as archive:
        marks = [name for name in archive.namelist() if name.endswith(f"{_ENDS}/.zarray")]
    store = zarr.storage.ZipStore(path, mode="r")
    try:
        inside = min(marks, key=len, default="").removesuffix(f"{_ENDS}/.zarray").rstrip("/")
        yield zarr.open_group(store, mode="r", path=inside or None)
    finally:
        store.close()


def _names(group: "zarr.Group", folder: str) -> list[str]:
    import zarr

    found = group.get(folder)
    return sorted(found.array_keys()) if isinstance(found, zarr.Group) else []


def _array(group: "zarr.Group", name: str, path: Path) -> "zarr.Array[Any]":
    import zarr

    found = group.get(name)
    if not isinstance(found, zarr.Array):
        folder = name.split("/")[0]
        raise UserError(
            f"{path} has no array {name}",
            rule="a replay buffer holds data/img, data/action, data/state and meta/episode_ends",
            remedy=f"Name the right array; {folder} holds: {', '.join(_names(group, folder)) or 'nothing'}.",
        )
    return found


def _check_images(images: "zarr.Array[Any]") -> None:
    require_square(images.path, images.shape)
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise UserError(
            f"{images.path} is {images.dtype}", rule="images are uint8 or floating point", remedy="Convert them."
        )
    if images.nchunks_initialized < images.nchunks:
        raise UserError(
            f"{images.path} has {images.nchunks_initialized} of its {images.nchunks} chunks",
            rule="every image is there",
            remedy="Copy the data again; if those images really are black, write them with write_empty_chunks=True.",
        )


def _check_rows(array: "zarr.Array[Any] | None", rows: int) -> None:
    if array is not None and (array.dtype.kind != "f" or array.ndim != 2 or array.shape[0] != rows):
        raise UserError(
            f"{array.path} is {array.dtype} {array.shape}",
            rule=f"it is floating point ({rows}, width), one row for each image",
            remedy="Repair the file, or name another array.",
        )


def _read_ends(array: "zarr.Array[Any]", rows: int, path: Path) -> NDArray[np.int64]:
    """Where each episode ends, after checking that the ends grow and cover all rows."""
    ends = np.asarray(array[...])
    require_episodes(ends.size, path)
    fits = ends.ndim == 1 and ends.dtype.kind in "iu" and ends[-1] == rows
    if not fits or np.diff(ends, prepend=0).min() < 2:
        raise UserError(
            f"{_ENDS} of {path} is {ends.dtype} {ends.shape}, from {ends.flat[0]} to {ends.flat[-1]}",
            rule=f"ends are integers that grow by 2 or more, up to the number of rows, {rows}",
            remedy="Repair the file so that every row belongs to one episode.",
        )
    return ends.astype(np.int64)
