"""The choice between implementations of one op: once for all its calls, or by the shapes and the dtype of each."""

import logging
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

Function = TypeVar("Function")

NAMES = ("reference", "torch", "cpu", "gpu")
"""Of implementations: the definition, torch's own operators, our own on a CPU and on a GPU."""
ANYWHERE = ("torch", "reference")
"""Those that are plain operators of torch and so run on every kind of device, the faster one first."""
log = logging.getLogger("w4rl_kernels")


class ImplementationUnavailable(RuntimeError):
    """An implementation asked for by name cannot run here; says why, and which ones can."""


@dataclass(frozen=True, kw_only=True)
class Implementation(Generic[Function]):
    """One way to compute an op; `unavailable` says why it cannot run here and what to do, or None if it can.

    `load` imports what the implementation needs, and is called only when it is chosen. Of a problem, which is the op's
    own description of a call, `refuses` says why it cannot be taken, and `unproven` why `auto` should not take it.
    """

    name: str
    load: Callable[[], Function]
    unavailable: Callable[[], str | None] = lambda: None
    refuses: Callable[[Any], str | None] = lambda _: None
    unproven: Callable[[Any], str | None] = lambda _: None

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
    """Choose the implementation called `name`, or with "auto" the first that can run; order them fastest first.

    What "auto" passes over is logged.
    """
    passed_over: dict[str, str] = {}
    for implementation in implementations:
        if name in ("auto", implementation.name):
            reason = implementation.unavailable()
            if reason is None:
                return Choice(name=implementation.name, function=implementation.load(), passed_over=passed_over)
            passed_over[implementation.name] = reason
            log.info(f"{op}: not {implementation.name}: {reason}")
    available = [each.name for each in implementations if each.unavailable() is None]
    known = [each.name for each in implementations]
    why = "; ".join(passed_over.values()) or f"{op} has only {', '.join(known)}"
    raise ImplementationUnavailable(
        f"implementation {name!r} of {op} cannot run here: {why}. "
        f"Available: {', '.join(available) or 'none'}; or choose 'auto'"
    )


class Switch(Generic[Function]):
    """The implementations of one op for each kind of device, fastest first, and the one that was asked for.

    `auto` takes the first that can run, can take the problem and has been measured to win; what it passes over is
    logged once. A name that was asked for, by `use` or in the environment, is met or refused. `problems` makes of some
    facts what describes a call. A kind of device without a list of its own has what is plain torch in that of "cpu".
    """

    def __init__(
        self, op: str, implementations: Mapping[str, Sequence[Implementation[Function]]],
        problems: Callable[..., Any] = lambda size: size,
    ) -> None:  # fmt: skip
        self.op, self.implementations, self.problems = op, implementations, problems
        self.variable = f"W4RL_{op.upper()}"
        self._told: set[str] = set()
        self._answers: dict[tuple[Any, ...], str] = {}
        self.use(os.environ.get(self.variable, "auto"))

    def use(self, name: str) -> None:
        """Ask for an implementation by name from now on, or for "auto"; what was answered before is forgotten."""
        if name != "auto" and name not in NAMES:
            raise ImplementationUnavailable(
                f"implementation {name!r} of {self.op}: a name is one of {', '.join(NAMES)} or auto. "
                f"Use one of these, here or in {self.variable}"
            )
        self.asked = name
        self._answers.clear()

    def of(self, device: str, *facts: Any) -> str:
        """As `serve`, for a graph that is being compiled too: one for each size, and the choice is a constant of it.

        Away from a CPU an answer is kept until `use` is called again.
        """
        fixed = [operator.index(each) if type(each) is not bool and isinstance(each, int) else each for each in facts]
        return str(self._constant(device, *fixed))

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def _constant(self, device: str, *facts: Any) -> str:
        """Facts one by one: on the way here a whole named tuple would lose its fields."""
        if device == "cpu":  # cheap to ask, and TRITON_INTERPRET may change
            return self.serve(device, self.problems(*facts))
        call = (self.asked, device, *facts)
        if (name := self._answers.get(call)) is None:
            name = self._answers[call] = self.serve(device, self.problems(*facts))
        return name

    def serve(self, device: str, problem: Any) -> str:
        """The name of the implementation for a problem on a kind of device ("cpu", "cuda"), asked anew."""
        there = self.there(device)
        if self.asked != "auto":
            return self._asked(there, device, problem).name
        for each in there:
            reason = each.unavailable() or each.refuses(problem) or each.unproven(problem)
            if reason is None:
                return each.name
            if (said := f"{self.op} on {device}: not {each.name}: {reason}") not in self._told:
                self._told.add(said)
                log.info(said)
        raise ImplementationUnavailable(
            f"{self.op} of {problem}: nothing here takes it. Change the shapes or the dtype"
        )

    def function(self, device: str, name: str) -> Function:
        """What `serve` named."""
        return next(each for each in self.there(device) if each.name == name).load()

    def there(self, device: str) -> Sequence[Implementation[Function]]:
        """What there is for a kind of device, whether it can run or not, in the order in which "auto" asks."""
        if device in self.implementations:
            return self.implementations[device]
        return [each for name in ANYWHERE for each in self.implementations["cpu"] if each.name == name]

    def _asked(self, there: Sequence[Implementation[Function]], device: str, problem: Any) -> Implementation[Function]:
        found = next((each for each in there if each.name == self.asked), None)
        reason = (
            f"on {device} it has only {', '.join(each.name for each in there)}"
            if found is None
            else found.unavailable() or found.refuses(problem)
        )
        if found is None or reason is not None:
            others = [each.name for each in there if each.unavailable() is None and each.refuses(problem) is None]
            raise ImplementationUnavailable(
                f"implementation {self.asked!r} of {self.op} cannot take {problem}: {reason}. "
                f"{' or '.join(others) or 'nothing'} would serve it: choose that, or 'auto'"
            )
        return found
