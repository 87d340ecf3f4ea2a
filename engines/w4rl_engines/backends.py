"""The files of the backends, imported when they are used, and nothing chosen behind anyone's back."""

import importlib
from pathlib import Path
from typing import cast

from w4rl_engines import registry
from w4rl_engines.errors import BackendUnavailable, FellBack
from w4rl_engines.protocol import BackendModule, Engine, Place


def backend_module(name: str) -> BackendModule:
    """The file of a backend, imported."""
    return cast("BackendModule", importlib.import_module(f"w4rl_engines.{registry.backend(name).module}"))


def load_blob(blob: Path, place: Place) -> Engine:
    """The engine in a blob; refused if it is another backend's, or if its runtime says that it does something else."""
    engine = backend_module(place.backend).load(blob, place)
    home = type(engine).__module__
    own = home == f"w4rl_engines.{registry.backend(place.backend).module}"
    said = engine.fallback() if own else f"it is run by {home}"
    if said:
        raise FellBack(f"engine {place.backend} {place.precision}", f"it fell back: {said}", "Choose another engine")
    return engine


def require_buildable(name: str) -> None:
    """Refuse a backend that cannot build here, naming those that can."""
    if reason := registry.cannot_build(name):
        able = ", ".join(each for each in registry.BACKENDS if registry.cannot_build(each) is None)
        raise BackendUnavailable(f"backend {name}", f"it cannot build here: {reason}", f"Available: {able}")


def require_runnable(name: str) -> None:
    """Refuse a backend that cannot run here, naming those that can."""
    if reason := registry.cannot_run(name):
        able = ", ".join(each for each in registry.BACKENDS if registry.cannot_run(each) is None)
        raise BackendUnavailable(f"backend {name}", f"it cannot run here: {reason}", f"Available: {able}")
