"""Which rollouts a qualification makes, in which order."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch

from bench.qualify.problems import SWITCHES
from bench.qualify.session import Session
from w4rl_fast.imagine.baseline import STEPS
from w4rl_kernels import measured

SAMPLING = (STEPS, 1)
PLAN = (
    ("small", 1024), ("paper", 256), ("tiny", 1024), ("tiny-dit", 1024), ("small", 64), ("tiny", 64), ("tiny-dit", 64),
    ("paper", 64), ("small", 4096), ("tiny", 4096), ("tiny-dit", 4096), ("small", 256), ("tiny", 256),
    ("tiny-dit", 256),
)  # fmt: skip
"""Backbones and worlds: those that the targets name first, the others while there is time."""
WHOLE = 4
"""So many of these are imagined in every way, the others in fewer."""
SLICE = 1024
BASELINE, EAGER = "baseline", "eager"

Kernels = Literal["off", "on", "auto"]
Graph = Literal["", "step", "rollout"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One way to imagine; the baseline in tf32 is what torch does to convolutions when nobody forbids it."""

    backbone: str
    engine: str
    precision: str
    steps: int
    worlds: int
    graph: Graph = ""
    kernels: Kernels = "off"

    def __str__(self) -> str:
        return f"{self.backbone} {self.steps}, {self.worlds} worlds, {way_of(asdict(self))}"

    @property
    def slice_size(self) -> int:
        return self.worlds if self.engine == BASELINE else min(self.worlds, SLICE)


def way_of(case: Mapping[str, Any]) -> str:
    """How a case imagines, whatever and however many it does."""
    graph = f", {case['graph']} as a graph" if case["graph"] else ""
    kernels = {"off": "", "on": ", our kernels", "auto": ", measured kernels"}[case["kernels"]]
    return f"{case['engine']} {case['precision']}{graph}{kernels}"


def cases(session: Session, backbone: str, worlds: int, *, whole: bool) -> Iterator[Case]:
    """Eager float32 before all others of its number of steps, since they are held to it."""
    for steps in SAMPLING:
        case = Case(backbone=backbone, worlds=worlds, engine=EAGER, precision="float32", steps=steps)
        yield case
        if steps == STEPS:
            yield replace(case, engine=BASELINE)
            if whole and not session.dry:
                yield replace(case, engine=BASELINE, precision="tf32")
        for graph, kernels in ways(session, whole=whole):
            yield replace(case, precision="bfloat16", graph=graph, kernels=kernels)


def ways(session: Session, *, whole: bool) -> Iterator[tuple[Graph, Kernels]]:
    """What is launched, and what computes, of bfloat16."""
    if whole or session.dry:
        yield from (("", "off"), ("", "on"))
    if whole and not session.dry:
        yield "step", "off"
    yield from (("rollout", "off"), ("rollout", "on"))
    if not session.dry and measured.table().get("sm_{}{}".format(*torch.cuda.get_device_capability())):
        yield "rollout", "auto"


def asked(session: Session, case: Case) -> Collection[str] | None:
    """The ops that our kernels are asked for."""
    if case.engine == BASELINE:
        there = next(each for each in SWITCHES["noise"].implementations[session.device] if each.name == "gpu")
        return () if session.dry or there.unavailable() else ("noise",)
    return {"off": (), "on": SWITCHES, "auto": None}[case.kernels]
