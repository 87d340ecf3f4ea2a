"""Who won a race: what every method earned after as many frames, and how many frames each needs for the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.refine.race import Curve
from w4rl_fast.truth.spread import Spread, bootstrap, interquartile_mean, spread


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A method: by point the interquartile mean over seeds of what was asked, with intervals; the same of the area
    under the curve, from 0 to 1 of the frames; seconds up to each point, and milliseconds a frame.
    """

    method: str
    frames: list[int]
    seconds: list[float]
    values: list[Spread]
    area: Spread
    ms_per_frame: float


def standings(curves: Sequence[Curve], what: str) -> list[Standing]:
    """One for each method, in the order in which they ran."""
    found = []
    for method in dict.fromkeys(curve.method for curve in curves):
        rows = of_method(curves, method)
        table = np.array([getattr(curve, what) for curve in rows])
        grid = np.array(rows[0].frames, dtype=float)
        areas = np.trapezoid(table, grid, axis=1) / grid[-1]
        seconds = np.array([curve.seconds for curve in rows])
        found.append(
            Standing(
                method=method,
                frames=rows[0].frames,
                seconds=[float(each) for each in np.median(seconds, 0)],
                values=[spread(column) for column in table.T],
                area=spread(areas.tolist()),
                ms_per_frame=1e3 * float(np.median(seconds[:, -1])) / grid[-1],
            )
        )
    return found


def of_method(curves: Sequence[Curve], method: str) -> list[Curve]:
    return sorted((curve for curve in curves if curve.method == method), key=lambda curve: curve.seed)


def frames_needed(curves: Sequence[Curve], method: str, against: str, what: str) -> Spread:
    """The share of all frames after which a method's interquartile mean is first what the other's is at the end;
    above 1, it is not reached. Seeds of both are drawn again alike.
    """
    one, other = (np.array([getattr(c, what) for c in of_method(curves, m)]) for m in (method, against))
    grid = np.array(of_method(curves, method)[0].frames, dtype=float)

    def share(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        aims = interquartile_mean(other[:, -1][rows])
        pairs = zip(interquartile_mean(one[rows]), aims, strict=True)
        return np.array([first_reached(grid / grid[-1], values, float(aim)) for values, aim in pairs])

    return bootstrap(share, len(one))


def first_reached(shares: NDArray[np.float64], values: NDArray[np.float64], aim: float) -> float:
    """Where a curve first reaches a value, straight between its points; twice the whole where it never does."""
    for n, value in enumerate(values):
        if value >= aim:
            if n == 0:
                return float(shares[0])
            rise = (aim - values[n - 1]) / (value - values[n - 1])
            return float(shares[n - 1] + rise * (shares[n] - shares[n - 1]))
    return 2.0


def apart(curves: Sequence[Curve], method: str, against: str, what: str) -> Spread:
    """How much more a method has at the end than another, seeds drawn again alike."""
    one, other = (np.array([getattr(c, what)[-1] for c in of_method(curves, m)]) for m in (method, against))
    return bootstrap(lambda rows: interquartile_mean(one[rows]) - interquartile_mean(other[rows]), len(one))


def summary(curves: Sequence[Curve], what: str, against: str = "ppo") -> dict[str, Any]:
    """What a script would read: of each method also how far it is beyond every other at the end, and the share of all
    frames after which it has what another had.
    """
    found = standings(curves, what)
    methods = [each.method for each in found]

    def beside(method: str) -> dict[str, Any]:
        others = [other for other in methods if other != method]
        said: dict[str, Any] = {"beyond": {other: apart(curves, method, other, what)._asdict() for other in others}}
        if against in others:
            said[f"frames_for_{against}"] = frames_needed(curves, method, against, what)._asdict()
        return said

    return {
        each.method: {
            "final": each.values[-1]._asdict(),
            "area": each.area._asdict(),
            "ms_per_frame": each.ms_per_frame,
            "seconds": each.seconds[-1],
            **beside(each.method),
        }
        for each in found
    }
