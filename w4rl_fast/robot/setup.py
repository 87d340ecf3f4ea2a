"""How an arm is set up: its limits, its workspace, and how long the servo waits for a policy."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from w4rl_fast.errors import UserError, near
from w4rl_fast.robot import limits as table
from w4rl_fast.robot.limits import Limits
from w4rl_fast.robot.protocol import JOINTS, TICK
from w4rl_fast.robot.reference.servo import Settings
from w4rl_fast.robot.reference.tracker import make_axis

Corner = tuple[float, float, float]
READY = (0.0, -0.785398163397448, 0.0, -2.356194490192345, 0.0, 1.570796326794897, 0.785398163397448)
"""The Panda's own posture to begin from, rad."""
RADII = (0.09, 0.08, 0.08, 0.07, 0.06, 0.06, 0.02)
"""How far the arm reaches around the points that a box is compared with: elbow, forearm, wrist, joint 7, flange, hand,
tip."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workspace:
    """Where the tool may be (m, seen from the base), and boxes that no part of the arm enters."""

    low: Corner = (-0.9, -0.9, 0.0)
    high: Corner = (0.9, 0.9, 1.3)
    keep_out: tuple[tuple[Corner, Corner], ...] = ()

    def __post_init__(self) -> None:
        for low, high in ((self.low, self.high), *self.keep_out):
            if not np.shape((low, high)) == (2, 3) or not np.isfinite((low, high)).all():
                raise ValueError(f"box from {low} to {high}: two corners of three finite numbers each")
            if any(a >= b for a, b in zip(low, high, strict=True)):
                raise ValueError(f"box from {low} to {high}: the first corner is the lower one on every axis")
        if len(self.keep_out) > 16:
            raise ValueError(f"{len(self.keep_out)} boxes to keep out of: at most 16")


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """Seconds without a new target until the last one is held, a controlled stop, a latched fault; and what jumps.

    fading: over which a new target takes over from the old (s). jump, leap, twist: most that a target may differ from
    the one it replaces (rad, m, rad). astray: most that the arm may differ from its command (rad).
    """

    hold: float = 0.15
    stop: float = 0.4
    fault: float = 1.0
    fading: float = 0.05
    jump: float = 0.5
    leap: float = 0.2
    twist: float = 0.8
    astray: float = 0.3

    def __post_init__(self) -> None:
        if not math.isfinite(self.fault) or not TICK <= self.hold <= self.stop <= self.fault:
            raise ValueError(
                f"hold {self.hold}, stop {self.stop}, fault {self.fault} s: each is no earlier than the last"
            )
        for name, high in (("fading", 1.0), ("jump", 3.0), ("leap", 1.0), ("twist", 1.5), ("astray", 1.0)):
            if not 0 <= getattr(self, name) <= high:
                raise ValueError(f"{name}={getattr(self, name)}: it lies between 0 and {high}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """An arm by name, its limits as tightened, its workspace, its watchdog and its hand's opening (m).

    stiffness: with which the arm holds its joints (Nm/rad). What stands in the way is pushed as hard as that pulls
    when a joint is sent as far from where it is as `push` of its torque takes it, or the tool by `lead` (m).
    """

    arm: str = "panda"
    limits: Limits = field(default_factory=lambda: table.limits_of("panda"))
    workspace: Workspace = field(default_factory=Workspace)
    watch: Watch = field(default_factory=Watch)
    opening: float = 0.08
    stiffness: tuple[float, ...] = (800.0, 800.0, 800.0, 800.0, 150.0, 150.0, 150.0)
    push: float = 0.4
    lead: float = 0.03

    def __post_init__(self) -> None:
        if not 0 < self.opening <= 0.2:
            raise ValueError(f"opening={self.opening}: how far the fingers open lies above 0 and at most at 0.2 m")
        if len(self.stiffness) != JOINTS or not all(0 < x < math.inf for x in self.stiffness):
            raise ValueError(f"stiffness={self.stiffness}: {JOINTS} numbers above 0")
        if not 0 < self.push <= 1:
            raise ValueError(f"push={self.push}: a share above 0 and at most 1 of the joints' torque")
        if not 0.005 <= self.lead <= 0.2:
            raise ValueError(f"lead={self.lead}: it lies between 0.005 and 0.2 m")


CALM = {"scale": {"speed": 0.35, "acceleration": 1.0, "jerk": 0.1}}
"""What a policy gets unless a user says otherwise: speeds from which an arm stops before it pushes with all it has."""


def make_setup(arm: str, file: Path | None = None) -> Setup:
    """The setup of an arm: the maker's limits, calmed, or tightened as a TOML file says."""
    maker = table.limits_of(arm)
    if file is None:
        return Setup(arm=arm, limits=table.tightened(maker, CALM, "defaults"))
    data = table.read_toml(file)
    known = ["arm", "limits", "workspace", "watch", "opening", "stiffness", "push", "lead"]
    for key in data:
        if key not in known:
            raise UserError(f"{file}: {key}", rule="there is no such part", remedy=near(key, known))
    if data.get("arm", arm) != arm:
        raise UserError(
            f"{file} is for a {data['arm']}", rule=f"the arm is a {arm}", remedy="Choose another file or arm"
        )
    parts = {
        "limits": table.tightened(maker, _calm(_table(data, "limits", file)), str(file)),
        "workspace": _part(Workspace, _table(data, "workspace", file), f"{file}: workspace"),
        "watch": _part(Watch, _table(data, "watch", file), f"{file}: watch"),
    }
    others = {key: value for key, value in data.items() if key in ("opening", "stiffness", "push", "lead")}
    return cast(Setup, _part(Setup, {"arm": arm, **parts, **others}, str(file)))


def settings_of(setup: Setup) -> Settings:
    """What a servo works with: ticks instead of seconds, and margins inside the limits."""
    rows = zip(
        *(getattr(setup.limits, kind) for kind in ("low", "high", "speed", "acceleration", "jerk", "ending")),
        strict=True,
    )
    watch = setup.watch
    return Settings(
        axes=tuple(make_axis(*row) for row in rows),
        posture=READY,
        walls=(setup.workspace.low, setup.workspace.high),
        keep_out=setup.workspace.keep_out,
        radii=RADII,
        patience=(round(watch.hold / TICK), round(watch.stop / TICK), round(watch.fault / TICK)),
        jump=(watch.jump, watch.leap, watch.twist / 2),
        give=tuple(
            setup.push * torque / stiffness
            for torque, stiffness in zip(setup.limits.torque, setup.stiffness, strict=True)
        ),
        lead=setup.lead,
        fading=round(watch.fading / TICK),
        astray=watch.astray,
        opening=setup.opening,
    )


def _calm(changes: dict[str, Any]) -> dict[str, Any]:
    """What a file says of limits, over those of no file: to tighten one of them never loosens another."""
    scale = changes.get("scale", {})
    if not isinstance(scale, dict):
        return changes
    calm = {kind: share for kind, share in CALM["scale"].items() if kind not in changes}
    return {**changes, "scale": {**calm, **scale}}


def _table(data: dict[str, Any], key: str, file: Path) -> dict[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise UserError(f"{file}: {key} is {value!r}", rule="it is a table", remedy=f"Begin it with [{key}]")
    return value


def _part(kind: type[Any], data: dict[str, Any], source: str) -> Any:
    def corners(value: Any) -> Any:
        return tuple(corners(item) for item in value) if isinstance(value, list) else value

    try:
        return kind(**{key: corners(value) for key, value in data.items()})
    except (TypeError, ValueError) as error:
        raise UserError(source, rule=str(error), remedy="Correct that line") from error
