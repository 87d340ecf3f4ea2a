"""Actions between the robot's own units and [-1, 1]."""

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.data.episode import Schema
from w4rl_fast.errors import UserError

Bounds = tuple[float, ...]


def choose_range(actions: NDArray[np.floating], low: Bounds | None, high: Bounds | None) -> tuple[Bounds, Bounds]:
    """What -1 and +1 mean: as given, else the smallest and largest action; actions (N, A) in the robot's units.

    A dimension that never changes gets one unit either side of its value, so that it becomes 0.
    """
    bad = np.flatnonzero(~np.isfinite(actions).all(axis=1))
    if bad.size:
        raise UserError(
            f"action of row {bad[0]}: {actions[bad[0]].tolist()}",
            rule="actions are finite",
            remedy="Repair or leave out that row.",
        )
    if low is None and high is None:
        least, most = actions.min(axis=0).astype(np.float64), actions.max(axis=0).astype(np.float64)
        still = (least == most).astype(np.float64)
        return _bounds(least - still), _bounds(most + still)
    if low is None or high is None or not len(low) == len(high) == actions.shape[1] or not np.all(_span(low, high) > 0):
        raise UserError(
            f"action range {low} to {high}",
            rule=f"a range has a finite lower and a larger upper bound for each of the {actions.shape[1]} dimensions",
            remedy="Give both bounds for each dimension, or neither to take the range of the data.",
        )
    return low, high


def normalise(actions: NDArray[np.floating], schema: Schema, *, first_row: int = 0) -> NDArray[np.float32]:
    """The robot's units to [-1, 1]; actions (L, A), of which `first_row` is the place of the first in its file."""
    low, span = np.array(schema.action_low), _span(schema.action_low, schema.action_high)
    scaled = 2.0 * (actions.astype(np.float64) - low) / span - 1.0
    outside = np.flatnonzero(np.abs(scaled).max(axis=1) > 1.0 + 1e-5)
    if outside.size:
        raise UserError(
            f"action of row {first_row + outside[0]}: {actions[outside[0]].tolist()}",
            rule=f"actions lie between {schema.action_low} and {schema.action_high}",
            remedy="Give a wider action range, or none to take the range of the data.",
        )
    return np.asarray(scaled.clip(-1.0, 1.0), np.float32)


def denormalise(actions: NDArray[np.float32], schema: Schema) -> NDArray[np.float32]:
    """[-1, 1] to the robot's units; actions (L, A)."""
    low, span = np.array(schema.action_low), _span(schema.action_low, schema.action_high)
    return (low + (actions.astype(np.float64) + 1.0) / 2.0 * span).astype(np.float32)


def _span(low: Bounds, high: Bounds) -> NDArray[np.float64]:
    """high - low; not a number where either is not finite."""
    span = np.subtract(high, low, dtype=np.float64)
    return np.where(np.isfinite(span), span, np.nan)


def _bounds(values: NDArray[np.float64]) -> Bounds:
    return tuple(values.tolist())
