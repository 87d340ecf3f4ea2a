"""The points of the page are drawn to scale, each with its name on the side that has room."""

import itertools
import xml.etree.ElementTree as ET

from w4rl_fast.report.students import Point, scatter


def test_points_are_drawn_to_scale_and_named() -> None:
    shown = [Point("slow & true", 100.0, 30.0, "c1"), Point("fast", 400.0, 20.0, "c0")]
    figure = scatter(shown, title="t", unit="u")
    svg = ET.fromstring(figure[figure.index("<svg") : figure.index("</figure>")])
    slow, fast = ([float(dot.get(side)) for side in "xy"] for dot in svg.iter("rect"))
    assert slow[0] < fast[0]
    assert slow[1] < fast[1]  # higher is better, and above
    names = {text.text: text for text in svg.iter("text")}
    assert names["slow & true"].get("text-anchor") == "start"
    assert names["fast"].get("text-anchor") == "end"
    assert float(names["fast"].get("x")) < fast[0]


def test_names_that_would_lie_over_each_other_are_moved_apart() -> None:
    shown = [Point(name, 100.0, 30.0 + shift, "c0") for name, shift in (("one", 0.0), ("two", 0.01), ("three", 0.02))]
    figure = scatter([*shown, Point("far", 400.0, 20.0, "c0")], title="t", unit="u")
    svg = ET.fromstring(figure[figure.index("<svg") : figure.index("</figure>")])
    heights = sorted(float(text.get("y")) for text in svg.iter("text") if text.text in ("one", "two", "three"))
    assert min(after - before for before, after in itertools.pairwise(heights)) >= 12.9
