"""What an arm's maker allows, and what a user tightens; nothing can be loosened."""

import tomllib
from collections.abc import Callable
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
    """Seven numbers each: range (rad), rad/s, rad/s2, rad/s3, Nm, and how hard braking before the range's end may be."""

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
    for key in [*changes, *scale]:
        if key not in [*kinds, "scale"]:
            raise UserError(f"{source}: {key}", rule="there is no such limit", remedy=near(key, kinds))
    table: dict[str, Seven] = {}
    for kind in kinds:
        maker = getattr(limits, kind)
        factor = scale.get(kind, 1.0)
        wanted = tuple(float(x) for x in changes.get(kind, [factor * x for x in maker]))
        worse: Callable[[float, float], bool] = float.__lt__ if kind in LOWER_IS_LOOSER else float.__gt__
        for joint, (mine, allowed) in enumerate(zip(wanted, maker, strict=False), start=1):
            if worse(mine, float(allowed)):
                raise UserError(
                    f"{source}: {kind} of joint {joint} is {mine:g}",
                    rule=f"the maker allows {allowed:g}, and a limit can only be tightened",
                    remedy=f"Write at {'least' if kind in LOWER_IS_LOOSER else 'most'} {allowed:g}",
                )
        table[kind] = wanted
    try:
        return Limits(**table)
    except ValueError as error:
        raise UserError(source, rule=str(error), remedy="Correct that line") from error


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
