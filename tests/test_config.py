import json
import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from w4rl_fast.config import from_json_dict, load_config, override, save_config, to_json_dict
from w4rl_fast.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    distance: float = 1.0
    angles: tuple[float, float, float] = (0.0, 90.0, 0.0)

    def __post_init__(self) -> None:
        if self.distance <= 0:
            raise ValueError("distance is positive")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    task: str
    horizon: int = 10
    fast: bool = False
    layers: tuple[int, ...] = (1, 2)
    camera: Camera = field(default_factory=Camera)
    second: Camera | None = None
    cameras: tuple[Camera, ...] = ()
    limit: int | None = None
    batch: int | Literal["auto"] = "auto"
    scale: str | float | int = 1
    precision: Literal["fp32", "bf16", 8] = "fp32"
    weights: dict[str, float] = field(default_factory=dict)
    out: Path = Path("runs")


@dataclass(frozen=True, kw_only=True, slots=True)
class Other:
    task: str


def random_camera(rng: random.Random) -> Camera:
    return Camera(distance=rng.expovariate(1e-3) + 1e-9, angles=(rng.random(), -rng.random(), 1e300 * rng.random()))


def random_run(rng: random.Random) -> Run:
    return Run(
        task="".join(chr(rng.choice((34, 61, 92, 46, 233, 0x1F600, 97))) for _ in range(rng.randrange(6))),
        horizon=rng.randrange(-(2**70), 2**70),
        fast=rng.random() < 0.5,
        layers=tuple(rng.randrange(9) for _ in range(rng.randrange(4))),
        camera=random_camera(rng),
        second=rng.choice((None, random_camera(rng))),
        cameras=tuple(random_camera(rng) for _ in range(rng.randrange(3))),
        limit=rng.choice((None, 0, 7)),
        batch=rng.choice(("auto", 0, 32)),
        scale=rng.choice((1, 1.0, "1", 0.5, "none", "")),
        precision=rng.choice(("fp32", "bf16", 8)),
        weights={f"task/{index}": rng.random() for index in range(rng.randrange(3))},
        out=Path("a") / str(rng.random()),
    )


@pytest.mark.parametrize("seed", range(200))
def test_every_config_survives_the_round_trip_with_its_types(seed: int) -> None:
    run = random_run(random.Random(seed))
    again = from_json_dict(Run, json.loads(json.dumps(to_json_dict(run), allow_nan=False)))
    assert repr(again) == repr(run)


