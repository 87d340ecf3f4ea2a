"""Who won a race: means, intervals and how many frames somebody needs, against what a hand computes."""

import numpy as np
import pytest

from w4rl_fast.refine.race import Curve
from w4rl_fast.refine.standings import apart, frames_needed, standings, summary
from w4rl_fast.truth.spread import interquartile_mean, spread

FRAMES = [0, 100, 200, 400]


def curves(method, values, seconds=1.0):
    """One curve a seed: rows of scores."""
    return [
        Curve(
            method=method, seed=seed, frames=FRAMES, seconds=[seconds * n for n in range(4)], returns=row, scores=row,
            succeeded=row, last={},
        )
        for seed, row in enumerate(values)
    ]  # fmt: skip


def test_the_interquartile_mean_is_the_mean_of_the_middle_half() -> None:
    assert interquartile_mean(np.array([1.0, 2.0, 3.0, 100.0])) == pytest.approx(2.5)
    assert interquartile_mean(np.array([7.0])) == 7.0
    # Of five, each weighs a fifth: the middle three, the outer two of them for three quarters.
    assert interquartile_mean(np.array([-50.0, 1.0, 2.0, 4.0, 90.0])) == pytest.approx((0.75 * 1 + 2 + 0.75 * 4) / 2.5)
    table = np.random.default_rng(0).normal(size=(9, 3))
    by_column = [interquartile_mean(column) for column in table.T]
    np.testing.assert_allclose(interquartile_mean(table), by_column)


def test_an_interval_holds_its_value_and_is_a_point_where_seeds_agree() -> None:
    found = spread([0.1, 0.5, 0.2, 0.4, 0.3])
    assert found.low <= found.value <= found.high
    assert found.high - found.low > 0.05
    assert spread([0.3] * 5) == pytest.approx((0.3, 0.3, 0.3))
    assert spread([0.1, 0.5, 0.2]) == spread([0.1, 0.5, 0.2])


def test_frames_needed_are_read_between_points() -> None:
    slow = curves("ppo", [[0.0, 0.1, 0.2, 0.4]] * 3)
    fast = curves("fog", [[0.0, 0.2, 0.6, 0.8]] * 3)
    assert frames_needed([*slow, *fast], "fog", "ppo", "scores") == pytest.approx((0.375, 0.375, 0.375))
    assert frames_needed([*slow, *fast], "ppo", "fog", "scores").value == 2.0, "it never gets there"
    assert apart([*slow, *fast], "fog", "ppo", "scores").value == pytest.approx(0.4)


def test_a_standing_knows_its_area_and_its_cost() -> None:
    (found,) = standings(curves("fog", [[0.0, 0.2, 0.4, 0.8]] * 2, seconds=4.0), "scores")
    assert found.area.value == pytest.approx((10 + 30 + 120) / 400)
    assert found.ms_per_frame == pytest.approx(1e3 * 12 / 400)
    assert [each.value for each in found.values] == pytest.approx([0.0, 0.2, 0.4, 0.8])


def test_a_summary_compares_with_ppo_where_it_ran() -> None:
    both = summary([*curves("ppo", [[0.0, 0.1, 0.2, 0.4]] * 2), *curves("fog", [[0.0, 0.4, 0.5, 0.6]] * 2)], "scores")
    assert both["fog"]["frames_for_ppo"]["value"] == pytest.approx(0.25)
    assert "frames_for_ppo" not in both["ppo"]
    assert both["fog"]["beyond"]["ppo"]["value"] == pytest.approx(0.2)
    assert both["ppo"]["beyond"]["fog"]["value"] == pytest.approx(-0.2)
    alone = summary(curves("fog", [[0.0, 0.1, 0.2, 0.3]]), "scores")["fog"]
    assert alone["beyond"] == {}
    assert "frames_for_ppo" not in alone
