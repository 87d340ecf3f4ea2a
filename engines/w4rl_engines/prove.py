"""What an engine is held against: eager float32 on the rows that were given, computed once for all batch sizes."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from w4rl_engines.export import Step
from w4rl_engines.parity import Parity, Run, Tolerance, compare, require_real, rows_of
from w4rl_engines.precision import choose, sensitivity
from w4rl_engines.protocol import StepSpec

CHUNK = 32
PROBES = 4
"""Rows on which the sensitivity of layers is measured."""


class Proof:
    """Real inputs (N, ...), what eager float32 makes of them, and how far from that is too far."""

    def __init__(
        self,
        truth: Step,
        spec: StepSpec,
        rows: Sequence[Tensor],
        tolerances: Mapping[str, Tolerance],
        precision: str,
    ) -> None:
        require_real(spec, rows)
        self.spec, self.rows, self.tolerances, self.precision = spec, tuple(rows), dict(tolerances), precision
        self.wanted = self._run(truth, self.rows)

    def of(self, run: Run, batch: int, by: str) -> Parity:
        """The parity of an engine on every row."""
        return self._compare(rows_of(run, self.spec, self.rows, batch), by)

    def layers(self, step: Step) -> tuple[frozenset[str], dict[str, float]]:
        """The layers that may be narrowed without leaving the tolerance, and the error that each of them makes alone.

        Errors are shares of the tolerance, in eager torch.
        """
        few = tuple(tensor[:PROBES] for tensor in self.rows)

        def alone(run: Run) -> tuple[float, float]:
            found = self._compare(self._run(run, few), "eager")
            return found.excess, found.mean

        def together(run: Run) -> float:
            return self._compare(self._run(run, self.rows), "eager").excess

        table = sensitivity(step, self.precision, alone)
        return choose(step, self.precision, table, together), table

    def _compare(self, given: Sequence[Tensor], by: str) -> Parity:
        wanted = [tensor[: len(given[0])] for tensor in self.wanted]
        return compare(self.spec, wanted, given, self.tolerances, precision=self.precision, by=by)

    @torch.no_grad()
    def _run(self, run: Run, rows: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return rows_of(run, self.spec, rows, min(len(rows[0]), CHUNK))
