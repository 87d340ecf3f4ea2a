"""The page of a race: every way to refine has its line."""

from w4rl_fast.refine.race import METHODS, Curve, RaceConfig
from w4rl_fast.report.race import write_race_report


def curve(method, seed):
    rise = 0.1 * METHODS.index(method) + 0.01 * seed
    values = [0.1, 0.2 + rise, 0.3 + rise]
    return Curve(
        method=method, seed=seed, frames=[0, 1000, 2000], seconds=[0.0, 1.0 + seed, 2.0 + seed], returns=values,
        scores=values, succeeded=values, last={},
    )  # fmt: skip


def test_every_method_has_a_line_of_its_own(tmp_path) -> None:
    curves = [curve(method, seed) for method in METHODS for seed in range(3)]
    page = write_race_report(tmp_path, "push", curves, RaceConfig(methods=tuple(METHODS), seeds=3), "w4rl").read_text()
    legend = page[page.index("Ways to refine") :]
    for method in METHODS:
        assert f">{method}<" in legend, method
    assert "FoG needs" in page
    assert "not reached" not in page, "the fifth of them is ahead of the first all along"
    assert page.count("dashed") > 3
