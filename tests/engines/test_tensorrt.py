"""TensorRT for RTX builds for cards that are not here; what needs a card is skipped with that reason."""

import pytest

from w4rl_engines import registry
from w4rl_engines.choice import fastest
from w4rl_engines.errors import ArtifactRefused, BackendUnavailable, EngineError
from w4rl_engines.load import load

NAME = "tensorrt-rtx"
CANNOT_BUILD, CANNOT_RUN = registry.cannot_build(NAME), registry.cannot_run(NAME)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CANNOT_BUILD is not None, reason=str(CANNOT_BUILD))]


@pytest.fixture(scope="module")
def artifact(small_world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rtx") / "a"
    return small_world.build(folder, NAME, batches=(1, 4), targets=("sm86", "sm89", "sm120"))


def test_an_engine_is_built_for_each_batch_and_every_target(artifact) -> None:
    assert artifact.batches == (1, 4)
    assert artifact.identity.targets == ("sm86", "sm89", "sm120")
    for blob in artifact.manifest.blobs.values():
        assert blob.size > 10_000


@pytest.mark.skipif(CANNOT_RUN is None, reason="a card is here")
def test_numbers_that_another_backend_stood_in_for_are_not_passed_off_as_its_own(artifact) -> None:
    blob = artifact.manifest.blobs[4]
    assert (blob.parity.by, blob.latency, blob.load_s) == ("onnxruntime", None, None)
    assert fastest([artifact.folder], 4, device="cuda").artifact is None
    with pytest.raises((ArtifactRefused, BackendUnavailable)):
        load(artifact.folder, batch=4)


def test_the_network_has_the_inputs_and_outputs_of_the_spec(small_world, tmp_path) -> None:
    library = pytest.importorskip("tensorrt_rtx")
    from w4rl_engines.export import Step
    from w4rl_engines.onnx_export import write_onnx
    from w4rl_engines.protocol import Job

    rows = tuple(row[:4] for row in small_world.rows)
    job = Job(module=Step(small_world.module), spec=small_world.spec, inputs=rows, rows=rows, backend=NAME,
              precision="float32")  # fmt: skip
    write_onnx(job, tmp_path / "step.onnx")
    logger = library.Logger(library.Logger.ERROR)
    builder = library.Builder(logger)
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert library.OnnxParser(network, logger).parse_from_file(str(tmp_path / "step.onnx"))
    given = [network.get_input(index) for index in range(network.num_inputs)]
    made = [network.get_output(index) for index in range(network.num_outputs)]
    for ports, tensors in ((small_world.spec.inputs, given), (small_world.spec.outputs, made)):
        assert [port.name for port in ports] == [tensor.name for tensor in tensors]
        assert [(4, *port.shape) for port in ports] == [tuple(tensor.shape) for tensor in tensors]


def test_an_architecture_it_does_not_build_for_is_answered_with_those_it_does(small_world, tmp_path) -> None:
    with pytest.raises(EngineError, match=r"target sm90.*sm89"):
        small_world.build(tmp_path / "a", NAME, targets=("sm90",))


@pytest.mark.skipif(CANNOT_RUN is not None, reason=str(CANNOT_RUN))
def test_it_runs_where_a_card_is(small_world, tmp_path) -> None:
    made = small_world.build(tmp_path / "a", NAME)
    assert made.manifest.blobs[3].parity.by == NAME
