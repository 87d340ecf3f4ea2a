"""One command that qualifies a machine with a GPU in less than nine minutes: python -m bench.gpu [SECTION ...].

It asks for torch, triton, numpy, numba and click, and for whatever engine is to be tried. The sections: what the device
reaches; the kernels of the world step at the shapes of the presets, against their predictions; rollouts of imagined
worlds beside the published loop, by backbone and number of worlds, with our kernels and without, with CUDA graphs and
without; a trace of a rollout, in which nothing may wait for the host; the other ops; the tests of the kernels; every
engine that can run here; and denoising steps. Sections that are asked for by name have all the time to themselves.

All weights and pictures are random: they are enough for speed, and for the parity that stands beside it. A section that
fails stops none of the others, but lets the status be 1. Float32 is float32 everywhere, not tf32, unless it says so.
`--dry` runs everything tiny on the CPU and times nothing worth reading.

The result goes to gpu.json and gpu.html in $OUT if that is set, and in bench/results otherwise (gpu-dry of a dry run),
with the traces beside it; python -m bench.qualify.ops gpu.json lets `auto` go by what was measured.
"""

import functools
import json
import math
import os
import sys
from importlib import import_module
from typing import Any

import torch

from bench.qualify.bare import stand_in
from bench.qualify.session import Session, allow_tf32

SECTIONS = {
    "peaks": 1, "ops": 42, "rollouts": 33, "trace": 5, "kernels": 4, "suite": 6, "engines": 6, "denoising": 4,
}  # fmt: skip
"""Modules of bench.qualify in order, and parts of the time: each has its part of what is left when it begins."""


def main(arguments: list[str]) -> int:
    dry, names = "--dry" in arguments, [each for each in arguments if each != "--dry"]
    if unknown := sorted(set(names) - set(SECTIONS)):
        print(f"error: section {', '.join(unknown)}: there is none of that name. Choose from {', '.join(SECTIONS)}")
        return 2
    if not dry and not torch.cuda.is_available():
        print("error: device cuda: torch sees no GPU here. Run this where there is one, or try it with --dry")
        return 2
    if dry:
        torch.set_num_threads(1)
        os.environ.pop("TRITON_INTERPRET", None)  # a rollout by Triton's interpreter would take minutes
    allow_tf32(False)
    result = qualify(Session(dry=dry), [each for each in SECTIONS if each in names or not names or each == "peaks"])
    print(json.dumps(result))
    return 1 if result["failed"] else 0


def qualify(session: Session, names: list[str]) -> dict[str, Any]:
    """Every section in turn; what there is so far is on the disk after each of them."""
    result: dict[str, Any] = {"dry": session.dry, "stood_in_for": stand_in(), "seconds": {}}
    parts = [SECTIONS[name] for name in names]
    card = session.attempt("environment", lambda: import_module("w4rl_fast.measure").environment_card())
    for number, name in enumerate(names):
        print(f"== {name}", flush=True)
        session.begin(parts[number] / sum(parts[number:]))
        before = session.elapsed_s
        result[name] = session.attempt(name, functools.partial(section, name, session))
        result["seconds"][name] = session.elapsed_s - before
        publish(session, result, card)
    result["targets"] = session.attempt("targets", lambda: targets(result))
    page = session.attempt("page", lambda: import_module("bench.qualify.page").page_of(result, card))
    return publish(session, result, card, page)


def section(name: str, session: Session) -> Any:
    """Imported only now: without a GPU, or with a package that is absent, the others still run."""
    return import_module(f"bench.qualify.{name}").run(session)


def targets(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Each with its figure, and whether it is met; both None where nothing was measured."""
    found = import_module("bench.qualify.targets").targets_of(result)
    for each in found:
        met = {None: "not measured", True: "met", False: "missed"}[each.met]
        print(f"target: {each.name}: {met} {'' if each.value is None else each.form.format(each.value)} {each.note}")
    return [{**each._asdict(), "met": each.met} for each in found]


def publish(session: Session, result: dict[str, Any], card: Any, page: str | None = None) -> dict[str, Any]:
    """Write what there is, and return it as JSON can hold it."""
    result |= {"left_out": session.left_out, "failed": session.failed, "elapsed_s": session.elapsed_s}
    whole = finite({"name": "gpu", "result": result, "environment": card})
    path = session.path("gpu.json")
    path.write_text(json.dumps(whole, indent=2, allow_nan=False) + "\n")
    if page is not None:
        path.with_suffix(".html").write_text(page)
        print(path.with_suffix(".html"))
    return dict(whole["result"])


def finite(value: Any) -> Any:
    """The same with numbers that JSON has no word for as text."""
    if isinstance(value, dict):
        return {str(name): finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
