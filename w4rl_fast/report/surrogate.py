"""RUN/surrogate.html: do the derivatives of the surrogate point where the world and reality go?"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from w4rl_fast.files import publish
from w4rl_fast.measure import environment_card
from w4rl_fast.report.chart import Series, line_chart
from w4rl_fast.report.page import Figure, Section, environment, page, row, table
from w4rl_fast.surrogate.agreement import GradientRow
from w4rl_fast.surrogate.examine import Examined, Part

PAGE = "surrogate.html"
COLOURS = ("c0", "c2", "c3", "c1")


def write_surrogate_report(run: Path, found: Examined, command: str) -> Path:
    """Write the page, and say where it lies."""
    steps = found.config.steps
    sections = [section_of(part) for part in found.parts]
    sections.append(environment(environment_card(), command))
    text = (
        f"The surrogate of {run.name}: {found.config.cases} stretches of {steps} steps that it never learnt from. The"
        " gradient is of the discounted return by the actions; the truth's is taken by finite differences."
    )
    shown = page("Does the surrogate agree?", text, list(figures(found)), sections)
    publish(run / PAGE, shown.encode())
    return run / PAGE


def figures(found: Examined) -> Iterable[Figure]:
    for part in found.parts:
        rows = chosen(part, "decoupled", "all")
        last = {each.truth: each for each in rows if each.horizon == found.config.steps}
        for truth, each in last.items():
            yield Figure(
                f"Cosine with {truth}", f"{each.cosine:.2f}",
                f"{part.stretches} stretches, {part.surrogate}; {each.horizon} steps, {each.count} cases",
            )  # fmt: skip


def chosen(part: Part, taken: str, cases: str) -> list[GradientRow]:
    return [each for each in part.gradients if each.taken == taken and each.cases == cases]


def section_of(part: Part) -> Section:
    title = f"On {part.stretches} stretches, {part.surrogate}"
    text = (
        "Decoupled: the surrogate's derivatives at what really came. Own rollout: along where it goes itself."
        " Touched: only stretches in which something was moved, where derivatives are hard."
    )
    charts = [cosine_chart(part, cases) for cases in ("all", "touched")]
    errors = [error_chart(part, name) for name in part.errors[0].task]
    charts += [*errors, reward_chart(part)]
    return Section(title, text, row(*charts) + table(HEAD, [cells(each) for each in part.gradients]))


def cosine_rows(found: Examined) -> list[list[str]]:
    """Both ways of taking derivatives side by side, at the first and the last horizon."""
    rows = []
    for part in found.parts:
        own = {(each.truth, each.cases, each.horizon): each for each in part.gradients if each.taken == "own rollout"}
        for each in part.gradients:
            if each.taken == "decoupled" and each.horizon in (1, found.config.steps):
                other = own[each.truth, each.cases, each.horizon]
                name = f"{part.stretches}, {part.surrogate}"
                figures = [f"{each.cosine:.3f}", f"{other.cosine:.3f}", str(each.count)]
                rows.append([name, each.truth, each.cases, str(each.horizon), *figures])
    return rows


HEAD = ("gradient", "truth", "cases", "horizon", "mean cosine", "of the mean gradient", "length", "n")


def cells(each: GradientRow) -> Sequence[str]:
    return (
        each.taken, each.truth, each.cases, str(each.horizon), f"{each.cosine:.3f}", f"{each.cosine_of_mean:.3f}",
        f"{each.length:.2f}", str(each.count),
    )  # fmt: skip


def cosine_chart(part: Part, cases: str) -> str:
    series = []
    for taken, dashed in (("decoupled", False), ("own rollout", True)):
        rows = chosen(part, taken, cases)
        for truth in dict.fromkeys(each.truth for each in rows):
            colour = COLOURS[0] if truth == "the simulator" else COLOURS[1]
            known = {each.horizon: each.cosine if each.count else None for each in rows if each.truth == truth}
            values = between(known)
            series.append(Series(truth.removeprefix("the ") + (", own" if dashed else ""), values, colour, dashed))
    return line_chart(series, title=f"Cosine, {cases} cases", unit="by horizon", x_label="steps", digits=2)


def between(known: dict[int, float | None]) -> list[float | None]:
    """A value a step, straight between the horizons that were examined."""
    steps = sorted(known)
    values: list[float | None] = []
    for step in range(1, steps[-1] + 1):
        low = max(each for each in steps if each <= step)
        high = min(each for each in steps if each >= step)
        a, b = known[low], known[high]
        if a is None or b is None:
            values.append(None)
            continue
        share = 0.0 if high == low else (step - low) / (high - low)
        values.append(a + share * (b - a))
    return values


def error_chart(part: Part, name: str) -> str:
    series = [Series(each.of, each.task[name], colour) for each, colour in zip(part.errors, COLOURS, strict=False)]
    title, _, unit = name.partition(", ")
    return line_chart(series, title=title.capitalize(), unit=f"median error, {unit}" if unit else "median error")


def reward_chart(part: Part) -> str:
    series = [Series(each.of, each.correlation, colour) for each, colour in zip(part.errors, COLOURS, strict=False)]
    return line_chart(series, title="Reward, read and real", unit="correlation", digits=2)
