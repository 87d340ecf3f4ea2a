"""The layout of robomimic's HDF5 files, opened and checked; the frames stay on disk."""

import contextlib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w4rl_fast.data.importers.checks import require_episodes
from w4rl_fast.errors import MissingExtra, UserError, near

_PROPRIO_ENDINGS = ("_eef_pos", "_gripper_qpos")


@dataclass(frozen=True, kw_only=True, slots=True)
class Keys:
    """Which observations are the frame and the proprioception."""

    image: str
    proprio: tuple[str, ...]


@contextlib.contextmanager
def open_hdf5(path: Path, mode: str) -> Iterator[Any]:
    """An h5py.File."""
    try:
        h5py = importlib.import_module("h5py")
    except ImportError as error:
        raise MissingExtra("h5py", extra="hdf5") from error
    with h5py.File(path, mode) as file:
        yield file


def list_demos(file: Any, mask: str | None, path: Path) -> dict[int, Any]:
    """The demonstrations by number, in that order; of a filter (`mask/<name>`) only its own."""
    if "data" not in file:
        raise UserError(
            f"{path} has no group data", rule="robomimic keeps data/demo_<number>", remedy="Check the file."
        )
    names = list(file["data"])
    if mask is not None:
        filters = list(file.get("mask", {}))
        if mask not in filters:
            remedy = near(mask, filters) if filters else "Leave the filter out."
            raise UserError(f"filter {mask!r}", rule=f"{path} has {len(filters)} filters", remedy=remedy)
        names = [name.decode() for name in file["mask"][mask][:]]
    strange = [name for name in names if not name.removeprefix("demo_").isdecimal() or name not in file["data"]]
    if strange:
        raise UserError(
            f"{path} has a demonstration {strange[0]!r}",
            rule="demonstrations are data/demo_<number>",
            remedy="Rename or remove it, or choose another filter.",
        )
    require_episodes(len(names), path)
    return {number: file["data"][f"demo_{number}"] for number in sorted(int(name[5:]) for name in names)}


def choose_keys(demo: Any, image: str | None, proprio: tuple[str, ...] | None) -> Keys:
    """The keys asked for, else the only image and the robot's own position and gripper."""
    known = sorted(demo["obs"])
    if image is None:
        images = [key for key in known if key.endswith("_image")]
        if len(images) != 1:
            raise UserError(
                f"{demo.name}/obs has {len(images)} images",
                rule="a store has one camera",
                remedy=f"Name the image key, one of: {', '.join(images or known)}.",
            )
        image = images[0]
    if proprio is None:
        proprio = tuple(key for key in known if key.endswith(_PROPRIO_ENDINGS)) or ("proprio",)
    for key in (image, *proprio):
        if key not in known:
            raise UserError(
                f"{demo.name}/obs has no {key}",
                rule="an observation key names an array of every demonstration",
                remedy=f"Name the image and proprioception keys; there are: {', '.join(known)}.",
            )
    return Keys(image=image, proprio=proprio)


def check_demo(demo: Any, keys: Keys, size: int, widths: list[int]) -> None:
    """Refuse arrays of another length, shape or type; size in pixels, widths of the actions and proprioception keys."""
    length = len(demo["actions"])
    if demo.attrs.get("num_samples", length) != length:
        _refuse(f"{demo.name} says num_samples {demo.attrs['num_samples']}", f"its actions have {length} rows")
    _check_array(demo["actions"], "f", (length, widths[0]))
    _check_array(demo["rewards"], "fiu", (length,))
    for observations in ("obs", "next_obs") if "next_obs" in demo else ("obs",):
        _check_array(demo[observations][keys.image], "u", (length, size, size, 3))
        for key, width in zip(keys.proprio, widths[1:], strict=True):
            _check_array(demo[observations][key], "f", (length, width))


def _check_array(array: Any, kinds: str, shape: tuple[int, ...]) -> None:
    if array.dtype.kind not in kinds or array.shape != shape or (kinds == "u" and array.dtype.itemsize > 1):
        names = {"f": "floating point", "u": "uint8", "fiu": "numbers"}
        _refuse(f"{array.name} is {array.dtype} {array.shape}", f"it is {names[kinds]} {shape}, as in the others")


def _refuse(value: str, rule: str) -> None:
    raise UserError(value, rule=rule, remedy="Repair that demonstration, or leave it out by a filter.")
