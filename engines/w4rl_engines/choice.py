"""What "auto" means: the fastest artifact that was proven here; what was passed over is told, and never used."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from w4rl_engines import artifact, registry
from w4rl_engines.artifact import Artifact
from w4rl_engines.errors import EngineError
from w4rl_engines.fingerprint import Fingerprint
from w4rl_engines.latency import Latency
from w4rl_engines.load import require_fit


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The artifact chosen, or None where nothing but the module itself is left; and why each other one was not."""

    artifact: Artifact | None
    passed_over: dict[Path, str]


def fastest(
    folders: Iterable[Path],
    batch: int,
    *,
    device: str = "cpu",
    expected: Fingerprint | None = None,
    threads: int | None = None,
) -> Choice:
    """The artifact with the lowest median latency at a batch size, among those whose own engine passed parity.

    Those that were timed with another number of threads come after all that were timed with this one.
    """
    fit: list[tuple[bool, float, Artifact]] = []
    passed_over: dict[Path, str] = {}
    for folder in folders:
        try:
            found, latency = _proven(folder, batch, torch.device(device), expected)
            fit.append((threads is not None and latency.threads != threads, latency.median_s, found))
        except EngineError as error:
            passed_over[folder] = error.rule
    fit.sort(key=lambda each: each[:2])
    for elsewhere, slower, each in fit[1:]:
        said = f"slower: {slower * 1e3:.3g} ms, not {fit[0][1] * 1e3:.3g} ms"
        passed_over[each.folder] = "it was timed with another number of threads" if elsewhere else said
    return Choice(artifact=fit[0][2] if fit else None, passed_over=passed_over)


def _proven(folder: Path, batch: int, device: torch.device, expected: Fingerprint | None) -> tuple[Artifact, Latency]:
    found = artifact.read(folder)
    require_fit(found, device, expected)
    _, blob = found.blob(batch)
    if reason := registry.cannot_run(found.identity.backend):
        raise EngineError(f"{folder}", f"it cannot run here: {reason}", "Choose another")
    if blob.latency is None:
        raise EngineError(f"{folder}", "it never ran: its numbers are another backend's", "Choose another")
    if not blob.parity.passed:
        raise EngineError(f"{folder}", "it is out of tolerance", "Choose another")
    found.path(batch)
    return found, blob.latency
