"""Run all benchmarks but the one that needs a GPU, or those named: python -m bench [NAME ...] [--compare].

`suites` are those of pytest-benchmark in bench/suites: every run of them is stored in .benchmarks, and --compare sets
the last one of this machine beside the new one.
"""

import pkgutil
import subprocess
import sys

import bench

SUITES, COMPARE = "suites", "--compare"
ASKED = ("gpu", "ancestor", "inside")
"""Benchmarks that run only when they are named: they want a GPU, or trained runs."""


def main(words: list[str]) -> int:
    """Run each benchmark in a process of its own; the exit status is 1 if one failed, 2 if a name is unknown."""
    names = [word for word in words if word != COMPARE]
    scripts = [module.name for module in pkgutil.iter_modules(bench.__path__) if not module.ispkg]
    known = sorted({*scripts, SUITES} - {"__main__"})
    if unknown := sorted(set(names) - set(known)):
        print(f"benchmark {', '.join(unknown)}: there is none of that name. Choose from {', '.join(known)}")
        return 2
    failed = []
    for name in names or [name for name in known if name not in ASKED]:
        print(f"== {name}", flush=True)
        if subprocess.run(command(name, compare=COMPARE in words)).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def command(name: str, *, compare: bool) -> list[str]:
    if name != SUITES:
        return [sys.executable, "-m", f"bench.{name}"]
    options = ["-q", "-p", "no:cacheprovider", "--benchmark-enable", "--benchmark-autosave", "--benchmark-columns"]
    options += ["median,min,iqr,rounds", *(["--benchmark-compare"] if compare else [])]
    return [sys.executable, "-m", "pytest", "bench/suites", *options]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
