"""Every Triton kernel compiles for every architecture, and takes no more than the checked-in table says."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from w4rl_kernels.ahead import ARCHITECTURES, TABLE


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason='pip install "w4rl-fast[triton]"')
def test_no_kernel_takes_more_than_the_table_says() -> None:
    """In a process of its own: here Triton is imported with its interpreter."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "w4rl_kernels.ahead"]
    table = json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    if table["triton"] != json.loads(TABLE.read_text())["triton"]:
        pytest.skip("the table holds what another release of Triton gave; write it anew with -m w4rl_kernels.ahead")
    made, held = table["kernels"], json.loads(TABLE.read_text())["kernels"]
    assert made.keys() == held.keys()
    for name, architectures in made.items():
        for architecture, taken in architectures.items():
            for resource, amount in taken.items():
                assert amount <= held[name][architecture][resource], (name, architecture, resource)


def test_the_table_holds_every_architecture_and_no_spills() -> None:
    for name, architectures in json.loads(TABLE.read_text())["kernels"].items():
        assert list(architectures) == [f"sm_{number}" for number in ARCHITECTURES], name
        assert all(taken["spilled"] == 0 for taken in architectures.values()), name
