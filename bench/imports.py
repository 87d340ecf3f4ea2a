"""What `import w4rl_fast` costs beyond `import torch`: each in fresh interpreters, in turn."""

import statistics
import subprocess
import sys
import time

from w4rl_fast.measure import write_result

STATEMENTS = {
    "nothing": "pass",
    "torch": "import torch",
    "torch, w4rl_fast": "import torch, w4rl_fast",
    "torch, w4rl_fast and its command line": "import torch, w4rl_fast, w4rl_fast.cli",
}
ROUNDS = 7


def seconds(statement: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - started


def main() -> None:
    for statement in STATEMENTS.values():
        seconds(statement)
    samples: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(ROUNDS):
        for name, statement in STATEMENTS.items():
            samples[name].append(seconds(statement))
    median = {name: statistics.median(values) for name, values in samples.items()}
    beyond = median["torch, w4rl_fast"] - median["torch"]
    for name, value in median.items():
        print(f"{name:40s} {value:.3f} s")
    write_result("imports", {"samples": ROUNDS, "median_s": median, "w4rl_fast_beyond_torch_s": beyond})


if __name__ == "__main__":
    main()
