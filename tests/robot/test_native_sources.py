"""What the native core calls; and the C++ arm against a mock of libfranka's headers: that it compiles."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "w4rl_fast" / "robot" / "native"


CORE = ("kinematics", "route", "servo", "tracker")
FORBIDDEN = ("operator new", "operator delete", "alloc", "free", "pthread", "mutex", "__cxa", "Py", "clock", "std::")


@pytest.fixture(scope="module")
def compiler():
    found = shutil.which("c++") or shutil.which("g++")
    if found is None:
        pytest.skip("there is no C++ compiler here")
    return found


@pytest.mark.parametrize("name", CORE)
def test_the_core_allocates_locks_throws_and_asks_for_nothing(compiler, tmp_path, name):
    """What an object file still needs from elsewhere is mathematics and the other files of the core."""
    if shutil.which("nm") is None:
        pytest.skip("there is no nm here")
    built = tmp_path / f"{name}.o"
    subprocess.run([compiler, "-std=c++20", "-O2", "-c", str(NATIVE / f"{name}.cpp"), "-o", str(built)], check=True)
    needs = subprocess.run(["nm", "-uC", str(built)], capture_output=True, text=True, check=True).stdout.split("\n")
    calls = [line.split(" U ")[-1].split("(")[0] for line in needs]
    assert [call for call in calls for word in FORBIDDEN if word in call] == []


def test_the_native_arm_compiles_against_such_headers(compiler):
    flags = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-DW4RL_FRANKA"]
    mock = HERE / "libfranka_mock"
    command = [compiler, *flags, f"-I{mock}", f"-I{NATIVE}", str(NATIVE / "franka.cpp")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
