"""The choice between implementations of one op, made once, when the thing that uses the op is built."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Function = TypeVar("Function")

NAMES = ("reference", "cpu", "gpu")


class ImplementationUnavailable(RuntimeError):
    """An implementation asked for by name cannot run here; says why, and which ones can."""


@dataclass(frozen=True, kw_only=True)
class Implementation(Generic[Function]):
    """One way to compute an op; `unavailable` says why it cannot run here and what to do, or None if it can.

    `load` imports what the implementation needs, and is called only when it is chosen.
    """

    name: str
    load: Callable[[], Function]
    unavailable: Callable[[], str | None] = lambda: None

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"implementation {self.name!r}: a name is one of {', '.join(NAMES)}. Use one of these")


@dataclass(frozen=True, kw_only=True)
class Choice(Generic[Function]):
    """What was chosen, and for each faster implementation that `auto` passed over, why."""

    name: str
    function: Function
    passed_over: dict[str, str]

    @property
    def why(self) -> str:
        """One line for a doctor's page: empty if nothing was passed over."""
        return "; ".join(f"{name}: {reason}" for name, reason in self.passed_over.items())


def select(op: str, implementations: Sequence[Implementation[Function]], name: str = "auto") -> Choice[Function]:
    """Choose the implementation called `name`, or with "auto" the first that can run; order them fastest first."""
    passed_over: dict[str, str] = {}
    for implementation in implementations:
        if name in ("auto", implementation.name):
            reason = implementation.unavailable()
            if reason is None:
                return Choice(name=implementation.name, function=implementation.load(), passed_over=passed_over)
            passed_over[implementation.name] = reason
    available = [each.name for each in implementations if each.unavailable() is None]
    known = [each.name for each in implementations]
    why = "; ".join(passed_over.values()) or f"{op} has only {', '.join(known)}"
    raise ImplementationUnavailable(
        f"implementation {name!r} of {op} cannot run here: {why}. "
        f"Available: {', '.join(available) or 'none'}; or choose 'auto'"
    )
