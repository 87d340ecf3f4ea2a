"""What was measured before on the same machine, beside what is measured now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w4rl_fast.errors import UserError
from w4rl_fast.files import read_json

SAME = ("cpu", "physical_cores", "memory_bytes", "gpus")
"""What makes a machine the same one; `torch_threads` has to be equal too."""
NOISE = 0.05
"""Two medians that are nearer than this are not told apart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A case then and now, as a ratio of speeds: above 1 it is faster now. What else changed is in `versions`."""

    case: str
    before: float
    now: float

    @property
    def ratio(self) -> float:
        return self.now / self.before

    @property
    def verdict(self) -> str:
        if abs(self.ratio - 1) < NOISE:
            return "the same"
        return "faster" if self.ratio > 1 else "slower"


def read_before(path: Path, environment: Mapping[str, Any], fields: Sequence[str] = ()) -> Mapping[str, Any]:
    """A summary that was written before, whose rows have these fields; one of another machine is refused, since speeds
    of two tell nothing.
    """
    before = read_json(path)
    try:
        card = before["environment"]
        others = [name for name in (*SAME, "torch_threads") if card.get(name) != environment.get(name)]
        rows = [{name: row[name] for name in fields} for row in before["rows"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}", rule="it is no result of a benchmark", remedy="Name the JSON file that one wrote"
        ) from error
    if others or not rows:
        said = ", ".join(f"{name} {card.get(name)} for {environment.get(name)}" for name in others) or "no rows"
        raise UserError(
            f"{path}", rule=f"it was not measured as this is: {said}",
            remedy="Compare with a result of this machine, and with as many threads",
        )  # fmt: skip
    found: Mapping[str, Any] = before
    return found


def changes(
    before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]], key: Sequence[str], speed: str
) -> list[Change]:
    """Every case that both measured, told apart by the fields of `key`; `speed` is the field that is compared."""
    then = {tuple(row[name] for name in key): float(row[speed]) for row in before if row[speed] is not None}
    return [
        Change(
            case=" ".join(str(part) for part in where if part is not None), before=then[where], now=float(row[speed])
        )
        for row in now
        if (where := tuple(row[name] for name in key)) in then and row[speed] is not None
    ]


def in_words(found: Sequence[Change], versions: Mapping[str, tuple[str | None, str | None]]) -> str:
    """A table for a terminal, and the libraries that are others now."""
    lines = [
        f"{each.case:60} {each.before:10,.4g} {each.now:10,.4g} {each.ratio:6.2f}x  {each.verdict}" for each in found
    ]
    lines += [f"{name}: {old} then, {new} now" for name, (old, new) in versions.items()]
    return "\n".join([f"{'case':60} {'then /s':>10} {'now /s':>10}   ratio", *lines])


def other_versions(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[str | None, str | None]]:
    """Packages of two environment cards that are not the same."""
    old, new = before.get("packages", {}), now.get("packages", {})
    names = sorted({*old, *new})
    return {name: (old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)}
