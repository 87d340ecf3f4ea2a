"""McNemar's exact test, and Newcombe's interval of a paired difference."""

import random

import pytest

from w4rl_fast.errors import UserError
from w4rl_fast.truth.paired import difference_interval, mcnemar, paired


def outcomes(both: int, gained: int, lost: int, neither: int) -> tuple[dict[int, bool], dict[int, bool]]:
    pairs = [(True, True)] * both + [(False, True)] * gained + [(True, False)] * lost + [(False, False)] * neither
    return {seed: old for seed, (old, _) in enumerate(pairs)}, {seed: new for seed, (_, new) in enumerate(pairs)}


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (3, 3, 1.0),
        (0, 5, 0.0625),
        (12, 2, 0.0129),  # Armitage and Berry 1994, p. 127
        (1, 7, 0.0703),  # Bentur et al. 2009
    ],
)
def test_it_equals_known_values(gained: int, lost: int, p: float) -> None:
    assert mcnemar(gained, lost) == pytest.approx(p, abs=5e-5)
    assert mcnemar(lost, gained) == mcnemar(gained, lost)


def test_it_equals_the_binomial_test() -> None:
    binomtest = pytest.importorskip("scipy.stats").binomtest
    for gained, lost in [(87, 4), (86, 150), (1, 30), (40, 41), (600, 500)]:
        assert mcnemar(gained, lost) == pytest.approx(binomtest(gained, gained + lost).pvalue, rel=1e-9)


def test_thousands_of_seeds_are_no_trouble() -> None:
    assert mcnemar(1500, 1500) == 1.0
    assert mcnemar(1500, 0) == 0.0
    assert 0 < mcnemar(1000, 0) < 1e-300


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [((20, 12, 2, 50), 0.0562, 0.3292), ((1, 1, 7, 21), -0.507, -0.026)],  # the same two examples
)
def test_the_interval_equals_published_values(counts, low, high) -> None:
    assert difference_interval(*counts) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize("counts", [(0, 0, 0, 5), (5, 0, 0, 5), (0, 5, 0, 5), (3, 4, 1, 20), (60, 87, 4, 200)])
def test_the_interval_holds_the_difference_and_mirrors(counts) -> None:
    both, gained, lost, episodes = counts
    low, high = difference_interval(*counts)
    assert -1 <= low <= (gained - lost) / episodes <= high <= 1
    assert low < high
    assert difference_interval(both, lost, gained, episodes) == pytest.approx((-high, -low))
    neither = episodes - both - gained - lost
    assert difference_interval(neither, gained, lost, episodes) == pytest.approx((low, high))


@pytest.mark.parametrize("rates", [(0.3, 0.4, 0.1), (0.1, 0.05, 0.05), (0.0, 0.6, 0.02)])
def test_nineteen_intervals_of_twenty_hold_the_truth(rates) -> None:
    rng, held, trials, episodes = random.Random(0), 0, 1000, 100
    for _ in range(trials):
        drawn = rng.choices(range(4), [*rates, 1 - sum(rates)], k=episodes)
        low, high = difference_interval(*(drawn.count(kind) for kind in range(3)), episodes)
        held += low <= rates[1] - rates[2] <= high
    assert 0.925 < held / trials < 0.99


def test_outcomes_are_compared_seed_by_seed() -> None:
    before, after = outcomes(both=60, gained=87, lost=4, neither=49)
    shuffled = dict(random.Random(0).sample(sorted(after.items()), len(after)))
    verdict = paired(before, shuffled)
    assert (verdict.episodes, verdict.gained, verdict.lost) == (200, 87, 4)
    assert verdict.difference == pytest.approx(0.415)
    assert verdict.low < 0.415 < verdict.high
    assert verdict.p < 1e-20
    assert "gained 87 and lost 4 of 200 seeds" in str(verdict)


def test_other_seeds_are_refused() -> None:
    before, after = outcomes(5, 5, 5, 5)
    del after[3]
    with pytest.raises(UserError, match=r"20 seeds before, 19 after.*\[3\]"):
        paired(before, after)
    with pytest.raises(UserError, match="0 seeds"):
        paired({}, {})


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="lost=-1"):
        mcnemar(3, -1)
