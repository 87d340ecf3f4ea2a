"""Imports run downhill: layer by layer across the packages, room by room inside w4rl_fast."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {"w4rl_kernels": "kernels", "w4rl_engines": "engines", "w4rl_fast": ".", "bench": "."}

PACKAGES = {
    "w4rl_kernels": set[str](),
    "w4rl_engines": {"w4rl_kernels"},
    "w4rl_fast": {"w4rl_kernels", "w4rl_engines"},
    "bench": {"w4rl_kernels", "w4rl_engines", "w4rl_fast"},
}

# What lies at the bottom of w4rl_fast: every room may stand on it.
GROUND = {"", "config", "convolutions", "errors", "files", "fit", "hub", "measure", "metrics", "progress"}
REAL = {"tasks", "data"}
LEARNED = REAL | {"world", "reward", "policy"}
IMAGINED = LEARNED | {"imagine"}
JUDGED = IMAGINED | {"truth"}
REFINED = JUDGED | {"distill", "surrogate", "refine", "speed"}
ROOMS = {
    "": {"imagine"},  # the front door: w4rl_fast.load
    "tasks": set[str](),
    "data": {"tasks"},
    "world": REAL,
    "reward": REAL | {"world"},
    "policy": REAL,
    "imagine": LEARNED | {"run"},
    "truth": IMAGINED,
    "distill": JUDGED | {"run"},
    "surrogate": JUDGED,
    "speed": JUDGED | {"distill", "run"},
    "refine": JUDGED | {"distill", "surrogate", "run"},
    "report": REFINED | {"run"},
    "robot": {"policy", "data.store", "data.episode"},
    "control": REFINED | {"robot", "run"},
    "presets": REFINED | {"report", "robot"},
    "run": REAL,
    "quickstart": REFINED | {"report", "presets", "run"},
    "doctor": REFINED | {"report", "robot"},
    "cli": REFINED | {"report", "robot", "control", "presets", "quickstart", "doctor", "run"},
    "__main__": {"cli"},
}
FORBIDDEN_NAMES = {"utils", "common", "core", "helpers", "misc"}


def modules(package: str) -> Iterator[tuple[str, Path]]:
    """Every module of a package as (dotted name, file)."""
    base = ROOT / SOURCES[package]
    for path in sorted((base / package).rglob("*.py")):
        parts = path.relative_to(base).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(source: str, package: str) -> Iterator[str]:
    """Every name imported anywhere in a source, dotted and absolute; `from a import b` gives a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str:
    """The room of a w4rl_fast module, or "" for the package itself and the names it exports."""
    room = module.split(".")[1] if "." in module else ""
    known = room in ROOMS or room in GROUND or (ROOT / "w4rl_fast" / room).is_dir()
    return room if known or (ROOT / "w4rl_fast" / f"{room}.py").is_file() else ""


def points_uphill(module: str, target: str) -> bool:
    here, there = module.split(".")[0], target.split(".")[0]
    if there not in PACKAGES:
        return there == "tests"
    room = room_of(module) if here == "w4rl_fast" else ""
    if there != here:
        by_robot = room == "robot" and there != "w4rl_engines"
        to_cli = there == "w4rl_fast" and room_of(target) == "cli"
        return there not in PACKAGES[here] or by_robot or to_cli
    if here != "w4rl_fast":
        return False
    allowed = GROUND | ROOMS.get(room, set()) | {room}
    inside = any(f"{target}.".startswith(f"w4rl_fast.{each}.") for each in allowed)
    return room_of(target) not in allowed and not inside


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """The imports of a module that point uphill."""
    package = module if is_package else module.rpartition(".")[0]
    return [f"{module} imports {target}" for target in imports(source, package) if points_uphill(module, target)]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_downhill(package: str) -> None:
    found = [
        violation
        for module, path in modules(package)
        for violation in violations(module, path.read_text(), is_package=path.name == "__init__.py")
    ]
    assert not found, "\n".join(found)


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {path.stem for path in (ROOT / "w4rl_fast").iterdir() if path.suffix == ".py" or path.is_dir()}
    unplaced = rooms - ROOMS.keys() - GROUND - {"__init__", "__pycache__", "py"}
    assert not unplaced, f"say in this file what {', '.join(sorted(unplaced))} may import"


def test_no_room_is_a_drawer_for_everything() -> None:
    named = [
        path for package in PACKAGES for module, path in modules(package) if FORBIDDEN_NAMES & {*module.split(".")}
    ]
    assert not named


def test_source_roots_are_no_packages() -> None:
    assert not [root for root in ("kernels", "engines") if (ROOT / root / "__init__.py").exists()]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("w4rl_kernels.select", "import w4rl_engines"),
        ("w4rl_kernels.select", "def f():\n    from w4rl_fast.errors import UserError"),
        ("w4rl_engines.eager", "from w4rl_fast import measure"),
        ("w4rl_engines.eager", "import bench.window_gather"),
        ("w4rl_fast.tasks.ray", "from w4rl_fast.data import store"),
        ("w4rl_fast.tasks.ray", "from w4rl_fast import data"),
        ("w4rl_fast.tasks.ray", "from ..data import store"),
        ("w4rl_fast.tasks.ray", "from .. import data"),
        ("w4rl_fast.measure", "if True:\n    import w4rl_fast.tasks"),
        ("w4rl_fast.world.unet", "import w4rl_fast.policy"),
        ("w4rl_fast.imagine.rollout", "from w4rl_fast.truth import gate"),
        ("w4rl_fast.distill.targets", "from w4rl_fast.surrogate import rssm"),
        ("w4rl_fast.data.check", "from w4rl_fast.cli import main"),
        ("w4rl_fast.doctor", "from w4rl_fast import cli"),
        ("w4rl_fast.report.page", "from bench import window_gather"),
        ("w4rl_fast.robot.servo", "from w4rl_fast.data import windows"),
        ("w4rl_fast.robot.servo", "from w4rl_fast import data"),
        ("w4rl_fast.robot.servo", "import w4rl_fast.tasks.protocol"),
        ("w4rl_fast.robot.servo", "import w4rl_kernels.select"),
        ("bench.window_gather", "import tests.smoke"),
        ("bench.window_gather", "from w4rl_fast.cli import main"),
    ],
)
def test_an_import_uphill_is_found(module: str, source: str) -> None:
    assert violations(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("w4rl_engines.eager", "from w4rl_kernels.select import select"),
        ("w4rl_fast.tasks.ray", "from w4rl_fast.errors import UserError\nfrom .camera import Camera\nimport numpy"),
        ("w4rl_fast.data.collect", "from w4rl_fast import __version__, tasks"),
        ("w4rl_fast.refine.ppo", "from ..imagine.rollout import rollout"),
        ("w4rl_fast.robot.servo", "from w4rl_fast.data.store import Store\nfrom w4rl_fast.policy import gaussian"),
        ("w4rl_fast.robot.servo", "from w4rl_fast.data import store\nimport w4rl_engines"),
        ("bench.window_gather", "from w4rl_fast.data import windows"),
    ],
)
def test_an_import_downhill_passes(module: str, source: str) -> None:
    assert not violations(module, source)
