"""Figures in words on the page of a qualification."""

import math
from collections.abc import Mapping
from html import escape
from typing import Any

NOT_MEASURED = "not measured"
Row = Mapping[str, Any]


def words(value: Any, form: str) -> str:
    """A figure in words; what is no number was not measured."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NOT_MEASURED
    return form.format(value) if isinstance(value, int | float) else str(value)


def answer(value: bool | None) -> str:
    return NOT_MEASURED if value is None else ("yes" if value else "no")


def entries(named: Mapping[str, str]) -> str:
    inner = "".join(f"<dt>{escape(name)}</dt><dd>{escape(why)}</dd>" for name, why in named.items())
    return f"<dl>{inner}</dl>" if inner else ""


def more(summary: str, body: str) -> str:
    """What is read only by those who open it."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"
