"""Wilson's interval."""

import pytest

from w4rl_fast.truth.intervals import wilson


def test_it_equals_published_values() -> None:
    share = wilson(8, 10)
    assert (share.low, share.high) == pytest.approx((0.4902, 0.9433), abs=2e-4)
    assert wilson(0, 20).low == 0
    assert wilson(0, 20).high == pytest.approx(0.1611, abs=2e-4)


@pytest.mark.parametrize(("successes", "episodes"), [(0, 1), (3, 7), (50, 100), (100, 100)])
def test_it_holds_the_rate_mirrors_and_narrows(successes: int, episodes: int) -> None:
    share, mirror = wilson(successes, episodes), wilson(episodes - successes, episodes)
    assert 0 <= share.low <= successes / episodes <= share.high <= 1
    assert (share.low, share.high) == pytest.approx((1 - mirror.high, 1 - mirror.low))
    more = wilson(10 * successes, 10 * episodes)
    assert more.high - more.low < share.high - share.low


@pytest.mark.parametrize(("successes", "episodes"), [(-1, 5), (6, 5), (0, 0)])
def test_counts_that_cannot_be_are_refused(successes: int, episodes: int) -> None:
    with pytest.raises(ValueError, match="successes lie between"):
        wilson(successes, episodes)
