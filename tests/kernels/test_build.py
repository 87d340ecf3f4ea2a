"""A machine without a C++ compiler still gets a wheel that installs and runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import torch, w4rl_engines, w4rl_fast
from w4rl_kernels.window_gather import CHOICE, gather_windows
frames = torch.arange(256, dtype=torch.uint8).view(4, 8, 8, 1)
rows = torch.tensor([[3, 0], [1, 1]])
assert torch.equal(gather_windows(frames, rows).permute(0, 1, 3, 4, 2), frames[rows] / 127.5 - 1)
print(w4rl_fast.__file__, CHOICE.name, CHOICE.why)
"""


@pytest.mark.slow
def test_without_a_compiler_the_package_is_built_and_the_reference_runs(tmp_path: Path) -> None:
    site = tmp_path / "site"
    options = ["-v", "--no-deps", "--target", str(site), "-C", f"build-dir={tmp_path / 'build'}"]
    installed = run("-m", "pip", "install", *options, str(ROOT), CXX="/nonexistent/c++", CC="/nonexistent/cc")
    assert "built without its native module: no working C++ compiler" in installed
    assert not list(site.glob("w4rl_kernels/_native*.so"))
    others = [each for each in sys.path if each.endswith("site-packages")]
    # -P and -S keep the working folder and this environment's own copy of the package out.
    ran = run("-P", "-S", "-c", PROGRAM, PYTHONPATH=os.pathsep.join([str(site), *others]))
    assert ran.startswith(f"{site / 'w4rl_fast'}")
    assert "reference cpu: the native module was not built" in ran


def run(*arguments: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **variables},
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
