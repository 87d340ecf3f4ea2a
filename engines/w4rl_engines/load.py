"""From an artifact to an engine: everything that could make its numbers wrong is refused first."""

from pathlib import Path

import torch

from w4rl_engines import artifact, registry
from w4rl_engines.artifact import Artifact
from w4rl_engines.backends import load_blob, require_runnable
from w4rl_engines.fingerprint import Fingerprint
from w4rl_engines.machine import architecture, device_of, library_versions
from w4rl_engines.protocol import Engine, Place
from w4rl_kernels.threads import default_threads


def load(
    folder: Path,
    *,
    batch: int | None = None,
    device: str | None = None,
    threads: int | None = None,
    expected: Fingerprint | None = None,
    rebuild: str = artifact.REBUILD,
) -> Engine:
    """An engine for one batch size (or the only one there is), if the artifact is whole, of the module whose
    fingerprint is expected, and made for this place (`device`: None is the one it was built for).

    `rebuild` is the command that a refusal names, with {batches} in place of the batch sizes. `threads` is for runtimes
    with threads of their own; the others use torch's. An artifact is a program: load only what you would run.
    """
    found = artifact.read(folder, rebuild)
    where = torch.device(device or found.identity.device)
    require_fit(found, where, expected)
    size, _ = found.blob(batch)
    require_runnable(found.identity.backend)
    identity = found.identity
    place = Place(
        spec=identity.spec,
        batch=size,
        backend=identity.backend,
        precision=identity.precision,
        device=device_of(where),
        threads=threads or default_threads(),
    )
    return load_blob(found.path(size), place)


def require_fit(found: Artifact, device: torch.device, expected: Fingerprint | None) -> None:
    """Refuse an artifact of another module, another library or another processor."""
    reason = _misfit(found, device, expected)
    if reason:
        raise artifact.refusal(found.folder, reason, found.rebuild, list(found.batches))


def _misfit(found: Artifact, device: torch.device, expected: Fingerprint | None) -> str | None:
    identity = found.identity
    if identity.backend not in registry.BACKENDS:
        return f"its backend {identity.backend!r} is not known here"
    backend, mine = registry.backend(identity.backend), identity.fingerprint
    if expected and expected.weights != mine.weights:
        return f"it was built from other weights ({mine.weights[:12]}, not {expected.weights[:12]})"
    if expected and expected.settings != mine.settings:
        return f"it was built with other settings ({mine.settings[:12]}, not {expected.settings[:12]})"
    here = library_versions(identity.backend)
    for library in backend.exact:
        if here.get(library) != identity.versions.get(library):
            return f"it was built with {library} {identity.versions.get(library)}, and here is {here.get(library)}"
    if device.type != identity.device:
        return f"it was built for {identity.device}, not for {device.type}"
    if identity.targets and architecture(device) not in {target.replace("sm", "sm_") for target in identity.targets}:
        return f"it was built for {', '.join(identity.targets)}, and this is {architecture(device)}"
    if backend.tied and architecture(device) != identity.architecture:
        return f"it was built for {identity.architecture}, and this is {architecture(device)}"
    return None
