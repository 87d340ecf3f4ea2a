"""From a module to an artifact: export, lower, load, prove, measure, and only then publish."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from w4rl_engines import artifact, parity, registry
from w4rl_engines.artifact import Artifact
from w4rl_engines.backends import backend_module, load_blob, require_buildable
from w4rl_engines.errors import ArtifactRefused, EngineError
from w4rl_engines.export import Step
from w4rl_engines.fingerprint import fingerprint
from w4rl_engines.latency import measure
from w4rl_engines.machine import architecture, device_of, library_versions
from w4rl_engines.manifest import Blob, Identity, Manifest
from w4rl_engines.parity import Tolerance
from w4rl_engines.precision import LAYERS
from w4rl_engines.protocol import Engine, Job, Place, StepSpec
from w4rl_engines.prove import Proof
from w4rl_kernels.threads import default_threads

HOPELESS = 1e6
"""The largest share of a tolerance that is written down: where nothing is tolerated, every share is endless."""

Examine = Callable[[Engine], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildConfig:
    """What to build: `batches` of one backend in one precision, for a device (None: the backend's own) or for GPUs that
    are not here (`targets`).

    `tolerances` by output are in its unit; outputs left out are held to a share of their size. `accept` keeps an engine
    that is out of tolerance, and says so in the artifact. `notes` are written into it as they are.
    """

    backend: str
    precision: str = "float32"
    batches: tuple[int, ...] = (1,)
    device: str | None = None
    targets: tuple[str, ...] = ()
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    accept: bool = False
    threads: int | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = registry.backend(self.backend).precisions
        if self.precision not in known:
            raise ValueError(f"precision {self.precision!r}: {self.backend} has {', '.join(known)}. Choose one of them")
        if self.runs_on.type not in (known := registry.backend(self.backend).devices):
            raise ValueError(f"device {self.device!r}: {self.backend} runs on {', '.join(known)}. Choose one of them")
        if not self.batches or min(self.batches) < 1:
            raise ValueError(f"batches {self.batches}: each is at least 1. Name one or more")
        if self.targets and self.backend != "tensorrt-rtx":
            raise ValueError(f"targets {', '.join(self.targets)}: tensorrt-rtx alone has them. Leave them out")

    @property
    def runs_on(self) -> torch.device:
        return torch.device(self.device or registry.backend(self.backend).devices[0])


def build(
    module: nn.Module,
    spec: StepSpec,
    folder: Path,
    inputs: tuple[Tensor, ...],
    config: BuildConfig,
    *,
    reference: nn.Module | None = None,
    examine: Examine | None = None,
) -> Artifact:
    """Build an artifact, or add batch sizes to one of the same identity; any other in the folder is replaced.

    inputs are rows (N, ...) of real use, any number of them: they calibrate, prove and time. `reference` is what parity
    is held against where that is not the module itself. What `examine` says of each engine that runs here goes into the
    manifest; if it raises, nothing is published.
    """
    require_buildable(config.backend)
    device = device_of(config.runs_on if registry.cannot_run(config.backend) is None else torch.device("cpu"))
    rows = tuple(tensor.to(device) for tensor in inputs)
    step, truth = (Step(each).to(device) for each in (module, reference or module))
    proof = Proof(truth, spec, rows, config.tolerances, config.precision)
    with artifact.writing(folder):
        identity, blobs = _begin(step, proof, folder, _identity(module, spec, config))
        for batch in config.batches:
            job = Job(
                module=step,
                spec=spec,
                inputs=tuple(tensor[torch.arange(batch, device=device) % len(tensor)] for tensor in rows),
                rows=rows,
                backend=config.backend,
                precision=config.precision,
                low=frozenset(identity.low),
                targets=config.targets,
            )
            blobs[batch] = _one(job, folder, proof, config, examine)
        return artifact.publish(folder, Manifest(identity=identity, blobs=blobs))


def _one(job: Job, folder: Path, proof: Proof, config: BuildConfig, examine: Examine | None) -> Blob:
    """One blob, proven; where it cannot run here, another backend stands in for its numbers, and nothing is timed."""
    unfinished = folder / f"{artifact.UNFINISHED}{os.getpid()}.{registry.backend(job.backend).suffix}"
    build_s = _write(job, unfinished)
    threads = config.threads or default_threads()
    with _torch_threads(threads):
        engine, by, load_s = _start(job, unfinished, threads)
        found = proof.of(engine, job.batch, by)
        parity.require(found, f"{job.backend} {job.precision} at batch {job.batch}", accept=config.accept)
        ran = by == job.backend
        latency = measure(engine, job.inputs, threads=threads) if ran else None
        examined = examine(engine) if examine and ran else {}
    digest = artifact.sha256(unfinished)
    blob = Blob(
        file=f"batch-{job.batch}-{digest[:12]}{unfinished.suffix}",
        sha256=digest,
        size=unfinished.stat().st_size,
        build_s=build_s,
        load_s=load_s if by == job.backend else None,
        parity=replace(found, accepted=not found.passed),
        latency=latency,
        examined=examined,
    )
    os.replace(unfinished, folder / blob.file)
    return blob


def _start(job: Job, path: Path, threads: int) -> tuple[Engine, str, float]:
    """The engine after its first call, the backend that it really is, and the seconds until then."""
    by = job.backend
    if registry.cannot_run(by) is not None:
        # What runs the same export in its place: ONNX Runtime, or eager torch where that has no such numbers.
        by = "onnxruntime" if job.precision == "float32" else "eager"
        path = path.with_suffix(f".{registry.backend(by).suffix}")
        _write(replace(job, backend=by), path)
    start = time.perf_counter()
    engine = load_blob(path, replace(Place.of(job, threads), backend=by))
    engine(*job.inputs)
    return engine, by, round(time.perf_counter() - start, 3)


def _write(job: Job, path: Path) -> float:
    """Build one blob; seconds it took. Whatever a backend raises comes out as one error that names it."""
    start = time.perf_counter()
    try:
        with artifact.disk_errors(path.parent):
            backend_module(job.backend).build(job, path)
    except EngineError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else 'no reason given'}"
        value = f"{job.backend} {job.precision} at batch {job.batch}"
        raise EngineError(value, f"it cannot be built ({reason})", "Choose another backend or precision") from error
    return round(time.perf_counter() - start, 3)


def _identity(module: nn.Module, spec: StepSpec, config: BuildConfig) -> Identity:
    return Identity(
        backend=config.backend,
        precision=config.precision,
        spec=spec,
        fingerprint=fingerprint(module),
        versions=library_versions(config.backend),
        architecture=architecture(config.runs_on),
        device=config.runs_on.type,
        targets=config.targets,
        notes=json.loads(json.dumps(config.notes)),
    )


def _begin(step: Step, proof: Proof, folder: Path, identity: Identity) -> tuple[Identity, dict[int, Blob]]:
    """The layers to narrow, measured; or what an artifact of the same identity has found, and its whole blobs."""
    try:
        old = artifact.read(folder)
    except ArtifactRefused:
        old = None
    if old and replace(old.identity, low=(), sensitivity={}) == identity:
        return old.identity, {batch: blob for batch, blob in old.manifest.blobs.items() if old.is_whole(batch)}
    if identity.precision not in LAYERS:
        return identity, {}
    low, table = proof.layers(step)
    shares = {name: float(f"{min(share, HOPELESS):.3g}") for name, share in table.items()}
    return replace(identity, low=tuple(sorted(low)), sensitivity=shares), {}


@contextlib.contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
