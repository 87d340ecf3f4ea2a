"""A folder of engines: one file for each batch size, and `manifest.json`, which is written last and in one go.

At any moment the manifest speaks of whole files only: a kill in the middle leaves what was there before, and the next
build sweeps away what it does not speak of.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from w4rl_engines.errors import ArtifactRefused, EngineError
from w4rl_engines.manifest import Blob, Identity, Manifest, dumps, loads

MANIFEST = "manifest.json"
UNFINISHED = ".building-"
"""How names begin of what a build has not finished."""
REBUILD = "w4rl_engines.build with batches=({batches},)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """An artifact on disk; `rebuild` is the command that builds it, with {batches} in place of the batch sizes."""

    folder: Path
    manifest: Manifest
    rebuild: str = REBUILD

    @property
    def identity(self) -> Identity:
        return self.manifest.identity

    @property
    def batches(self) -> tuple[int, ...]:
        return tuple(sorted(self.manifest.blobs))

    def blob(self, batch: int | None = None) -> tuple[int, Blob]:
        """The blob of a batch size, or the only one there is."""
        if batch is None and len(self.batches) == 1:
            batch = self.batches[0]
        if batch is None or batch not in self.manifest.blobs:
            there = ", ".join(map(str, self.batches))
            remedy = f"Add another by: {command(self.rebuild, [batch])}" if batch else "Say which"
            raise EngineError(f"batch {batch}", f"{self.folder} holds {there}", remedy)
        return batch, self.manifest.blobs[batch]

    def is_whole(self, batch: int) -> bool:
        """Whether the file of a batch size is the one that was measured."""
        with contextlib.suppress(ArtifactRefused):
            self.path(batch)
            return True
        return False

    def path(self, batch: int) -> Path:
        """The file of a batch size; refused unless it is the one that was measured."""
        blob = self.manifest.blobs[batch]
        path = self.folder / Path(blob.file).name
        try:
            found = sha256(path)
        except OSError as error:
            raise refusal(
                self.folder, f"{path.name} cannot be read: {error.strerror}", self.rebuild, [batch]
            ) from error
        if found != blob.sha256:
            reason = f"{path.name} is damaged: {path.stat().st_size} bytes of {blob.size}, sha256 {found[:12]}"
            raise refusal(self.folder, reason, self.rebuild, [batch])
        return path


def read(folder: Path, rebuild: str = REBUILD) -> Artifact:
    """The artifact in a folder."""
    try:
        return Artifact(folder=folder, manifest=loads((folder / MANIFEST).read_bytes()), rebuild=rebuild)
    except OSError as error:
        raise refusal(folder, f"{MANIFEST} cannot be read: {error.strerror}", rebuild) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise refusal(folder, f"{MANIFEST} cannot be trusted: {error}", rebuild) from error


def refusal(folder: Path, reason: str, rebuild: str, batches: list[int] | None = None) -> ArtifactRefused:
    return ArtifactRefused(f"artifact {folder}", reason, f"Build it again by: {command(rebuild, batches or [])}")


def command(rebuild: str, batches: list[int]) -> str:
    return rebuild.replace("{batches}", ",".join(map(str, batches)) or "1")


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold an artifact's folder for one build; whatever happens, only what the manifest speaks of stays in it."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EngineError(f"{folder}", "another build is writing it", "Wait until that has finished") from error
        try:
            yield
        finally:
            _sweep(folder)
    finally:
        os.close(descriptor)


def publish(folder: Path, manifest: Manifest) -> Artifact:
    """Bring the blobs to the disk, then the manifest that speaks of them."""
    temporary = folder / f"{UNFINISHED}{MANIFEST}"
    with disk_errors(folder):
        for blob in manifest.blobs.values():
            _sync(folder / blob.file)
        temporary.write_bytes(dumps(manifest))
        _sync(temporary)
        os.replace(temporary, folder / MANIFEST)
        _sync(folder)
    return Artifact(folder=folder, manifest=manifest)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or unwritable disk into an error a user can act on."""
    try:
        yield
    except OSError as error:
        reason = f"the system answered: {error.strerror or error}"
        raise EngineError(f"cannot write {path}", reason, "Free some space, or choose another folder") from error


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sweep(folder: Path) -> None:
    """Only names that a build gives are touched, and no blob beside a manifest that cannot be trusted."""
    for path in folder.glob(f"{UNFINISHED}*"):
        path.unlink(missing_ok=True)
    with contextlib.suppress(ArtifactRefused):
        there = (folder / MANIFEST).exists()
        kept = {blob.file for blob in read(folder).manifest.blobs.values()} if there else set()
        for path in folder.glob("batch-*"):
            if path.name not in kept:
                path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
