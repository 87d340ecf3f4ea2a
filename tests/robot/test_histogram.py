"""A histogram in place of all times: what it still knows of them, and where the native servo counts."""

import numpy as np
import pytest

from tests.native import needs_native
from w4rl_fast.robot.histogram import PARTS, QUANTILES, Histogram
from w4rl_fast.robot.servo import native, native_settings
from w4rl_fast.robot.setup import READY, make_setup, settings_of

PLACES = PARTS * 36
CLOSE = 1 / PARTS + 1e-3


def counted(times):
    """Times (ns, whole) counted by the edges alone."""
    empty = Histogram(np.zeros(PLACES, np.int64))
    places = np.searchsorted(empty.edges, times)
    return Histogram(np.bincount(places, minlength=PLACES))


def test_edges_rise_by_a_nanosecond_and_then_by_three_per_cent() -> None:
    edges = Histogram(np.zeros(PLACES, np.int64)).edges
    np.testing.assert_array_equal(edges[: 2 * PARTS], np.arange(2 * PARTS))
    assert (np.diff(edges) >= 1).all()
    assert (np.diff(edges)[PARTS:] / (edges[PARTS:-1] + 1) <= 1 / PARTS).all()
    assert edges[-1] > 60e9, "minutes have a place"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_quantiles_are_those_of_the_times_to_three_per_cent(seed, spread) -> None:
    rng = np.random.default_rng(seed)
    times = np.exp(rng.normal(np.log(1e6), spread, 19_997)).astype(np.int64) + 1
    histogram = counted(times)
    assert histogram.total == len(times)
    for per_cent in QUANTILES:
        truth = np.quantile(times, per_cent / 100, method="inverted_cdf") / 1000
        assert truth <= histogram.quantile(per_cent) * (1 + 1e-9)
        assert histogram.quantile(per_cent) <= truth * (1 + CLOSE) + 1e-3
    assert list(histogram.quantiles()) == ["p50", "p90", "p99", "p99.9", "p99.99", "most"]


def test_how_many_were_longer_is_counted() -> None:
    histogram = counted(np.array([500, 900_000, 1_100_000, 5_000_000, 5_000_000]))
    assert [histogram.above(us) for us in (0, 1000, 2000, 10_000)] == [5, 3, 2, 0]


def test_nothing_is_known_of_no_times() -> None:
    empty = Histogram(np.zeros(PLACES, np.int64))
    assert (empty.total, empty.picture(), empty.above(0)) == (0, [], 0)
    assert np.isnan(empty.quantile(50))


def test_a_picture_has_a_line_for_every_power_of_two_between_the_shortest_and_the_longest() -> None:
    times = np.array([*[1_000_000] * 900, *[4_200_000] * 3])
    lines = counted(times).picture(width=20)
    assert len(lines) == 4, "of 1, 2 and 4 ms, and that of the longest"
    assert all("us" in line and len(line.split("us")[0]) == len(lines[0].split("us")[0]) for line in lines)
    bars = [line.count("#") for line in lines]
    assert max(bars) == bars[0] == 20
    assert bars[1:-1] == [0] * (len(bars) - 2) and 0 < bars[-1] < 20
    assert [line.split()[-1] for line in lines] == ["900", *["0"] * (len(lines) - 2), "3"]


@needs_native
def test_the_native_servo_counts_every_step_in_a_place_of_the_same_edges() -> None:
    module = native()
    memory = np.zeros(module.CHANNEL_BYTES, np.uint8)
    module.create_channel(memory)
    driver, sender = module.Driver(native_settings(settings_of(make_setup("panda"))), memory), module.Sender(memory)
    assert driver.start(np.array(READY))
    durations = []
    for _ in range(300):
        driver.step(np.array(READY), np.zeros(7))
        durations.append(driver.duration)
    counts = np.zeros((2, module.HISTOGRAM), np.int64)
    sender.histograms(counts)
    between, inside = Histogram(counts[0]), Histogram(counts[1])
    assert (between.total, inside.total) == (299, 300)
    assert module.HISTOGRAM % PARTS == 0 and module.HISTOGRAM_PARTS == PARTS
    places = np.searchsorted(inside.edges, durations)
    np.testing.assert_array_equal(inside.counts, np.bincount(places, minlength=module.HISTOGRAM))
    assert inside.quantile(100) == pytest.approx(max(durations) / 1000, rel=CLOSE)
