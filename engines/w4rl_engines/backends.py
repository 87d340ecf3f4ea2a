"""The files of the backends, imported when they are used, and nothing chosen behind anyone's back."""

import importlib
from typing import cast

from w4rl_engines import registry
from w4rl_engines.errors import BackendUnavailable
from w4rl_engines.protocol import BackendModule


def backend_module(name: str) -> BackendModule:
    """The file of a backend, imported."""
    return cast("BackendModule", importlib.import_module(f"w4rl_engines.{registry.backend(name).module}"))


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
