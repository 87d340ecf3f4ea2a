"""Run all benchmarks but the one that needs a GPU, or those named: python -m bench [NAME ...]."""

import pkgutil
import subprocess
import sys

import bench


def main(names: list[str]) -> int:
    """Run each benchmark in a process of its own; the exit status is 1 if one failed, 2 if a name is unknown."""
    known = sorted(module.name for module in pkgutil.iter_modules(bench.__path__) if module.name != "__main__")
    if unknown := sorted(set(names) - set(known)):
        print(f"benchmark {', '.join(unknown)}: there is none of that name. Choose from {', '.join(known)}")
        return 2
    failed = []
    for name in names or [name for name in known if name != "gpu"]:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"bench.{name}"]).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
