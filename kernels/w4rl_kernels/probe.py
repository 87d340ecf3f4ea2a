"""Is an optional package there, and can Triton's kernels run? A reason is "why; what to do about it"."""

import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil

OLDEST, TOO_NEW = (3, 6), (3, 8)
"""The minor releases of Triton that our kernels are compiled and checked with: from the first, before the second."""
TRITON = "triton>={}.{},<{}.{}".format(*OLDEST, *TOO_NEW)


def missing(package: str, requirement: str) -> str | None:
    """Why `package` cannot be used and the command that changes it, or None if it is installed; imports nothing."""
    if importlib.util.find_spec(package) is not None:
        return None
    return f'{package} is not installed; pip install "{requirement}"'


def triton_on_gpu() -> str | None:
    """Why Triton's kernels cannot run on a GPU, or None. An interpreted one needs no compiler there either."""
    return no_triton() or (None if _is_interpreted() else no_compiler())


def triton_interpreted() -> str | None:
    """Why Triton's kernels cannot run on a CPU, or None."""
    return no_triton() if _is_interpreted() else "Triton's kernels need a GPU, or TRITON_INTERPRET=1"


def no_triton() -> str | None:
    """Why Triton is of no use to our kernels, or None: it is not installed, or in another release."""
    if (reason := missing("triton", TRITON)) is not None:
        return reason
    installed = triton_release()
    if (numbers := re.match(r"(\d+)\.(\d+)", installed)) and OLDEST <= (int(numbers[1]), int(numbers[2])) < TOO_NEW:
        return None
    return f'triton {installed} is installed, which our kernels were not checked with; pip install "{TRITON}"'


@functools.cache
def triton_release() -> str:
    """The release of Triton that is installed, from its metadata: importing it takes long."""
    for name in ("triton", "pytorch-triton"):  # the second comes with nightly builds of torch
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of unknown release"


def no_compiler() -> str | None:
    """Why Triton finds no C compiler where it looks for one, or None."""
    asked = os.environ.get("CC")
    if any(map(shutil.which, ("gcc", "clang") if asked is None else (asked,))):
        return None
    lack = "no C compiler" if asked is None else f"no C compiler at {asked!r}, where CC points"
    return f"{lack}: Triton builds the launch of a kernel with one; install gcc or clang, or set CC"


def _is_interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"
