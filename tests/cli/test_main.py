import pytest

import w4rl_fast
from w4rl_fast.cli import COMMANDS
from w4rl_fast.errors import UserError


@pytest.mark.parametrize("imported", ["w4rl_fast", "w4rl_fast.cli", "w4rl_fast.tasks", "w4rl_fast.data"])
def test_importing_does_not_load_what_is_heavy(run_python, imported):
    heavy = ("torch", "zarr", "mujoco", "metaworld", "numba", "h5py", "gymnasium", "rich")
    code = f"import sys, {imported}; print(*(name for name in {heavy} if name in sys.modules))"
    assert run_python(code).split() == []


@pytest.mark.parametrize("arguments", [["--help"], ["tasks", "--json"], ["collect", "--help"], ["data", "--help"]])
def test_what_needs_no_torch_does_not_load_it(run_python, arguments):
    code = f"""
import sys
from w4rl_fast.cli import main
try:
    main({arguments})
finally:
    print("heavy:", *(name for name in ("torch", "mujoco", "zarr") if name in sys.modules))
"""
    assert run_python(code).splitlines()[-1] == "heavy:"


def test_help_lists_every_command_and_each_has_its_own(cli):
    listed = cli("--help")
    assert listed.exit_code == 0
    for name, line in COMMANDS.items():
        assert name in listed.stdout
        assert line.split()[0] in listed.stdout
        assert cli(name, "--help").exit_code == 0


def test_the_version_is_the_package_s(cli):
    assert cli("--version").stdout.split()[-1] == w4rl_fast.__version__


@pytest.mark.parametrize("arguments", [["colect"], ["data", "chek", "x"], ["collect", "--frames", "3"]])
def test_a_command_or_option_that_is_not_there_is_refused(cli, arguments):
    result = cli(*arguments)
    assert result.exit_code == 2
    assert "No such" in result.stderr


BAD = ["data", "info", "nowhere"]


def test_an_error_is_one_line_and_debug_shows_where_it_came_from(cli, refusal, tmp_path):
    path = tmp_path / "nowhere"
    assert str(path) in refusal("data", "info", path)
    result = cli("--debug", "data", "info", path)
    assert isinstance(result.exception, UserError)


def test_debug_prints_a_traceback(python_environment, tmp_path):
    import subprocess
    import sys

    code = "from w4rl_fast.cli import main; main(prog_name='w4rl')"
    said = {}
    for debug in ([], ["--debug"]):
        command = [sys.executable, "-c", code, *debug, "data", "info", str(tmp_path)]
        said[bool(debug)] = subprocess.run(command, env=python_environment, capture_output=True, text=True, check=False)
    assert said[False].returncode == 2
    assert "Traceback" not in said[False].stderr
    assert said[True].returncode != 0
    assert "Traceback" in said[True].stderr
    assert "UserError" in said[True].stderr


def test_an_error_of_ours_is_not_hidden(cli, monkeypatch):
    """Only what a user can act on becomes one line; a mistake in the program keeps its traceback."""

    def broken(_):
        raise ValueError("a mistake of ours")

    monkeypatch.setattr("w4rl_fast.data.check.check_store", broken)
    assert isinstance(cli("data", "check", "x").exception, ValueError)
