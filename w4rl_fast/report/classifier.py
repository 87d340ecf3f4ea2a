"""RUN/reward.html: can this classifier be believed?"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from w4rl_fast.files import publish
from w4rl_fast.measure import environment_card
from w4rl_fast.report.chart import Series, bar_chart, line_chart
from w4rl_fast.report.failure import HEAD, confusion_cells, mistake_pictures
from w4rl_fast.report.page import Figure, Section, environment, page, row, table
from w4rl_fast.reward import Rule
from w4rl_fast.truth.classifier import Calibration, ReadingQuality
from w4rl_fast.truth.failure import FailureFidelity, Mistake

PAGE, SUMMARY = "reward.html", "reward-quality.json"


def write_reward_report(
    run: Path, quality: ReadingQuality, sections: Sequence[Section], summary: Mapping[str, object], command: str
) -> dict[str, object]:
    """Write the page and, last, the summary, which is returned with where the page lies."""
    card = environment_card()
    whole = {**summary, "page": str(run / PAGE), "command": command, "environment": card}
    said = f"{quality.frames} real frames of episodes that training never saw."
    shown = page("Does it know success?", said, headline(quality), [*sections, environment(card, command)])
    publish(run / PAGE, shown.encode())
    publish(run / SUMMARY, json.dumps(whole, indent=1, allow_nan=False).encode())
    return whole


def headline(quality: ReadingQuality) -> list[Figure]:
    false, found = quality.false_positives, quality.found
    return [
        Figure("Precision", f"{quality.precision:.3f}", "of frames called success"),
        Figure("Recall", f"{quality.recall:.3f}", "of frames that show success"),
        Figure(
            "False successes", f"{false.successes} of {false.episodes}", f"at most {false.high:.1%} with 95 % trust"
        ),
        Figure(
            "Successes found", f"{found.successes} of {found.episodes}", f"at least {found.low:.1%} with 95 % trust"
        ),
        Figure("Calibration error", f"{quality.calibration.error:.3f}", "mean gap between said and true"),
    ]


def calibration_section(calibration: Calibration, rule: Rule) -> Section:
    """Said against true, and how many frames lie where."""
    said = (
        f"Frames by tenths of the probability they were given. An episode succeeds after {rule.hits} frame(s) in a row"
        f" at {rule.threshold:.4g} or above."
    )
    lines = [Series("were successes", calibration.true, "c0"), Series("said", calibration.said, "c1", dashed=True)]
    reliability = line_chart(lines, title="Calibration", unit="share of frames", x_label="tenth", digits=2)
    groups = [str(number + 1) for number in range(len(calibration.frames))]
    shares = [100 * count / max(sum(calibration.frames), 1) for count in calibration.frames]
    spread = bar_chart(groups, [Series("frames", shares, "c0")], title="How sure it is", unit="% of frames by tenth")
    return Section("Is a probability a probability?", said, row(reliability, spread))


def audit_section(fidelity: FailureFidelity, mistakes: Sequence[Mistake]) -> Section:
    """What a policy could exploit: failures read as successes, on real frames and on those of the world."""
    head = ["classifier on", *HEAD]
    rows = [["real frames", *confusion_cells(fidelity.real)], ["imagined frames", *confusion_cells(fidelity.imagined)]]
    said = "Held-out episodes as they happened, and the same actions replayed by the world from the first frame."
    return Section("Audit", said, table(head, rows) + mistake_pictures(mistakes))
