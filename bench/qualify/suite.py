"""The tests of the kernels, run by pytest in a process of its own with what this machine has."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.qualify.bare import ROOT, SOURCES, is_installed
from bench.qualify.session import Session

FOLDER, LIMIT_S, TAIL = "tests/kernels", 150, 3000


def run(session: Session) -> dict[str, Any] | None:
    """Counts of what passed, failed and was skipped, and the end of what was said where something failed.

    Triton's kernels run through its interpreter there; `kernels` is where they run on the GPU.
    """
    if session.dry:
        session.leave_out("suite", "it is not part of a dry run")
        return None
    if not is_installed("pytest"):
        session.leave_out("suite", "pytest is not installed; pip install pytest")
        return None
    if session.is_late("suite"):
        return None
    files = []
    for path in sorted((ROOT / FOLDER).glob("test_*.py")):
        if lacks := lacking(path):
            session.leave_out(f"suite: {path.name}", f"{', '.join(lacks)} not installed")
        else:
            files.append(str(path.relative_to(ROOT)))
    return outcome(session, files)


def outcome(session: Session, files: list[str]) -> dict[str, Any] | None:
    limit_s = min(LIMIT_S, max(1.0, session.left_s))
    options = ["-q", "-rfE", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib", "-m", "not slow"]
    paths = os.pathsep.join(map(str, (ROOT, *SOURCES.values())))
    environment = {**os.environ, "PYTHONPATH": paths, "TRITON_INTERPRET": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *files], cwd=ROOT, env=environment, timeout=limit_s,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        session.leave_out("suite", f"it takes longer than {limit_s:.0f} s")
        return None
    last = next((line for line in reversed(done.stdout.splitlines()) if line), "")
    print(f"{FOLDER}: {last}", flush=True)
    counts = {kind: int(number) for number, kind in re.findall(r"(\d+) (passed|failed|skipped|errors?)", last)}
    if done.returncode:
        session.failed["suite"] = done.stdout[-TAIL:].replace(f"{ROOT}/", "")
    return {"returncode": done.returncode, "files": files, **counts}


def lacking(path: Path) -> list[str]:
    """What a test file imports at its top that is not there."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return sorted({name for each in names if not is_there(name := each.partition(".")[0])})


def is_there(name: str) -> bool:
    return name in (*sys.stdlib_module_names, "tests", *SOURCES) or is_installed(name)
