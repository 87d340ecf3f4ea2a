"""What is asked for is what is built, or an error that says what could be."""

import pytest
import torch
from torch import nn

from w4rl_engines import registry
from w4rl_engines.build import BuildConfig
from w4rl_engines.choice import fastest
from w4rl_engines.errors import BackendUnavailable, EngineError
from w4rl_engines.fingerprint import fingerprint
from w4rl_engines.parity import Tolerance
from w4rl_engines.precision import Narrow, narrowed, products
from w4rl_engines.protocol import Port, StepSpec


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"backend": "onnx"}, "unknown backend 'onnx'; there are eager"),
        ({"backend": "onnxruntime", "precision": "int8"}, "onnxruntime has float32"),
        ({"backend": "eager", "precision": "half"}, "eager has float32, bfloat16"),
        ({"backend": "eager", "batches": (1, 0)}, "at least 1"),
        ({"backend": "eager", "batches": ()}, "at least 1"),
        ({"backend": "openvino", "device": "cuda"}, "openvino runs on cpu"),
        ({"backend": "eager", "targets": ("sm89",)}, "tensorrt-rtx alone"),
    ],
)
def test_a_wrong_config_names_what_is_right(wrong, said) -> None:
    with pytest.raises(ValueError, match=said):
        BuildConfig(**wrong)


def test_a_backend_that_cannot_build_is_an_error_and_nothing_takes_its_place(
    convolutions, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(registry, "_is_installed", lambda module: module != "onnxruntime")
    with pytest.raises(BackendUnavailable, match=r"onnxruntime.*pip install.*Available: eager"):
        convolutions.build(tmp_path / "a", "onnxruntime")
    assert not (tmp_path / "a").exists()


def test_what_cannot_be_exported_is_named(convolutions, tmp_path) -> None:
    class Branching(nn.Module):
        def forward(self, pictures):
            return pictures.mean((2, 3)).repeat(1, 2)[:, :4] * (1 if pictures.sum() > 0 else 2)

    with pytest.raises(EngineError, match="eager float32 at batch 3: it cannot be built"):
        convolutions.build(tmp_path / "a", module=Branching())
    assert not (tmp_path / "a").exists()


def test_names_that_no_runtime_could_tell_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="names x"):
        StepSpec(inputs=(Port(name="x"),), outputs=(Port(name="x"),))
    with pytest.raises(ValueError, match="identifier"):
        Port(name="a b")
    with pytest.raises(ValueError, match="torch has none"):
        Port(name="a", dtype="nn")


def test_only_products_of_weights_are_narrowed(small_world) -> None:
    names = products(small_world.module)
    assert set(names) == {"paint", "act", "judge"}, "attention reads its own weights"
    copied = narrowed(small_world.module, frozenset({"act"}), "bfloat16")
    assert isinstance(copied.act, Narrow)
    assert not isinstance(copied.paint, Narrow)
    assert small_world.module.act.weight.dtype is torch.float32


def test_sensitive_layers_keep_their_digits_until_it_passes(convolutions, tmp_path) -> None:
    """With a tolerance that one narrow layer breaks and the other keeps, the first stays in float32."""
    loose = convolutions.build(tmp_path / "loose", precision="bfloat16").identity
    assert set(loose.low) == {"module.into", "module.out"}
    size = loose.sensitivity
    worst, other = max(size, key=size.get), min(size, key=size.get)
    between = (size[worst] + size[other]) / 2
    error = convolutions.build(tmp_path / "again", precision="bfloat16").manifest.blobs[3].parity.outputs["features"]
    tight = Tolerance(p99=error.tolerance.p99 * between, maximum=error.tolerance.maximum)
    kept = convolutions.build(tmp_path / "tight", precision="bfloat16", tolerances={"features": tight})
    assert kept.identity.low == (other,)


def test_a_batch_added_later_narrows_the_same_layers(convolutions, tmp_path) -> None:
    first = convolutions.build(tmp_path / "a", precision="bfloat16")
    second = convolutions.build(tmp_path / "a", precision="bfloat16", batches=(2,))
    assert second.batches == (2, 3)
    assert second.identity == first.identity


def test_auto_takes_the_fastest_that_passed_and_says_why_not_the_others(convolutions, tmp_path, monkeypatch) -> None:
    names = iter((5e-3, 1e-3, 2e-3))
    from w4rl_engines import build as building
    from w4rl_engines.latency import Latency

    def timed(*_, threads):
        return Latency(median_s=next(names), p99_s=1.0, samples=9, threads=threads)

    monkeypatch.setattr(building, "measure", timed)
    folders = [tmp_path / name for name in ("slow", "wrong", "fine", "missing")]
    convolutions.build(folders[0])
    strict = {"features": Tolerance(p99=0, maximum=0)}
    convolutions.build(folders[1], precision="bfloat16", module=Louder(convolutions.module), tolerances=strict,
                       reference=convolutions.module, accept=True)  # fmt: skip
    convolutions.build(folders[2])
    chosen = fastest(folders, 3)
    assert chosen.artifact is not None
    assert chosen.artifact.folder == folders[2]
    assert chosen.passed_over[folders[0]].startswith("slower: 5 ms")
    assert chosen.passed_over[folders[1]] == "it is out of tolerance"
    assert "cannot be read" in chosen.passed_over[folders[3]]
    assert fastest(folders[1:2], 3).artifact is None
    assert fastest(folders, 4).artifact is None
    mine = fingerprint(convolutions.module)
    assert fastest([folders[2]], 3, expected=mine).artifact is not None


class Louder(nn.Module):
    """Something else than the reference."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *tensors):
        return self.inner(*tensors) * 1.5