def test_missing_fields_take_their_defaults() -> None:
    assert from_json_dict(Run, {"task": "x"}) == Run(task="x")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"task": "x", "horizn": 3}, ["horizn", "Run", "horizon"]),
        ({"task": "x", "camera": {"distnce": 3}}, ["camera.distnce", "Camera", "camera.distance"]),
        ({"task": "x", "second": {"distnce": 3}}, ["second.distnce", "second.distance"]),
        ({}, ["Run", "task"]),
        ({"task": "x", "horizon": "1.5"}, ["horizon", "int", "'1.5'"]),
        ({"task": "x", "horizon": 1.0}, ["horizon", "int", "1.0"]),
        ({"task": "x", "horizon": True}, ["horizon", "int", "True"]),
        ({"task": "x", "fast": 1}, ["fast", "bool", "1"]),
        ({"task": 3}, ["task", "str", "3"]),
        ({"task": "x", "camera": {"distance": "far"}}, ["camera.distance", "float", "'far'"]),
        ({"task": "x", "camera": {"distance": True}}, ["camera.distance", "float", "True"]),
        ({"task": "x", "camera": {"distance": float("nan")}}, ["camera.distance", "finite", "nan"]),
        ({"task": "x", "camera": {"distance": 10**400}}, ["camera.distance", "finite"]),
        ({"task": "x", "camera": {"angles": [1, 2]}}, ["camera.angles", "tuple[float, float, float]", "[1, 2]"]),
        ({"task": "x", "camera": {"angles": [1, 2, "z"]}}, ["camera.angles[2]", "float", "'z'"]),
        ({"task": "x", "layers": "12"}, ["layers", "tuple[int, ...]", "'12'"]),
        ({"task": "x", "camera": 3}, ["camera", "Camera", "3"]),
        ({"task": "x", "camera": None}, ["camera", "Camera", "None"]),
        ({"task": "x", "camera": {"distance": -1}}, ["camera", "distance is positive"]),
        ({"task": "x", "cameras": [{}, {"distance": 0}]}, ["cameras[1]", "distance is positive"]),
        ({"task": "x", "limit": 1.5}, ["limit", "int", "1.5"]),
        ({"task": "x", "batch": "big"}, ["batch", "int or one of auto", "'big'"]),
        ({"task": "x", "precision": "fp8"}, ["precision", "fp32, bf16, 8", "'fp8'"]),
        ({"task": "x", "precision": 8.0}, ["precision", "fp32, bf16, 8", "8.0"]),
        ({"task": "x", "weights": {"a": "b"}}, ["weights.a", "float", "'b'"]),
        ({"task": "x", "weights": [1]}, ["weights", "dict[str, float]", "[1]"]),
        ({"task": "x", "out": 1}, ["out", "path", "1"]),
        ([1], ["Run", "[1]"]),
    ],
)
def test_what_does_not_fit_is_named(data: object, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        from_json_dict(Run, data)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("horizon=20", {"horizon": 20}),
        (" horizon = 20 ", {"horizon": 20}),
        ("fast=true", {"fast": True}),
        ("task=a=b", {"task": "a=b"}),
        ("task=7", {"task": "7"}),
        ("layers=3,4, 5", {"layers": (3, 4, 5)}),
        ("layers=[3]", {"layers": (3,)}),
        ("layers=", {"layers": ()}),
        ("camera.distance=.5", {"camera": Camera(distance=0.5)}),
        ("camera.distance=2", {"camera": Camera(distance=2.0)}),
        ("camera.angles=1,2,3", {"camera": Camera(angles=(1.0, 2.0, 3.0))}),
        ("second.distance=3", {"second": Camera(distance=3.0)}),
        ('second={"distance": 3}', {"second": Camera(distance=3.0)}),
        ("limit=5", {"limit": 5}),
        ("limit=none", {"limit": None}),
        ("batch=16", {"batch": 16}),
        ("batch=auto", {"batch": "auto"}),
        ("scale=0.5", {"scale": 0.5}),
        ("scale=half", {"scale": "half"}),
        ("precision=8", {"precision": 8}),
        ("weights.expert=0.5", {"weights": {"task/a": 1.0, "expert": 0.5}}),
        ('weights={"b": 2}', {"weights": {"b": 2.0}}),
        ("out=elsewhere", {"out": Path("elsewhere")}),
    ],
)
def test_a_setting_changes_its_field_alone(setting: str, expected: dict[str, Any]) -> None:
    base = Run(task="x", limit=1, weights={"task/a": 1.0})
    assert repr(override(base, [setting])) == repr(replace(base, **expected))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("horizn=20", ["horizn", "Run", "horizon"]),
        ("distance=2", ["distance", "camera.distance"]),
        ("camera.distnce=2", ["camera.distnce", "camera.distance"]),
        ("horizon.x=2", ["horizon.x"]),
        ("horizon", ["name=value"]),
        ("=3", ["unknown"]),
        ("horizon=1.5", ["horizon", "int", "1.5"]),
        ("fast=True", ["fast", "bool", "'True'"]),
        ("fast=1", ["fast", "bool", "1"]),
        ("camera.distance=nan", ["camera.distance", "finite"]),
        ("camera.distance=-1", ["camera", "distance is positive"]),
        ("camera.angles=1,2", ["camera.angles", "tuple"]),
        ("camera=none", ["camera", "Camera"]),
        ("precision=fp8", ["precision", "bf16", "'fp8'"]),
    ],
)
def test_a_setting_that_does_not_fit_is_named(setting: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        override(Run(task="x"), [setting])
    assert [word for word in words if word not in str(caught.value)] == []


def test_settings_are_checked_together_and_the_last_one_wins() -> None:
    run = override(Run(task="x"), ["camera.distance=-1", "second=none", "camera.distance=3", "second.distance=4"])
    assert (run.camera.distance, run.second) == (3.0, Camera(distance=4.0))


def test_a_saved_config_loads_as_its_own_class_only(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    run = random_run(random.Random(0))
    save_config(path, run)
    assert load_config(path, Run) == run
    with pytest.raises(UserError, match="holds Run: Other is needed"):
        load_config(path, Other)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"task": "x"}', b"3"])
def test_a_file_that_holds_no_config_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json"):
        load_config(path, Run)


def test_a_config_without_a_json_value_is_not_written_over_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    save_config(path, Run(task="old"))
    with pytest.raises(UserError, match="finite"):
        save_config(path, Run(task="new", camera=Camera(distance=float("inf"))))
    assert load_config(path, Run).task == "old"
