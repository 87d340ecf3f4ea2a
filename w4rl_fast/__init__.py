"""w4rl_fast: diffusion world models fast enough to train robots in."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    from w4rl_fast.imagine.load import LoadedRun

__version__ = "0.1.0"


def load(run: "str | PathLike[str]") -> "LoadedRun":
    """The run in a folder: `load(RUN).imagine(num_worlds=64)` is a vector environment of gymnasium."""
    from pathlib import Path

    from w4rl_fast.imagine.load import LoadedRun  # imported only now, so that `import w4rl_fast` takes an instant

    return LoadedRun(Path(run))
