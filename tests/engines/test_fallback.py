"""A backend that quietly does something else than it was asked for is found out, wherever it would be used."""

import json

import pytest

from w4rl_engines import registry
from w4rl_engines.backends import backend_module
from w4rl_engines.eager import EagerEngine, ModuleEngine
from w4rl_engines.errors import EngineError
from w4rl_engines.graphs import Captured
from w4rl_engines.load import load


def lacks(name: str):
    return pytest.mark.skipif(registry.unavailable(name) is not None, reason=f"{registry.unavailable(name)}")


@pytest.mark.parametrize(
    "backend",
    [pytest.param(name, marks=lacks(name)) for name in ("compiled", "aoti", "onnxruntime", "openvino")],
)
def test_eager_torch_in_the_place_of_a_backend_is_refused(convolutions, tmp_path, monkeypatch, backend) -> None:
    module = backend_module(backend)
    monkeypatch.setattr(module, "build", backend_module("eager").build)
    monkeypatch.setattr(module, "load", EagerEngine)
    with pytest.raises(EngineError, match=r"fell back: it is run by w4rl_engines\.eager"):
        convolutions.build(tmp_path / "a", backend)
    assert not (tmp_path / "a").exists(), "and nothing of it is published"


@lacks("openvino")
def test_openvino_that_computes_in_another_precision_is_refused(convolutions, tmp_path, monkeypatch) -> None:
    folder = convolutions.build(tmp_path / "a", "openvino").folder
    monkeypatch.setattr("w4rl_engines.openvino._settings", lambda *_: {"INFERENCE_PRECISION_HINT": "bf16"})
    with pytest.raises(EngineError, match="OpenVINO computes in"):
        load(folder, batch=3, threads=1)


@lacks("onnxruntime")
def test_onnx_runtime_with_another_provider_is_refused(convolutions, tmp_path, monkeypatch) -> None:
    folder = convolutions.build(tmp_path / "a", "onnxruntime").folder
    monkeypatch.setattr("onnxruntime.InferenceSession.get_providers", lambda _: ["CUDAExecutionProvider"])
    with pytest.raises(EngineError, match="runs it by CUDAExecutionProvider"):
        load(folder, batch=3, threads=1)


def test_an_engine_that_is_what_it_says_is_loaded(convolutions, tmp_path) -> None:
    folder = convolutions.build(tmp_path / "a").folder
    assert load(folder, batch=3).fallback() is None
    assert json.loads((folder / "manifest.json").read_text())["blobs"]["3"]["parity"]["by"] == "eager"


def test_a_module_is_an_engine_and_no_graph_is_made_of_it_without_a_gpu(convolutions) -> None:
    engine, given = ModuleEngine(convolutions.module, convolutions.spec, 3), convolutions.batch(3)
    assert engine(*given)[0].shape == (3, 4)
    assert engine.fallback() is None
    with pytest.raises(EngineError, match="only a GPU"):
        Captured(engine, given)
