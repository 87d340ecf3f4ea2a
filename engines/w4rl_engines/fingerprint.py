"""What a module is, in two hashes: its weights, and the plain settings that decide what it does with them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass

import torch
from torch import Tensor, nn

PLAIN = (bool, int, float, str, type(None), torch.dtype)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """sha256 of every parameter and buffer, and of every number, name and config that the modules hold."""

    weights: str
    settings: str


def fingerprint(module: nn.Module) -> Fingerprint:
    """The same for a copy of a module on any device; another for another seed, depth, schedule or number of steps."""
    weights, settings = hashlib.sha256(), hashlib.sha256()
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        weights.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        weights.update(_bytes(tensor))
    for name, part in module.named_modules():
        settings.update(f"{name} {type(part).__qualname__} {list(_settings(part))};".encode())
    return Fingerprint(weights=weights.hexdigest(), settings=settings.hexdigest())


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _settings(part: nn.Module) -> Iterator[str]:
    """Attributes that a reader would call settings; torch's own layers say theirs in `extra_repr`."""
    if type(part).__module__.startswith("torch."):
        yield part.extra_repr()
        return
    for key, value in sorted(vars(part).items()):
        if not key.startswith("_") and key != "training":
            yield f"{key}={_plain(value)}"


def _plain(value: object) -> str:
    if isinstance(value, PLAIN) or (is_dataclass(value) and not isinstance(value, type)):
        return repr(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(_plain(each) for each in value)}]"
    return getattr(value, "__qualname__", type(value).__qualname__)
