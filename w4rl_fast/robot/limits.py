"""What an arm's maker allows, and what a user tightens; nothing can be loosened."""

import math
import tomllib
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from w4rl_fast.errors import UserError, near
from w4rl_fast.robot.protocol import JOINTS

Seven = tuple[float, ...]
LOWER_IS_LOOSER = {"low"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Seven numbers each: range (rad), rad/s, rad/s2, rad/s3, Nm, and how hard it may brake before the range's end."""

    low: Seven
    high: Seven
    speed: Seven
    acceleration: Seven
    jerk: Seven
    torque: Seven
    ending: Seven

    def __post_init__(self) -> None:
        for field in fields(self):
            values = getattr(self, field.name)
            if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
                raise ValueError(f"{field.name}={values}: every number is finite")
            if len(values) != JOINTS:
                raise ValueError(f"{field.name} has {len(values)} numbers: one for each of the {JOINTS} joints")
            if field.name not in {"low", "high"} and min(values) <= 0:
                raise ValueError(f"{field.name}={values}: every number is above 0")
        if any(low >= high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(f"low={self.low}, high={self.high}: a range begins below its end")


@cache
def makers_limits() -> dict[str, Limits]:
    """The makers' tables by the name of the arm."""
    text = resources.files("w4rl_fast.robot").joinpath("limits.toml").read_text()
    return {name: Limits(**{key: tuple(row) for key, row in table.items()}) for name, table in _parse(text).items()}


def limits_of(arm: str) -> Limits:
    known = makers_limits()
    if arm not in known:
        raise UserError(f"arm {arm!r}", rule="there are no limits for it", remedy=near(arm, list(known)))
    return known[arm]


def tightened(limits: Limits, changes: dict[str, Any], source: str) -> Limits:
    """The limits with some of them replaced, or with all of a kind times `scale`; never beyond the maker's."""
    kinds = [field.name for field in fields(Limits)]
    scale = changes.get("scale", {})
    _require(isinstance(scale, dict), f"{source}: scale", "it is a table of factors, such as scale = { speed = 0.5 }")
    for key in [*(key for key in changes if key != "scale"), *scale]:
        if key not in kinds:
            raise UserError(f"{source}: {key}", rule="there is no such limit", remedy=near(key, kinds))
    table: dict[str, Seven] = {}
    for kind in kinds:
        maker = getattr(limits, kind)
        factor = scale.get(kind, 1.0)
        _require(_is_number(factor), f"{source}: scale of {kind} is {factor!r}", "it is a number")
        wanted = changes.get(kind, [factor * x for x in maker])
        right = isinstance(wanted, list) and len(wanted) == JOINTS and all(_is_number(x) for x in wanted)
        _require(right, f"{source}: {kind} is {wanted!r}", f"it is a list of {JOINTS} finite numbers")
        for joint, (mine, allowed) in enumerate(zip(wanted, maker, strict=True), start=1):
            lower = kind in LOWER_IS_LOOSER
            if mine < allowed if lower else mine > allowed:
                raise UserError(
                    f"{source}: {kind} of joint {joint} is {mine:g}",
                    rule=f"the maker allows {allowed:g}, and a limit can only be tightened",
                    remedy=f"Write at {'least' if lower else 'most'} {allowed:g}",
                )
        table[kind] = tuple(float(x) for x in wanted)
    try:
        return Limits(**table)
    except ValueError as error:
        raise UserError(source, rule=str(error), remedy="Correct that line") from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _require(right: bool, value: str, rule: str) -> None:
    if not right:
        raise UserError(value, rule=rule, remedy="Correct that line")


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file of a user, or an error that names the line."""
    try:
        return _parse(path.read_text())
    except FileNotFoundError:
        raise UserError(f"limits {path}", rule="there is no such file", remedy="Give the path of a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"limits {path}", rule=f"it is not TOML: {error}", remedy="Correct that line") from error


def _parse(text: str) -> dict[str, Any]:
    return tomllib.loads(text)
