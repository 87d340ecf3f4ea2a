"""Episodes on disk: record them, keep them safe, cut windows from them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from w4rl_fast.data.foreign import open_store
    from w4rl_fast.data.store import Store, writing
    from w4rl_fast.data.windows import Batch, WindowConfig, Windows

__all__ = ["Batch", "Store", "WindowConfig", "Windows", "open_store", "writing"]

_HOMES = {"open_store": "foreign", "Store": "store", "writing": "store"}


def __getattr__(name: str) -> object:
    """Load a name when it is asked for: collectors need neither windows nor importers."""
    import importlib

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'windows')}"), name)
