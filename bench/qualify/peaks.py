"""What the device reaches: the roof that every other figure stands under."""

import torch

from bench.qualify.session import PRECISIONS, Session, allow_tf32


def run(session: Session) -> dict[str, float]:
    """Copy in GB/s (read + write) and GEMM in TFLOP/s of this device, on random numbers."""
    size, count = (256, 1 << 16) if session.dry else (8192, 1 << 30)
    source, found = torch.randn(count // 4, device=session.device), session.peaks
    target = torch.empty_like(source)
    found["copy_gb_per_s"] = 2 * count / 1e6 / session.timed(lambda: target.copy_(source))["median_ms"]
    for name, dtype in PRECISIONS.items():
        allow_tf32(name == "tf32")
        left, right = (torch.randn(size, size, device=session.device, dtype=dtype) for _ in range(2))
        found[f"gemm_{name}_tflops"] = 2 * size**3 / 1e9 / session.timed(lambda a=left, b=right: a @ b)["median_ms"]
    allow_tf32(False)
    print({name: round(value, 1) for name, value in found.items()}, flush=True)
    return found
