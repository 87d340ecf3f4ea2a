"""The C++ arm against a mock of libfranka's headers, which no package here ships: that it compiles, and no more."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "w4rl_fast" / "robot" / "native"


def test_the_native_arm_compiles_against_such_headers():
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no C++ compiler here")
    flags = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-DW4RL_FRANKA"]
    mock = HERE / "libfranka_mock"
    command = [compiler, *flags, f"-I{mock}", f"-I{NATIVE}", str(NATIVE / "franka.cpp")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
