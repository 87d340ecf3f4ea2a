"""Engines of a run in a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from w4rl_engines.artifact import Artifact
from w4rl_fast.imagine.artifacts import RATIO

HEAD = f"{'engine':44} batch      ms  p99 ms      /s  eager takes  error p99  place p99  agree  built  load s"


def rows_of(artifact: Artifact) -> list[dict[str, Any]]:
    """What a script would read of each batch size of an artifact."""
    identity = artifact.identity
    rows = []
    for batch in artifact.batches:
        _, blob = artifact.blob(batch)
        rows.append(
            {
                "artifact": artifact.folder.name,
                "engine": identity.backend,
                "precision": identity.precision,
                "batch": batch,
                "median_s": blob.latency and blob.latency.median_s,
                "p99_s": blob.latency and blob.latency.p99_s,
                "rows_per_s": blob.latency and batch / blob.latency.median_s,
                "eager_time": blob.examined.get(RATIO),
                "parity": {
                    name: {"mean": error.mean, "p99": error.p99, "max": error.maximum, "unit": error.unit}
                    for name, error in blob.parity.outputs.items()
                },
                "parity_by": blob.parity.by,
                "passed": blob.parity.passed,
                "accepted": blob.parity.accepted,
                "over_horizon": dict(blob.examined),
                "build_s": blob.build_s,
                "load_s": blob.load_s,
                "size": blob.size,
            }
        )
    return rows


def in_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """The same for a terminal."""
    return "\n".join([HEAD, *(line(row) for row in rows)])


def line(row: Mapping[str, Any]) -> str:
    parity, agree = row["parity"], row["over_horizon"].get("outcomes_agree")
    median, late = (None if row[name] is None else 1e3 * row[name] for name in ("median_s", "p99_s"))
    first, place = next(iter(parity.values()))["p99"], parity["place"]["p99"] if "place" in parity else None
    return (
        f"{row['artifact']:44} {row['batch']:5d} {cell(median, '.2f'):>7} {cell(late, '.2f'):>7}"
        f" {cell(row['rows_per_s'], '.0f'):>7} {cell(row['eager_time'], '.2f', 'x'):>12} {cell(first, '.2g'):>10}"
        f" {cell(place, '.3f'):>10} {cell(agree, '.0%'):>6} {row['build_s']:5.0f} s {cell(row['load_s'], '.2f'):>7}"
        f"{'' if row['passed'] else '  out of tolerance, accepted'}"
    )


def cell(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"
