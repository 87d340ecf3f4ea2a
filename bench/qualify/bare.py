"""A machine with little more than torch: what is absent there, and no timing touches, has something stand in for it.

Only packages that w4rl_fast imports before it needs them; those that it imports in the function that uses them are
missed there, by their own error.
"""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

PACKAGES = ("gymnasium", "huggingface_hub", "numcodecs", "safetensors", "zarr")
ROOT = Path(__file__).parents[2]
SOURCES = {"w4rl_kernels": ROOT / "kernels", "w4rl_engines": ROOT / "engines"}


class Base:
    """What a class inherits from a stand-in: nothing, whatever settings it has for the package that is absent."""

    def __init_subclass__(cls, **_settings: Any) -> None:
        super().__init_subclass__()


class StandIn:
    """A name out of an absent package: it can be imported, subclassed, decorate and annotate, and do nothing else."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> "StandIn":
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn(f"{self._name}.{name}")

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        first = next(each for each in bases if isinstance(each, StandIn))
        return (Base,) if first is self else ()

    def __call__(self, *given: Any, **named: Any) -> Any:
        if len(given) == 1 and not named and isinstance(given[0], FunctionType | type):
            return given[0]
        package = self._name.partition(".")[0]
        raise ModuleNotFoundError(f"{self._name}: {package} is not installed here; pip install {package}", name=package)

    def __getitem__(self, _item: object) -> "StandIn":
        return self

    def __or__(self, _other: object) -> "StandIn":
        return self

    __ror__ = __or__

    def __instancecheck__(self, _instance: object) -> bool:
        return False


class Finder:
    """Finds a stand-in for each of these packages, and for every module inside it."""

    def __init__(self, packages: tuple[str, ...]) -> None:
        self.packages = packages

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in self.packages else None

    def create_module(self, _spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__getattr__ = StandIn(module.__name__).__getattr__


def stand_in() -> tuple[str, ...]:
    """Let w4rl_fast be imported here; returns the packages that are absent. What is installed stays as it is."""
    sys.path.extend(str(folder) for name, folder in SOURCES.items() if not is_installed(name))
    absent = tuple(name for name in PACKAGES if not is_installed(name))
    sys.meta_path.insert(0, Finder(absent))
    return absent


def is_installed(name: str) -> bool:
    """A folder that an uninstall left behind is found too, but has no file to start from."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None
