"""Is an optional package there?"""

import importlib.util


def missing(package: str, requirement: str) -> str | None:
    """Why `package` cannot be used and the command that changes it, or None if it is installed; imports nothing."""
    if importlib.util.find_spec(package) is not None:
        return None
    return f'{package} is not installed; pip install "{requirement}"'
