"""What was measured to win, by architecture: `auto` takes a kernel of ours nowhere else."""

import functools
import json
from pathlib import Path
from typing import Any

import torch

TABLE = Path(__file__).with_name("measured.json")
"""{"sm_90": {op: {class of shapes: how many times less time than the fastest of torch's own}}}, by bench.gpu."""

COMMANDS = "python -m bench.gpu ops measures it, and python -m bench.qualify.ops gpu.json stores that"


def unproven(op: str, key: str) -> str | None:
    """Why `auto` should not take our kernel of an op for a class of shapes on this GPU, or None."""
    if not torch.cuda.is_available():
        return "there is no GPU here"
    major, minor = torch.cuda.get_device_capability()
    found = table().get(architecture := f"sm_{major}{minor}", {}).get(op, {}).get(key)
    if found is None:
        return f"{key}: not measured on {architecture}; {COMMANDS}"
    return None if found > 1 else f"{key}: on {architecture} torch's own is {1 / found:.2f} times faster"


@functools.cache
def table() -> dict[str, Any]:
    if not TABLE.exists():
        return {}
    made: dict[str, Any] = json.loads(TABLE.read_text())
    return made
