"""Curves and bars as inline SVG; the page's style sheet gives colours, so that they follow light and dark."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 62, 30, 40
LABEL_GAP = 13
TINY = 1e-6
"""Smaller differences are none: ticks are round to twelve digits."""


@dataclass(frozen=True, slots=True)
class Series:
    """One value a step, None where there is none; `colour` is a class of the style sheet, from c0 (the subject) on.

    `intervals` are the low and high of each value.
    """

    name: str
    values: Sequence[float | None]
    colour: str
    dashed: bool = False
    intervals: Sequence[tuple[float, float] | None] = ()


@dataclass(frozen=True, slots=True)
class Scale:
    """From values between low and high to pixels between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    unit: str,
    x_label: str = "step",
    digits: int = 1,
    marks: Sequence[str] = (),
) -> str:
    """Curves over the steps 1 to n, with a legend above and the last value of each beside its end; `marks` are written
    under the steps instead of their numbers.
    """
    count = max(len(each.values) for each in series)
    known = [value for each in series for value in each.values if value is not None]
    known += [value for each in series for pair in each.intervals if pair is not None for value in pair]
    ticks = nice_ticks(min(known, default=0), max(known, default=1))
    x = Scale(1, max(count, 2), LEFT, WIDTH - RIGHT)
    y = Scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP)
    parts = [legend(series), *grid(y, ticks, WIDTH - RIGHT)]
    names = marks or [str(step) for step in range(1, count + 1)]
    parts += [text(x(step), HEIGHT - BOTTOM + 16, names[step - 1], "middle") for step in marked_steps(count)]
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_label, "middle"))
    parts += [band(each, x, y) for each in series if each.intervals]
    parts += [path(each, x, y) for each in series]
    parts += end_labels(series, y, x(count) + 6, digits)
    return frame(title, unit, parts)


def bar_chart(
    groups: Sequence[str], series: Sequence[Series], *, title: str, unit: str, digits: int = 1
) -> str:  # fmt: skip
    """For each group one bar of each series, standing on zero, with its value above."""
    known = [value for each in series for value in each.values if value is not None]
    ticks = nice_ticks(min(0, *known), max(0, *known))
    y = Scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP + LABEL_GAP)  # room for the value of a bar that fills it
    parts = [legend(series), *grid(y, ticks, WIDTH - 12)]
    across = (WIDTH - LEFT - 12) / len(groups)
    width = min(34.0, across * 0.8 / len(series))
    for number, group in enumerate(groups):
        middle = LEFT + across * (number + 0.5)
        parts.append(text(middle, HEIGHT - BOTTOM + 16, group, "middle"))
        for place, each in enumerate(series):
            value = each.values[number]
            if value is not None:
                left = middle + (place - len(series) / 2) * width
                between = each.intervals[number] if each.intervals else None
                parts += bar(left, width - 2, value, y, each.colour, digits, between)
    return frame(title, unit, parts)


def bar(
    left: float, width: float, value: float, y: Scale, colour: str, digits: int, between: tuple[float, float] | None
) -> list[str]:
    """A rectangle, a line over the interval of its value, and the value above both."""
    top, bottom = sorted((y(value), y(0)))
    middle = left + width / 2
    parts = [f'<rect class="{colour}" x="{left:.1f}" y="{top}" width="{width:.1f}" height="{bottom - top:.1f}"/>']
    if between is not None:
        low, high = y(between[0]), y(between[1])
        parts.append(f'<line class="whisker" x1="{middle:.1f}" x2="{middle:.1f}" y1="{low}" y2="{high}"/>')
        top = min(top, high)
    return [*parts, text(middle, top - 4, f"{value:.{digits}f}", "middle", "value")]


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values that enclose low and high, about `count` of them, 1, 2 or 5 times a power of ten apart."""
    span = high - low
    if span < TINY:
        span = max(abs(high), TINY)
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * count >= span * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def marked_steps(count: int) -> list[int]:
    """The first step, the last, and round ones between them that keep their distance."""
    every = next(step for power in (1, 10, 100, 1000, 10_000) for step in (power, 5 * power) if count <= 7 * step)
    between = [step for step in range(every, count, every) if step > 1 and count - step > every / 2]
    return sorted({1, *between, count})


def grid(y: Scale, ticks: Sequence[float], right: int) -> Iterable[str]:
    for tick in ticks:
        yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y(tick)}" y2="{y(tick)}"/>'
        yield text(LEFT - 6, y(tick) + 4, f"{tick:g}", "end")


def path(series: Series, x: Scale, y: Scale) -> str:
    """A line through the values, broken where there is none; a lone point is a dot."""
    pieces: list[list[str]] = [[]]
    for step, value in enumerate(series.values, 1):
        if value is None:
            pieces.append([])
        else:
            pieces[-1].append(f"{x(step)} {y(value)}")
    drawn = " ".join(f"M{' L'.join(piece)}" + (" h0.1" if len(piece) == 1 else "") for piece in pieces if piece)
    dashed = " dashed" if series.dashed else ""
    return f'<path class="line {series.colour}{dashed}" d="{drawn}"/>'


def band(series: Series, x: Scale, y: Scale) -> str:
    """What lies between the intervals of a curve that has one at every value, pale."""
    known = [(step, pair) for step, pair in enumerate(series.intervals, 1) if pair is not None]
    there = [f"{x(step)} {y(high)}" for step, (_, high) in known]
    back = [f"{x(step)} {y(low)}" for step, (low, _) in reversed(known)]
    return f'<path class="band {series.colour}" d="M{" L".join([*there, *back])} Z"/>'


def end_labels(series: Sequence[Series], y: Scale, x: float, digits: int) -> Iterable[str]:
    """The last value of each curve, moved apart where they would overlap."""
    last = [(y(each.values[-1]), each) for each in series if each.values and each.values[-1] is not None]
    floor = float(TOP - LABEL_GAP)
    for height, each in sorted(last, key=lambda pair: pair[0]):
        floor = max(height, floor + LABEL_GAP)
        value = each.values[-1]
        yield text(x, floor + 4, f"{value:.{digits}f}", "start", f"value {each.colour}")


def legend(series: Sequence[Series]) -> str:
    parts, x = [], float(LEFT)
    for each in series:
        dashed = " dashed" if each.dashed else ""
        parts.append(f'<line class="line {each.colour}{dashed}" x1="{x:.0f}" x2="{x + 18:.0f}" y1="12" y2="12"/>')
        parts.append(text(x + 23, 16, each.name, "start"))
        x += 38 + 6.3 * len(each.name)
    return "".join(parts)


def text(x: float, y: float, content: str, anchor: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def frame(title: str, unit: str, parts: Iterable[str]) -> str:
    drawing = "".join(parts)
    return (
        f'<figure class="chart"><figcaption>{escape(title)} <span>{escape(unit)}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{drawing}</svg></figure>'
    )
