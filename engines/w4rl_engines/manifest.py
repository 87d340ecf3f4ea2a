"""The page of an artifact that says what it holds, what it was measured to do, and what it is tied to."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from w4rl_engines.fingerprint import Fingerprint
from w4rl_engines.latency import Latency
from w4rl_engines.parity import Error, Parity, Tolerance
from w4rl_engines.protocol import Port, StepSpec

FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """One batch size: its file with size and sha256, how long it took to build and to load, and what it does.

    `parity.by` is the backend's own name where it ran here; `latency` is None where it did not. `examined` is what the
    builder measured beside that.
    """

    file: str
    sha256: str
    size: int
    build_s: float
    load_s: float | None
    parity: Parity
    latency: Latency | None
    examined: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What two batch sizes share when they lie in one artifact.

    `versions` are those of the libraries it was built with, `architecture` the processor's, `targets` GPUs it was built
    for without being there. `low` names the layers in the lower precision; `sensitivity` is the error that each layer
    makes when it alone is narrowed, as a share of the tolerance. `notes` are the builder's own.
    """

    backend: str
    precision: str
    spec: StepSpec
    fingerprint: Fingerprint
    versions: Mapping[str, str]
    architecture: str
    device: str = "cpu"
    targets: tuple[str, ...] = ()
    low: tuple[str, ...] = ()
    sensitivity: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """An identity, and the blobs by batch size."""

    identity: Identity
    blobs: Mapping[int, Blob]


def dumps(manifest: Manifest) -> bytes:
    """JSON, sealed by the sha256 of all of it."""
    content = {
        "format": FORMAT,
        "identity": dataclasses.asdict(manifest.identity),
        "blobs": {str(batch): dataclasses.asdict(manifest.blobs[batch]) for batch in sorted(manifest.blobs)},
    }
    return (json.dumps({**content, "seal": _seal(content)}, indent=1, allow_nan=False) + "\n").encode()


def loads(payload: bytes) -> Manifest:
    """Read it back; ValueError says what is wrong with it."""
    content = json.loads(payload)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"it is not of format {FORMAT}")
    if content.pop("seal", None) != _seal(content):
        raise ValueError("it was edited: its seal is another")
    identity, blobs = content["identity"], content["blobs"]
    return Manifest(
        identity=Identity(
            **{
                **identity,
                "spec": _spec(identity["spec"]),
                "fingerprint": Fingerprint(**identity["fingerprint"]),
                "targets": tuple(identity["targets"]),
                "low": tuple(identity["low"]),
            }
        ),
        blobs={int(batch): _blob(blob) for batch, blob in blobs.items()},
    )


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _spec(raw: Mapping[str, Any]) -> StepSpec:
    sides = (
        tuple(Port(**{**port, "shape": tuple(port["shape"])}) for port in raw[side]) for side in ("inputs", "outputs")
    )
    inputs, outputs = sides
    return StepSpec(inputs=inputs, outputs=outputs)


def _blob(raw: Mapping[str, Any]) -> Blob:
    latency = Latency(**raw["latency"]) if raw["latency"] else None
    return Blob(**{**raw, "parity": _parity(raw["parity"]), "latency": latency})


def _parity(raw: Mapping[str, Any]) -> Parity:
    outputs = {
        name: Error(**{**error, "worst": tuple(error["worst"]), "tolerance": Tolerance(**error["tolerance"])})
        for name, error in raw["outputs"].items()
    }
    return Parity(**{**raw, "outputs": outputs})
