"""What a blob of machine code is tied to."""

import platform

import torch

from w4rl_engines import registry


def architecture(device: torch.device) -> str:
    """The instructions of the processor or of the GPU: "x86_64 AVX512 bf16", "sm_90", or "cuda" where none is."""
    if device.type == "cuda" and not torch.cuda.is_available():
        return "cuda"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"sm_{major}{minor}"
    wide = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} {wide}{' bf16' if has_bfloat16() else ''}"


def device_of(device: torch.device | str) -> torch.device:
    """A device as tensors on it name it: a GPU has its number."""
    device = torch.device(device)
    return torch.empty(0, device=device).device


def has_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16."""
    tell = getattr(torch.cpu, "get_capabilities", None)
    capabilities = tell() if tell else {}
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def library_versions(backend: str) -> dict[str, str]:
    """The installed release of everything that a backend builds or runs with."""
    row = registry.backend(backend)
    found = {name: registry.version(name) for name in (*row.build, *row.run)}
    return {name: release for name, release in found.items() if release}
