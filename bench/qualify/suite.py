"""The tests of the kernels and of rollouts on a GPU, run by pytest in processes of their own with what is here."""

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from bench.qualify.bare import ROOT, SOURCES, is_installed
from bench.qualify.session import Session

FOLDERS = {"tests/gpu": "0", "tests/kernels": "1"}
"""And whether Triton's interpreter runs its kernels there."""
LIMIT_S, TAIL = 150, 3000


def run(session: Session) -> dict[str, Any] | None:
    """Counts of what passed, failed and was skipped, and the end of what was said where something failed.

    Tests of kernels run through Triton's interpreter; `kernels` is where these run on the GPU.
    """
    if session.dry:
        session.leave_out("suite", "it is not part of a dry run")
        return None
    if not is_installed("pytest"):
        session.leave_out("suite", "pytest is not installed; pip install pytest")
        return None
    found: Counter[str] = Counter()
    files: list[str] = []
    for folder in FOLDERS:
        if not session.is_late(f"suite: {folder}") and (here := files_of(session, folder)):
            found.update(outcome(session, folder, here))
            files += here
    return {"files": files, **found} if found else None


def files_of(session: Session, folder: str) -> list[str]:
    """Those whose packages are there."""
    files = []
    for path in sorted((ROOT / folder).glob("test_*.py")):
        if lacks := lacking(path):
            session.leave_out(f"suite: {path.name}", f"{', '.join(lacks)} not installed")
        else:
            files.append(str(path.relative_to(ROOT)))
    return files


def outcome(session: Session, folder: str, files: list[str]) -> dict[str, int]:
    limit_s = min(LIMIT_S, max(1.0, session.left_s))
    options = ["-q", "-rfE", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib", "-m", "not slow"]
    paths = os.pathsep.join(map(str, (ROOT, *SOURCES.values())))
    environment = {**os.environ, "PYTHONPATH": paths, "TRITON_INTERPRET": FOLDERS[folder]}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *files], cwd=ROOT, env=environment, timeout=limit_s,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        session.leave_out(f"suite: {folder}", f"it takes longer than {limit_s:.0f} s")
        return {}
    last = next((line for line in reversed(done.stdout.splitlines()) if line), "")
    print(f"{folder}: {last}", flush=True)
    if done.returncode:
        session.failed[f"suite: {folder}"] = done.stdout[-TAIL:].replace(f"{ROOT}/", "")
    return {kind: int(number) for number, kind in re.findall(r"(\d+) (passed|failed|skipped|errors?)", last)}


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
    return name in (*sys.stdlib_module_names, "bench", "tests", "w4rl_fast", *SOURCES) or is_installed(name)
