"""two_hot.embed against the dense form, `encode(x) @ table`: 4096 x 4 frames x 7 dimensions, 21 bins, width 256, CPU.

The dense form is torch's own: bins in memory, one matrix product. Both are differentiated in values and table. Beside
the speed: the largest difference of outputs and gradients, how much memory each took at its peak, measured in a
process of its own, and the share of the measured copy bandwidth at which the fused forward fills its result.
"""

import json
import subprocess
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from w4rl_fast.measure import peak_memory_bytes, roofline, time_blocks, write_result
from w4rl_kernels.two_hot import embed, encode

ROWS, DIMENSIONS, BINS, WIDTH = 4096 * 4, 7, 21, 256
SAMPLES = 40


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x = (torch.rand(ROWS, DIMENSIONS) * 2.2 - 1.1).requires_grad_()
    return x, torch.randn(DIMENSIONS, BINS, WIDTH).requires_grad_(), torch.randn(ROWS, WIDTH)


def dense(x: Tensor, table: Tensor) -> Tensor:
    return encode(x, low=-1.0, high=1.0, bins=BINS).flatten(1) @ table.flatten(0, 1)


def fused(x: Tensor, table: Tensor) -> Tensor:
    return embed(x, table, low=-1.0, high=1.0)


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"dense": dense, "fused": fused}


def memory_of(form: str) -> None:
    """Print how far the peak rose over one forward and backward of a form, after a small one to load everything."""
    x, table, grad = inputs()
    FORMS[form](x[:16], table).backward(grad[:16])
    before = peak_memory_bytes()
    FORMS[form](x, table).backward(grad)
    print(json.dumps({"peak_mb": (peak_memory_bytes() - before) / 2**20}))


def main() -> None:
    torch.set_num_threads(1)
    x, table, grad = inputs()
    outputs = {name: form(x, table) for name, form in FORMS.items()}
    gradients = {name: torch.autograd.grad(out, (x, table), grad) for name, out in outputs.items()}
    differences = {
        "output": float((outputs["dense"] - outputs["fused"]).detach().abs().max()),
        "grad_x": float((gradients["dense"][0] - gradients["fused"][0]).abs().max()),
        "grad_table": float((gradients["dense"][1] - gradients["fused"][1]).abs().max()),
        "largest_grad_table": float(gradients["dense"][1].abs().max()),
    }

    def forward(form: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], object]:
        return lambda: form(x.detach(), table.detach())

    def both(form: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(form(x, table), (x, table), grad)

    timings = time_blocks(
        {f"{name}, forward": forward(form) for name, form in FORMS.items()}
        | {f"{name}, forward and backward": both(form) for name, form in FORMS.items()},
        samples=SAMPLES,
    )
    for name, timing in timings.items():
        print(f"{name:30s} {1e3 * timing.median_s:8.2f} ms")
    peaks = {}
    for name in FORMS:
        said = subprocess.run([sys.executable, "-m", "bench.two_hot", name], capture_output=True, text=True, check=True)
        peaks[name] = json.loads(said.stdout.splitlines()[-1])["peak_mb"]
    ratios = {
        part: timings[f"dense, {part}"].median_s / timings[f"fused, {part}"].median_s
        for part in ("forward", "forward and backward")
    }
    roof = roofline(threads=1)
    written = outputs["fused"].numel() * 4 / 1e9 / timings["fused, forward"].median_s
    result = {
        "threads": 1,
        "ratios": ratios,
        "differences": differences,
        "peak_mb": peaks,
        "timings": timings,
        "roofline": roof,
        "fused_forward_share_of_copy": written / roof["copy_gb_per_s"],
    }
    write_result("two_hot", result)


if __name__ == "__main__":
    memory_of(sys.argv[1]) if len(sys.argv) > 1 else main()
