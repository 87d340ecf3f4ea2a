"""A refinement on disk: one safetensors file with all that learns, and the facts beside it as JSON in its header."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from w4rl_fast.errors import UserError

CHECKPOINT = "refinement.safetensors"


class Kept(Protocol):
    """Something with a state of named tensors, such as a learner or a memory."""

    def state(self) -> Iterator[tuple[str, Tensor]]: ...

    def load(self, state: Mapping[str, Tensor]) -> None: ...


def save(path: Path, kept: Mapping[str, Kept], identity: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Publish the state of what learns or remembers, what they belong to, and how far they are."""
    from safetensors.torch import save as serialise

    from w4rl_fast.files import publish

    tensors = {f"{name}/{key}": each for name, one in kept.items() for key, each in one.state()}
    metadata = {"identity": json.dumps(identity, sort_keys=True), "facts": json.dumps(facts)}
    publish(path, serialise(tensors, metadata=metadata))


def load(path: Path, kept: Mapping[str, Kept], identity: Mapping[str, Any]) -> dict[str, Any]:
    """Put the state back and return the facts; a file that belongs to something else is refused."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(
            f"checkpoint {path}", rule=f"it cannot be read: {error}", remedy="Delete it to start again"
        ) from error
    there = json.loads(metadata["identity"])
    others = [name for name, value in identity.items() if there.get(name) != value]
    if others:
        raise UserError(
            f"checkpoint {path}",
            rule=f"it belongs to a refinement with another {', '.join(others)}",
            remedy="Refine with what it was made with, or delete the folder to start again",
        )
    for name, one in kept.items():
        prefix = f"{name}/"
        one.load({key.removeprefix(prefix): each for key, each in tensors.items() if key.startswith(prefix)})
    facts: dict[str, Any] = json.loads(metadata["facts"])
    return facts


def digest(module: nn.Module) -> str:
    """A short name of all weights."""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:12]
