"""Triton kernels compiled ahead of time, for GPUs that are not here: what each needs, held in a checked-in table.

python -m w4rl_kernels.ahead                      compile every kernel for every architecture and print the table
python -m w4rl_kernels.ahead NAME [NAME ...]      only those whose names begin so: an op, or a row of the table
python -m w4rl_kernels.ahead --write [NAME ...]   write it to resources.json too; rows of other names stay as they are
"""

import argparse
import importlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

ARCHITECTURES = (80, 86, 89, 90, 120)
OPS = ("two_hot", "attention", "norm_act", "noise", "edm_step")
TABLE = Path(__file__).with_name("resources.json")
ALIGNED = 16
"""Triton compiles anew for pointers and integers that are multiples of this: then it loads more at once."""


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """One kernel with the types of its arguments ("*fp32", "i32", ...) and the values of its constants.

    Every pointer is aligned, as what torch allocates is. `integers` are what launches give for arguments of type "i32",
    where it is known that they are 1 or multiples of 16. `fusion`: a product and a sum may become one operation.
    """

    kernel: Any
    signature: Mapping[str, str]
    constants: Mapping[str, int] = field(default_factory=dict)
    integers: Mapping[str, int] = field(default_factory=dict)
    warps: int = 4
    stages: int = 3
    fusion: bool = True


class Request(NamedTuple):
    """What a launch asks Triton's compiler for: the type of each argument, constants and attributes by position."""

    signature: dict[str, str]
    constants: dict[tuple[int, ...], int]
    attributes: dict[tuple[int, ...], list[list[Any]]]
    options: dict[str, int | bool]


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one program of a compiled kernel takes: registers and spilled bytes a thread, shared bytes a block."""

    registers: int
    spilled: int
    shared: int


def request(job: Ahead) -> Request:
    """As a launch specialises: integers that are 1 become constants, aligned ones and pointers are said to be so."""
    names: list[str] = job.kernel.arg_names
    constants = {**job.constants, **{name: 1 for name, value in job.integers.items() if value == 1}}
    signature = {name: "constexpr" if name in constants else job.signature[name] for name in names}
    aligned = [kind[0] == "*" or job.integers.get(name, 1) % ALIGNED == 0 for name, kind in signature.items()]
    return Request(
        signature=signature,
        constants={(names.index(name),): value for name, value in constants.items()},
        attributes={(at,): [["tt.divisibility", ALIGNED]] for at, holds in enumerate(aligned) if holds},
        options={"num_warps": job.warps, "num_stages": job.stages, "enable_fp_fusion": job.fusion},
    )


def compile_for(job: Ahead, architecture: int) -> Resources:
    """Compile a kernel for sm_<architecture>; no GPU is needed."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    asked = request(job)
    source = ASTSource(job.kernel, asked.signature, asked.constants, asked.attributes)
    made = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=asked.options)
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


def jobs() -> dict[str, Ahead]:
    """Every kernel of every op, by the name of its row."""
    return {
        f"{op}.{name}": job
        for op in OPS
        for name, job in importlib.import_module(f"w4rl_kernels.{op}.gpu").AHEAD.items()
    }


def table(beginnings: Sequence[str] = ("",)) -> dict[str, Any]:
    """The release of Triton, and what its compiler gives on every architecture the kernels whose names begin so."""
    import triton

    chosen = {name: job for name, job in jobs().items() if name.startswith(tuple(beginnings))}
    kernels = {}
    for number, (name, job) in enumerate(chosen.items(), 1):
        print(f"{number} of {len(chosen)}: {name}", file=sys.stderr)
        kernels[name] = {f"sm_{each}": vars(compile_for(job, each)) for each in ARCHITECTURES}
    return {"triton": triton.__version__, "kernels": kernels}


def merged(made: dict[str, Any], held: dict[str, Any]) -> dict[str, Any]:
    """The rows that were made, and of those held the others whose kernels are still there."""
    rows = {**held["kernels"], **made["kernels"]}
    kept = {name: rows[name] for name in jobs() if name in rows}
    if made["triton"] != held["triton"] and kept.keys() != made["kernels"].keys():
        raise ValueError(
            f"{TABLE.name} holds what Triton {held['triton']} gave, and this is {made['triton']}: a table is of one "
            "release. Write all of it: python -m w4rl_kernels.ahead --write"
        )
    return {"triton": made["triton"], "kernels": kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[""], metavar="NAME")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if strange := [name for name in given.names if not any(each.startswith(name) for each in jobs())]:
        parser.error(f"no kernel's name begins with {', '.join(strange)}: begin with one of {', '.join(OPS)}")
    made = table(given.names)
    if given.write:
        TABLE.write_text(json.dumps(merged(made, json.loads(TABLE.read_text())), indent=1) + "\n")
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
