"""When the classifier may say success, and what its numbers mean."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w4rl_fast.reward.config import Rule
from w4rl_fast.reward.rule import Group, calibrate, choose_rule, says_success, sigmoid


def test_hits_have_to_follow_each_other() -> None:
    said = np.array([[0.9, 0.1, 0.9, 0.1], [0.1, 0.9, 0.9, 0.1], [0.1, 0.1, 0.1, 0.9], [0.9, 0.9, 0.1, 0.1]])
    assert says_success(said, Rule(threshold=0.8, hits=1)).tolist() == [True] * 4
    assert says_success(said, Rule(threshold=0.8, hits=2)).tolist() == [False, True, False, True]
    assert says_success(said, Rule(threshold=0.9, hits=2)).tolist() == [False, True, False, True]
    assert says_success(said, Rule(threshold=0.95, hits=1)).tolist() == [False] * 4


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.05, 0.95), st.integers(1, 3))
def test_a_stricter_rule_never_finds_more(seed: int, threshold: float, hits: int) -> None:
    said = np.random.default_rng(seed).random((50, 8))
    loose = says_success(said, Rule(threshold=threshold, hits=hits))
    for stricter in (Rule(threshold=threshold, hits=hits + 1), Rule(threshold=(1 + threshold) / 2, hits=hits)):
        assert not (says_success(said, stricter) & ~loose).any()


def overlapping(rng: np.random.Generator, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    real = rng.random(count) < 0.5
    said = rng.beta(2, 5, (count, 10))
    said[real, 6:] = rng.beta(6, 2, (int(real.sum()), 4))
    return said, real


def test_the_chosen_rule_keeps_to_the_rate_of_every_group_and_finds_the_most() -> None:
    rng = np.random.default_rng(0)
    groups = [Group(*overlapping(rng), 0.02), Group(*overlapping(rng), 0.05)]
    choice = choose_rule(groups)
    assert choice.strict
    for group, false, recall in zip(groups, choice.false_positive_rate, choice.recall, strict=True):
        said = says_success(group.said, choice.rule)
        assert said[~group.real].mean() == pytest.approx(false)
        assert said[group.real].mean() == pytest.approx(recall)
        assert false <= group.most_false
    for threshold in np.linspace(0.05, 0.95, 19):
        for hits in (1, 2, 3):
            other = Rule(threshold=float(threshold), hits=hits)
            said = [says_success(group.said, other) for group in groups]
            if all(s[~g.real].mean() <= g.most_false for s, g in zip(said, groups, strict=True)):
                assert min(s[g.real].mean() for s, g in zip(said, groups, strict=True)) <= min(choice.recall) + 0.02
    assert sum(choice.failures) + sum(choice.successes) == 800


def test_a_group_with_a_stricter_rate_makes_a_stricter_rule() -> None:
    rng = np.random.default_rng(3)
    said, real = overlapping(rng)
    loose, strict = (choose_rule([Group(said, real, rate)]) for rate in (0.2, 0.005))
    assert strict.false_positive_rate[0] <= 0.005 < loose.false_positive_rate[0] <= 0.2
    assert strict.recall[0] < loose.recall[0]


def test_where_no_rule_is_strict_enough_the_least_bad_says_so() -> None:
    said, real = np.ones((40, 5)), np.arange(40) < 20
    choice = choose_rule([Group(said, real, 0.02)])
    assert not choice.strict
    assert choice.false_positive_rate == (1.0,)


def test_between_separable_groups_the_threshold_lies_in_the_middle() -> None:
    real = np.arange(40) < 20
    said = np.where(real[:, None], 0.9, 0.1).repeat(6, 1)
    assert choose_rule([Group(said, real, 0.02)]).rule.threshold == pytest.approx(0.5, abs=0.05)


def test_calibration_finds_the_log_odds() -> None:
    rng = np.random.default_rng(1)
    odds = rng.normal(-1, 2, 200_000)
    real = rng.random(odds.shape) < sigmoid(odds)
    scale, shift = calibrate((odds - 0.7) / 3, real)  # what a network says that is three times too timid, and too low
    assert (scale, shift) == (pytest.approx(3, rel=0.03), pytest.approx(0.7, abs=0.05))


@pytest.mark.parametrize(("failures", "successes"), [(30, 36), (-60, -40), (-9, 9)])
def test_calibration_ends_where_no_way_leads_down(failures: float, successes: float) -> None:
    """Also where every logit is far on one side, and a whole step of Newton's leads thousands away."""
    rng = np.random.default_rng(0)
    logits = np.concatenate([rng.normal(failures, 1, 1000), rng.normal(successes, 1, 60)])
    real = np.arange(1060) >= 1000
    found = np.array(calibrate(logits, real))
    features = np.stack([logits, np.ones(1060)], axis=1)
    slope = features.T @ (sigmoid(features @ found) - real) + found - [1, 0]
    np.testing.assert_allclose(slope, 0, atol=1e-6)
    assert 0 < found[0] < 10


def test_calibration_of_what_can_be_told_apart_stays_finite() -> None:
    logits = np.concatenate([np.full(50, -8.0), np.full(50, 8.0)])
    scale, shift = calibrate(logits, logits > 0)
    assert np.isfinite([scale, shift]).all()
    assert scale > 0


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"threshold": 1.0}, {"hits": 0}])
def test_a_rule_that_cannot_be_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match="threshold"):
        Rule(**wrong)
