"""Kernels of the world step at the shapes of the presets: beside torch's own and torch.compile's, against a prediction.

Each row holds what the definition in float64 says of it, its time, what its traffic model predicts it to move and to
compute, and the share of the measured copy or GEMM that comes to. `measured` is what w4rl_kernels/measured.json holds
of this architecture: `python -m bench.qualify.ops gpu.json` writes it there, and `auto` goes by it from then on.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.qualify.session import Session
from w4rl_kernels import attention as attention_op
from w4rl_kernels import edm_step, norm_act
from w4rl_kernels.attention import traffic as attention_traffic
from w4rl_kernels.measured import TABLE
from w4rl_kernels.norm_act import traffic as norm_traffic
from w4rl_kernels.select import Switch

ATTENTIONS = ((64, 12, 8), (64, 4, 32), (36, 8, 8), (144, 64, 8), (36, 128, 8), (256, 12, 8), (1024, 8, 8))
"""Tokens, heads and features of a head: `tiny`, `tiny-dit`, `small`, twice `paper`, and two that are larger."""
GROUPS = ((16, 32, 1), (16, 96, 3), (8, 96, 3), (48, 64, 2), (24, 64, 2), (48, 128, 4), (24, 256, 8), (12, 512, 16))
"""Positions a side, channels and groups: `tiny`, `small`, `paper`."""
TOKENS = ((64, 128), (64, 192), (256, 192))
ALLOWED = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
PICTURES, LARGE = 1024, 64
"""A batch, and the megabytes that one tensor of it takes at most."""


@dataclass(frozen=True)
class Case:
    """One op at one shape: `call` on a batch by what the switch serves, and what is predicted of it."""

    op: str
    key: str
    switch: Switch[Any]
    call: Callable[[], Tensor]
    dtype: torch.dtype
    read: int
    written: int
    flops: int


def run(session: Session) -> dict[str, Any]:
    """Every case by itself; one that fails, or for which there is no time, leaves the others."""
    rows: list[dict[str, Any]] = []
    for dtype in (torch.bfloat16, torch.float32):
        for make in (attentions, groups, tokens, steps):
            for case in make(session, dtype):
                if session.is_late(0.6, f"ops: {case.key}"):
                    continue
                found = session.attempt(f"ops: {case.op}: {case.key}", lambda case=case: measure(session, case))
                if found:
                    rows.append(found)
                    print(f"{case.op}, {case.key}: x{found['ratio']:.2f}, {found['share_of_copy']:.0%} of the copy")
    capability = None if session.dry else torch.cuda.get_device_capability()
    return {"rows": rows, "measured": measured(rows), "capability": capability}


@torch.no_grad()
def measure(session: Session, case: Case) -> dict[str, Any]:
    """The kernel, torch's own operators, and those compiled; all equal to the definition."""
    implementations = ("torch",) if session.dry else ("gpu", "torch")
    outputs, timings = {}, {}
    try:
        for name in ("reference", *implementations):
            case.switch.use(name)
            outputs[name] = case.call().double()
            if name != "reference":
                timings[name] = session.timed(case.call)
        case.switch.use("torch")
        compiled = torch.compile(case.call, dynamic=False, backend="eager" if session.dry else "inductor")
        timings["compiled"] = session.timed(compiled)
    finally:
        case.switch.use("auto")
    size = float(outputs["reference"].norm()) or 1.0
    errors = {name: float((outputs[name] - outputs["reference"]).norm()) / size for name in implementations}
    allowed = ALLOWED[case.dtype]
    assert max(errors.values()) < allowed, f"off the definition by {errors}, allowed {allowed}"
    ours = timings[implementations[0]]["median_ms"]
    peak = session.peaks.get("gemm_bf16_tflops" if case.dtype is torch.bfloat16 else "gemm_fp32_tflops", float("nan"))
    return {
        "op": case.op,
        "key": case.key,
        "errors": errors,
        "timings": timings,
        "predicted_bytes": case.read + case.written,
        "predicted_flops": case.flops,
        "share_of_copy": (case.read + case.written) / 1e6 / ours / session.peaks.get("copy_gb_per_s", float("nan")),
        "share_of_gemm": case.flops / 1e9 / ours / peak,
        "ratio": min(timings["torch"]["median_ms"], timings["compiled"]["median_ms"]) / ours,
    }


