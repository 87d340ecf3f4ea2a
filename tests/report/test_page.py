"""A page and its charts: well formed, escaped, and drawn to scale."""

import itertools
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from w4rl_fast.report.chart import Series, bar_chart, line_chart, marked_steps, nice_ticks
from w4rl_fast.report.page import Figure, Section, environment, page, picture, table

VOID = {"meta", "img", "br"}


class Balanced(HTMLParser):
    """Follows opening and closing tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_every_tag_is_closed_and_every_string_is_text():
    nasty = "<b>\"&'</i>"
    html = page(
        nasty, nasty, [Figure(nasty, nasty, nasty)],
        [Section(nasty, nasty, table([nasty], [[nasty]]) + picture(b"png", nasty, nasty, width=10)),
         environment({nasty: {nasty: [nasty]}}, nasty)],
    )  # fmt: skip
    parsed = Balanced(html)
    assert parsed.text.count(nasty) >= 12
    assert '<b>"' not in html


def drawing(figure):
    """The SVG of a chart."""
    return ET.fromstring(figure[figure.index("<svg") : figure.index("</figure>")])


def test_a_curve_is_drawn_to_scale_and_broken_where_nothing_is_known():
    svg = drawing(line_chart([Series("a", [0.0, 5.0, None, 10.0], "c0"), Series("b", [10.0, None, None, None], "c1")],
                             title="t", unit="u"))  # fmt: skip
    first, second = (path.get("d") for path in svg.iter("path"))
    assert first.count("M") == 2
    assert second.count("M") == 1
    (x1, y1), (x2, y2), (x4, y4) = points(first)
    assert x2 - x1 == pytest.approx((x4 - x1) / 3, abs=0.2)
    assert y1 - y2 == pytest.approx(y2 - y4, abs=0.2)
    assert y4 < y1


def points(path):
    numbers = [float(word.strip("ML")) for word in path.replace(" h0.1", "").split()]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def test_labels_at_the_ends_of_curves_keep_apart():
    svg = drawing(line_chart([Series(str(n), [1.0, 1.0 + n / 100], "c0") for n in range(5)], title="t", unit="u"))
    heights = sorted(float(text.get("y")) for text in svg.iter("text") if "value" in text.get("class", ""))
    assert len(heights) == 5
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 12


def test_bars_stand_on_zero_in_proportion():
    svg = drawing(bar_chart(["a", "b", "c"], [Series("s", [2.0, -1.0, None], "c0")], title="t", unit="u"))
    up, down = svg.iter("rect")
    assert float(up.get("height")) == pytest.approx(2 * float(down.get("height")), abs=0.2)
    assert float(up.get("y")) + float(up.get("height")) == pytest.approx(float(down.get("y")), abs=0.2)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (7.9, 26.4), (-3, 12), (0.676, 0.988), (5, 5), (0, 0), (0, 1e-4)])
def test_ticks_enclose_the_values_evenly(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low <= high <= ticks[-1]
    assert 2 <= len(ticks) <= 8
    gaps = [b - a for a, b in itertools.pairwise(ticks)]
    assert min(gaps) == pytest.approx(max(gaps))
    assert min(gaps) > 0


@pytest.mark.parametrize("count", [1, 2, 5, 18, 40, 500])
def test_steps_are_marked_from_the_first_to_the_last_and_sparsely(count):
    steps = marked_steps(count)
    assert steps[0] == 1
    assert steps[-1] == count
    assert len(steps) <= 9


def test_a_chart_of_one_step_or_of_nothing_is_still_a_chart():
    for values in ([3.0], [None], [None, 1.0]):
        drawing(line_chart([Series("a", values, "c0")], title="t", unit="u"))
