"""Triton kernels compiled ahead of time, for GPUs that are not here: what each needs, held in a checked-in table.

python -m w4rl_kernels.ahead            compile every kernel for every architecture and print the table
python -m w4rl_kernels.ahead --write    write it to resources.json, beside this file
"""

import importlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ARCHITECTURES = (80, 86, 89, 90, 120)
OPS = ("two_hot", "attention", "norm_act", "edm_step")
TABLE = Path(__file__).with_name("resources.json")


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """One kernel with the types of its arguments ("*fp32", "i32", ...) and the values of its constants."""

    kernel: Any
    signature: Mapping[str, str]
    constants: Mapping[str, int] = field(default_factory=dict)
    warps: int = 4


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one program of a compiled kernel takes: registers and spilled bytes a thread, shared bytes a block."""

    registers: int
    spilled: int
    shared: int


def compile_for(job: Ahead, architecture: int) -> Resources:
    """Compile a kernel for sm_<architecture>; no GPU is needed."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {name: job.signature.get(name, "constexpr") for name in job.kernel.arg_names}
    source = ASTSource(job.kernel, signature, {(job.kernel.arg_names.index(k),): v for k, v in job.constants.items()})
    made = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options={"num_warps": job.warps})
    registers, spilled = usage(made.asm["cubin"])
    return Resources(registers=registers, spilled=spilled, shared=made.metadata.shared)


def usage(cubin: bytes) -> tuple[int, int]:
    """Registers and stack bytes (where spills go) a thread of the one kernel in a binary."""
    import triton

    tool = next(Path(triton.__file__).parent.rglob("cuobjdump"))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    found = re.search(r"REG:(\d+) STACK:(\d+)", said.stdout)
    assert found, said.stdout
    return int(found[1]), int(found[2])


def table() -> dict[str, Any]:
    """The release of Triton, and what its compiler gives every kernel of every op on every architecture."""
    import triton

    jobs = {
        f"{op}.{name}": job
        for op in OPS
        for name, job in importlib.import_module(f"w4rl_kernels.{op}.gpu").AHEAD.items()
    }
    kernels = {
        name: {f"sm_{architecture}": vars(compile_for(job, architecture)) for architecture in ARCHITECTURES}
        for name, job in jobs.items()
    }
    return {"triton": triton.__version__, "kernels": kernels}


def main() -> None:
    text = json.dumps(table(), indent=1)
    if "--write" in sys.argv:
        TABLE.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