def measured(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each op and class of shapes: how many times less time than the fastest of torch's own the kernel took."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if "gpu" in row["timings"]:
            found.setdefault(row["op"], {})[row["key"]] = round(row["ratio"], 3)
    return found


def batch_of(session: Session, numbers: int, dtype: torch.dtype) -> int:
    return 2 if session.dry else max(16, min(PICTURES, (LARGE << 20) // (numbers * dtype.itemsize)))


def attentions(session: Session, dtype: torch.dtype) -> list[Case]:
    cases = []
    for count, heads, features in ATTENTIONS:
        batch = batch_of(session, 3 * count * heads * features, dtype)
        qkv = torch.randn(batch, count, 3, heads, features, device=session.device, dtype=dtype)
        problem = attention_op.Problem(count, heads, features, dtype)
        moved = attention_traffic.forward(problem, batch)
        cases.append(
            Case(
                "attention", attention_op.key(problem), attention_op.SWITCH,
                lambda qkv=qkv: attention_op.attention(qkv), dtype, *moved,
            )
        )  # fmt: skip
    return cases


def groups(session: Session, dtype: torch.dtype) -> list[Case]:
    cases = []
    for side, channels, count in GROUPS:
        batch = batch_of(session, side * side * channels, dtype)
        x = torch.randn(batch, channels, side, side, device=session.device, dtype=dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        scale, shift = (0.1 * torch.randn(batch, channels, device=session.device, dtype=dtype) for _ in range(2))
        problem = norm_act.Problem(
            "group", batch, side * side, channels, count, dtype, "picture", dtype, act=True, packed=True
        )

        def call(x: Tensor = x, count: int = count, scale: Tensor = scale, shift: Tensor = shift) -> Tensor:
            return norm_act.group_norm(x, count, scale, shift, act=True)

        moved = norm_traffic.forward(problem)
        cases.append(Case("norm_act", norm_act.key(problem), norm_act.SWITCH, call, dtype, *moved))
    return cases


def tokens(session: Session, dtype: torch.dtype) -> list[Case]:
    cases = []
    for count, width in TOKENS:
        batch = batch_of(session, count * width, dtype)
        x = torch.randn(batch, count, width, device=session.device, dtype=dtype)
        scale, shift = (0.1 * torch.randn(batch, 2, width, device=session.device, dtype=dtype)).split(1, 1)
        problem = norm_act.Problem("layer", batch, count, width, 1, dtype, "picture", dtype, act=False, packed=True)

        def call(x: Tensor = x, scale: Tensor = scale, shift: Tensor = shift) -> Tensor:
            return norm_act.layer_norm(x, scale, shift)

        moved = norm_traffic.forward(problem)
        cases.append(Case("norm_act", norm_act.key(problem), norm_act.SWITCH, call, dtype, *moved))
    return cases


def steps(session: Session, dtype: torch.dtype) -> list[Case]:
    """The elementwise work of a sampler: its start, a step, and its end."""
    side = 8 if session.dry else 48
    batch = 2 if session.dry else PICTURES
    shape = (3, side, side)
    x, raw, base = (torch.rand(batch, *shape, device=session.device) * 2 - 1 for _ in range(3))
    raw = raw.to(dtype)
    where = [torch.arange(batch, device=session.device) + turn for turn in range(3)]
    frames = torch.zeros(batch, *shape, dtype=torch.uint8, device=session.device)
    ring = torch.zeros(batch, 4, *shape, dtype=torch.uint8, device=session.device)
    numbers: dict[str, Any] = {"skip": 0.3, "out": 0.7, "sigma": 2.0, "rounding": True, "dtype": dtype}

    def start() -> Tensor:
        return edm_step.start(*where, shape, stream=0, scale=5.0, into=0.2, dtype=dtype)[0]

    def advance() -> Tensor:
        return edm_step.advance(x, raw, base, after=0.5, into=0.9, **numbers)[0]

    def finish() -> Tensor:
        return edm_step.finish(x, raw, base, ring=ring, slot=1, frames=frames, **numbers)

    size = 3 * side * side
    problems = (
        (start, edm_step.Problem("start", batch, size, None, None, dtype)),
        (advance, edm_step.Problem("advance", batch, size, dtype, torch.float32, dtype, True)),
        (finish, edm_step.Problem("finish", batch, size, dtype, torch.float32, dtype, True, 2)),
    )
    return [
        Case("edm_step", edm_step.key(problem), edm_step.SWITCH, call, dtype, *edm_step.traffic(problem))
        for call, problem in problems
    ]


def main(result: Path) -> None:
    """Merge what a qualification measured into the table that `auto` goes by."""
    whole = json.loads(result.read_text())
    architecture = "sm_{}{}".format(*whole["result"]["ops"]["capability"])
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    table[architecture] = whole["result"]["ops"]["measured"]
    TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
    print(f"{TABLE}: {architecture}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
