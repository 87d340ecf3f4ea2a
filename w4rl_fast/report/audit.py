"""RUN/audit.html: may a policy be refined in this world?"""

from collections.abc import Sequence
from pathlib import Path

from w4rl_fast.files import publish
from w4rl_fast.measure import environment_card
from w4rl_fast.report.failure import failure_figures, failure_section
from w4rl_fast.report.page import Figure, environment, page
from w4rl_fast.truth.audit import Audit
from w4rl_fast.truth.failure import Mistake

PAGE = "audit.html"


def write_audit_report(run: Path, found: Audit, mistakes: Sequence[Mistake], command: str) -> Path:
    """Write the page, and say where it lies."""
    verdict = Figure(
        "Verdict", "passes" if found.passes else "fails", "; ".join(found.complaints) or "within its limits"
    )
    sections = [failure_section(found.fidelity, mistakes), environment(environment_card(), command)]
    text = f"The world and the classifier of {run.name}, judged by real episodes that neither of them learnt from."
    shown = page("May a policy be refined in this world?", text, [verdict, *failure_figures(found.fidelity)], sections)
    publish(run / PAGE, shown.encode())
    return run / PAGE
