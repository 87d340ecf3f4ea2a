"""Kernels of the world step at the shapes of the presets: beside torch's own and torch.compile's, against a prediction.

A row is one class of shapes: how far results, and gradients where they are asked for, are from the definition in
float64; the time of one call on the device, out of a CUDA graph of several, so that no host is timed; and what the
traffic model predicts, which is bytes over the measured copy or operations over the measured product, whichever takes
longer: what stays in the cache can take less. Without a gradient torch.compile is a rival too; with one it is not,
since nothing here trains compiled.

`measured` is what w4rl_kernels/measured.json holds of this architecture: `python -m bench.qualify.ops gpu.json` writes
it there, and `auto` goes by it from then on. A class counts how many times less time the kernel took than the fastest
rival; norm_act does not tell training apart, so there the smaller of both ratios counts, and a class of which either is
not known is left out: `auto` takes no kernel that loses in training.
"""

import functools
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.qualify.cases import Case, Inputs, case_of
from bench.qualify.problems import PRESETS, asked_by, asking
from bench.qualify.session import Call, Session, captured
from w4rl_fast.errors import UserError
from w4rl_fast.files import publish, read_json
from w4rl_kernels.measured import TABLE
from w4rl_kernels.select import ImplementationUnavailable

DTYPES = (torch.bfloat16, torch.float32)
"""Worlds imagine in the first, and train in the second."""
LEARNED = ("attention", "norm_act")
FUSED = {
    "flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}  # fmt: skip
"""Torch's own forms of attention, of which it takes one by itself."""
ALLOWED = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
CHUNK, REPEATS = 64, 10
"""Pictures at once in float64, and calls in a graph."""
COMMAND = "python -m bench.qualify.ops gpu.json"


def run(session: Session) -> dict[str, Any]:
    """Every case by itself; one that fails, or for which there is no time, leaves the others."""
    rows: list[dict[str, Any]] = []
    tried: set[str] = set()
    for dtype, preset in itertools.product(DTYPES[: 1 if session.dry else 2], PRESETS):
        if session.dry and preset != "tiny":
            continue
        for case in cases(session, preset, dtype):
            if session.is_late(f"ops: {preset}, {name_of(dtype)}"):
                break
            if str(case) not in tried:
                tried.add(str(case))
                rows += row_of(session, case, preset)
    capability = None if session.dry else torch.cuda.get_device_capability()
    return {"rows": rows, "measured": measured(rows), "capability": capability}


def cases(session: Session, preset: str, dtype: torch.dtype) -> Iterator[Case]:
    """What a world of a preset asks for, and behind each what it asks for when it trains."""
    for (op, _), problem in asked_by(preset, dtype).items():
        for grad in (False, True) if op in LEARNED else (False,):
            yield case_of(op, problem, dtype, few=session.dry, grad=grad)


def row_of(session: Session, case: Case, preset: str) -> list[dict[str, Any]]:
    """The row of a case, or none if it failed or the kernel does not take it."""

    def attempt() -> dict[str, Any] | None:
        try:
            with asking(session.device, ()), torch.set_grad_enabled(case.grad):
                return measure(session, case)
        except ImplementationUnavailable as error:
            session.leave_out(f"ops: {case}", str(error))
            return None

    found = session.attempt(f"ops: {case}", attempt)
    if found is None:
        return []
    print(
        f"{case}: x{found['ratio']:.2f}, {found['share_of_copy']:.0%} of the copy,"
        f" {found['share_of_roof']:.0%} of the prediction", flush=True,
    )  # fmt: skip
    return [{"preset": preset, **found}]


def measure(session: Session, case: Case) -> dict[str, Any]:
    """The kernel, checked, and its rivals; a rival that cannot run here is named with its reason."""
    given = case.make(torch.device(session.device))
    ours, theirs = names(session, case)
    case.switch.use("reference")
    if case.grad:
        for tensor in given.all:
            tensor.requires_grad_()
        given = given._replace(upstream=torch.randn_like(case.call(*given.all)[0]))
    wanted = definition(case, given)
    errors, timings, without = {}, {}, {}
    for name, call in ways(session, case, (ours, theirs), given):
        try:
            errors[name] = error_of(call(), wanted)
            timings[name] = session.timed(captured(session, call, REPEATS), REPEATS)
        except Exception as error:
            if name in (ours, theirs):
                raise
            without[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    allowed = ALLOWED[case.dtype]
    assert errors[ours] < allowed, f"off the definition by {errors}, allowed {allowed}"
    return row(session, case, ours, timings) | {"errors": errors, "without": without}


def names(session: Session, case: Case) -> tuple[str, str]:
    """Of our kernel, which a dry run does without, and of what torch itself has."""
    theirs = "torch" if any(each.name == "torch" for each in case.switch.implementations["cpu"]) else "reference"
    return (theirs if session.dry else "gpu"), theirs


def ways(session: Session, case: Case, asked: tuple[str, str], given: Inputs) -> Iterator[tuple[str, Call]]:
    """Everything that computes a case, one after the other: what is asked of the switch holds until the next."""
    for name in dict.fromkeys(asked):
        case.switch.use(name)
        yield name, lambda: results(case, given)
    if not case.grad:
        torch.compiler.reset()  # it keeps eight versions of one function, and then runs it eager
        backend = "eager" if session.dry else "inductor"
        fast = torch.compile(lambda *tensors: case.call(*tensors), dynamic=False, fullgraph=True, backend=backend)
        yield "compiled", lambda: fast(*given.all)
    for name, form in () if session.dry or case.op != "attention" else FUSED.items():
        yield name, functools.partial(within, form, case, given)


def within(form: SDPBackend, case: Case, given: Inputs) -> tuple[Tensor, ...]:
    with sdpa_kernel(form):
        return results(case, given)


def results(case: Case, given: Inputs) -> tuple[Tensor, ...]:
    """What a call makes, and with an upstream gradient of the first of that, the gradients of all it takes."""
    made = case.call(*given.all)
    if given.upstream is None:
        return made
    return made[0].detach(), *torch.autograd.grad(made[0], given.all, given.upstream)


def definition(case: Case, given: Inputs) -> list[Tensor]:
    """The same by the definition, some pictures at a time; gradients of what they share are sums."""
    count = -(-case.pictures // CHUNK)
    slopes = [None] * count if given.upstream is None else given.upstream.split(CHUNK)
    parts = zip(*(each.split(CHUNK) for each in given.rows), strict=True)
    found = [
        [each.clone() for each in results(case, Inputs(list(part), given.shared, slope))]
        for part, slope in zip(parts, slopes, strict=True)
    ]
    columns = list(zip(*found, strict=True))
    split = len(columns) - len(given.shared) * case.grad
    return [*map(torch.cat, columns[:split]), *(torch.stack(each).double().sum(0) for each in columns[split:])]


def error_of(made: tuple[Tensor, ...], wanted: list[Tensor]) -> float:
    """The largest of all results: the norm of the difference over the norm of what was wanted."""
    pairs = ((one.double(), other.double()) for one, other in zip(made, wanted, strict=True))
    return max(float((one - other).norm() / (other.norm() or 1.0)) for one, other in pairs)


def row(session: Session, case: Case, ours: str, timings: dict[str, dict[str, float]]) -> dict[str, Any]:
    """What a case came to, beside its prediction."""
    copy, roof = (session.peaks.get(name, float("nan")) for name in ("copy_gb_per_s", case.roof))
    by_copy, by_roof = case.moved / 1e6 / copy, case.flops / 1e9 / roof
    took = timings[ours]["median_ms"]
    fastest = min((name for name in timings if name != ours), key=lambda name: timings[name]["median_ms"], default=ours)
    return {
        "op": case.op,
        "key": case.key,
        "gradient": case.grad,
        "dtype": name_of(case.dtype),
        "pictures": case.pictures,
        "ours": ours,
        "timings": timings,
        "predicted_bytes": case.moved,
        "predicted_flops": case.flops,
        "predicted_ms": max(by_copy, by_roof),
        "median_ms": took,
        "share_of_copy": by_copy / took,
        "share_of_gemm": by_roof / took,
        "share_of_roof": max(by_copy, by_roof) / took,
        "fastest": fastest,
        "ratio": timings[fastest]["median_ms"] / took,
    }


def measured(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each op and class of shapes the ratio that `auto` goes by; classes that are not known whole are left out."""
    found: dict[tuple[str, str], dict[bool, float]] = {}
    for each in rows:
        if each["ours"] == "gpu":
            found.setdefault((each["op"], each["key"]), {})[each["gradient"]] = each["ratio"]
    table: dict[str, dict[str, float]] = {}
    for (op, key), ratios in found.items():
        if op != "norm_act" or len(ratios) == 2:
            table.setdefault(op, {})[key] = round(min(ratios.values()), 3)
    return table


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def main(arguments: list[str]) -> int:
    """Write what was measured into the table that `auto` goes by, in the place of what that architecture had."""
    if len(arguments) != 1:
        print(f"error: {len(arguments)} arguments: one result of python -m bench.gpu is taken. Run {COMMAND}")
        return 2
    try:
        architecture, ratios = taken(Path(arguments[0]))
        table = read_json(TABLE) if TABLE.exists() else {}
        publish(TABLE, (json.dumps({**table, architecture: ratios}, indent=1, sort_keys=True) + "\n").encode())
    except UserError as error:
        print(f"error: {error}")
        return 2
    won, count = sum(ratio > 1 for each in ratios.values() for ratio in each.values()), sum(map(len, ratios.values()))
    print(f"{TABLE}: {architecture}: {count} classes of shapes, {won} of them won")
    return 0


def taken(path: Path) -> tuple[str, dict[str, dict[str, float]]]:
    """The architecture and the ratios of a result; one that measured no kernel on a GPU is refused."""
    whole = read_json(path)
    result = whole.get("result") if isinstance(whole, dict) else None
    remedy = "Give the gpu.json of python -m bench.gpu ops, run where there is a GPU"
    if not isinstance(result, dict) or result.get("dry") is not False:
        raise UserError(str(path), rule="it is no result of a run on a GPU; a dry run measures nothing", remedy=remedy)
    ops = result.get("ops")
    if not isinstance(ops, dict) or not ops.get("measured"):
        raise UserError(str(path), rule="no kernel was measured in that run", remedy=remedy)
    capability = ops.get("capability")
    if not isinstance(capability, list) or len(capability) != 2:
        raise UserError(f"{path}: capability {capability}", rule="it does not say which GPU that was", remedy=remedy)
    try:
        return "sm_{:d}{:d}".format(*capability), {
            op: {key: float(ratio) for key, ratio in each.items()} for op, each in ops["measured"].items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path}: measured", rule=f"it holds no ratios: {error}", remedy=remedy) from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
