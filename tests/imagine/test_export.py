"""What of a run is exported, and which engine its imagination takes: never one that is not proven for its weights."""

import json
import shutil

import pytest
import torch

import w4rl_fast
from w4rl_engines.artifact import read
from w4rl_engines.build import BuildConfig
from w4rl_engines.errors import EngineError
from w4rl_engines.registry import unavailable
from w4rl_fast.imagine import artifacts
from w4rl_fast.imagine.artifacts import RATIO, choose
from w4rl_fast.imagine.export import PARTS, export_fastest, export_one, exportable
from w4rl_fast.imagine.worlds import ImaginationConfig
from w4rl_fast.run import keep_store
from w4rl_fast.world.checkpoint import save_world

from .conftest import make_run

BATCH = 4


@pytest.fixture
def loaded(run, store):
    keep_store(run, store.path)
    return w4rl_fast.load(run)


@pytest.fixture(scope="module")
def built(tmp_path_factory, world, reward, policy, store):
    """A run with one engine, which is built once."""
    folder = make_run(tmp_path_factory.mktemp("built"), world, reward, policy)
    keep_store(folder, store.path)
    export_one(w4rl_fast.load(folder), "world", BuildConfig(backend="eager", batches=(BATCH,)))
    return folder


@pytest.fixture
def exported(built, tmp_path, store):
    """A copy to change."""
    shutil.copytree(built, tmp_path / "exported")
    keep_store(tmp_path / "exported", store.path)
    return w4rl_fast.load(tmp_path / "exported")


def with_ratio(run, ratio):
    """As if eager torch had taken so many times as long as every engine of the run; None: as if nobody had timed it."""
    from w4rl_engines.manifest import dumps, loads

    for path in run.glob("engines/*/manifest.json"):
        manifest = loads(path.read_bytes())
        for blob in manifest.blobs.values():
            blob.examined.pop(RATIO, None)
            blob.examined.update({} if ratio is None else {RATIO: ratio})
        path.write_bytes(dumps(manifest))


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_what_the_run_does_on_held_out_moments(loaded, part) -> None:
    what = exportable(loaded, part)
    with torch.no_grad():
        given = what.module(*what.rows)
    given = (given,) if isinstance(given, torch.Tensor) else given
    assert [tuple(each.shape[1:]) for each in given] == [port.shape for port in what.spec.outputs]
    assert set(what.tolerances) == {port.name for port in what.spec.outputs}
    assert len(what.rows[0]) == 64
    if part == "policy":
        mean, _ = loaded.policy(*what.rows)
        assert torch.equal(given[0], mean)


def test_an_engine_is_proven_over_an_episode_and_taken_where_it_is_faster(exported) -> None:
    (folder,) = artifacts.artifacts(exported.path)
    examined = json.loads((folder / "manifest.json").read_text())["blobs"][str(BATCH)]["examined"]
    assert examined["steps"] == 5
    assert examined["outcomes_agree"] == 1.0
    assert examined["grey_levels"]["max"] <= 1
    reward, _ = exported.judge
    with_ratio(exported.path, 2.0)
    chosen = choose(exported.path, exported.world, reward, BATCH)
    assert chosen.name == folder.name
    assert exported.imagination(num_worlds=6, slice_size=BATCH).engine != "eager"
    assert exported.imagination(num_worlds=6, slice_size=BATCH + 1).engine == "eager"  # there is none of that size
    assert exported.imagination(num_worlds=6, slice_size=BATCH, engine="eager").engine == "eager"
    with_ratio(exported.path, 0.9)
    chosen = choose(exported.path, exported.world, reward, BATCH)
    assert chosen.engine is None
    assert "0.90" in chosen.passed_over[folder.name]
    with_ratio(exported.path, None)
    chosen = choose(exported.path, exported.world, reward, BATCH)
    assert chosen.engine is None
    assert "not timed" in chosen.passed_over[folder.name]


def test_the_worlds_of_an_engine_are_those_of_eager_torch(exported) -> None:
    with_ratio(exported.path, 2.0)
    both = [exported.imagination(num_worlds=6, slice_size=BATCH, **more) for more in ({}, {"engine": "eager"})]
    for each in both:
        each.reset(0)
    for _ in range(7):
        (mine, said, _), (theirs, wanted, _) = (each.step(torch.full((6, 2), 0.3)) for each in both)
        assert (mine.frames.int() - theirs.frames.int()).abs().max() <= 2
        assert torch.equal(said.terminated, wanted.terminated)
        torch.testing.assert_close(mine.proprio, theirs.proprio, atol=1e-4, rtol=0)


def test_an_engine_of_other_weights_is_passed_over(exported) -> None:
    with_ratio(exported.path, 2.0)
    other = w4rl_fast.load(exported.path)
    with torch.no_grad():
        other.world.unet.leave.bias.add_(0.1)
    save_world(exported.path / "world", other.world)
    fresh = w4rl_fast.load(exported.path)
    chosen = choose(exported.path, fresh.world, fresh.judge[0], BATCH)
    assert chosen.engine is None
    assert "other weights" in next(iter(chosen.passed_over.values()))
    assert fresh.imagination(num_worlds=6, slice_size=BATCH).engine == "eager"


def test_one_that_cannot_be_loaded_makes_room_for_eager_torch(exported, monkeypatch) -> None:
    with_ratio(exported.path, 2.0)

    def refuse(*_, **__):
        raise EngineError("engine", "it fell back", "Choose another")

    monkeypatch.setattr("w4rl_fast.imagine.artifacts.load_engine", refuse)
    chosen = choose(exported.path, exported.world, exported.judge[0], BATCH)
    assert chosen.engine is None
    assert list(chosen.passed_over.values()) == ["it fell back"]


def test_an_engine_that_errs_over_an_episode_is_said_so(loaded) -> None:
    from w4rl_fast.imagine.export import over_horizon

    what = exportable(loaded, "world")

    class Wrong:
        spec, batch = what.spec, BATCH

        def __call__(self, *tensors):
            with torch.no_grad():
                frame, place, logit = what.module(*tensors)
            return -frame, place + 0.01, logit

    found = over_horizon(loaded, what)(Wrong())
    assert found["grey_levels"]["mean"] > 20
    assert found["place_hundredths"]["max"] > 1


def test_the_commands_export_list_and_refuse(loaded, cli, refusal) -> None:
    few = ("--batch", BATCH, "--threads", 1)
    assert "ready" in cli("engines").stdout
    assert "no engines" in cli("engines", loaded.path).stdout
    result = cli("export", loaded.path, *few, "--engine", "eager", "--precision", "fp32", "--json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["rows"]
    assert row["engine"] == "eager"
    assert row["passed"]
    assert row["parity"]["frame"]["unit"] == "grey levels"
    listed = cli("engines", loaded.path).stdout
    assert row["artifact"] in listed
    assert "in slices of 32 imagination takes eager" in listed  # it was built for slices of 4
    assert "there is no task.json" in refusal("engines", loaded.path / "nowhere")
    assert cli("export", loaded.path, *few, "--steps", 0).exit_code == 2
    (blob,) = loaded.path.glob("engines/*/batch-*")
    blob.write_bytes(blob.read_bytes()[:-1])
    reward, _ = loaded.judge
    assert choose(loaded.path, loaded.world, reward, BATCH).engine is None
    assert "at least 1" in refusal("export", loaded.path, "--engine", "eager", "--batch", 0)
    assert "eager has" in refusal("export", loaded.path, *few, "--engine", "eager", "--precision", "int8")
    assert cli("export", loaded.path, *few, "--engine", "nothing").exit_code == 2
    assert cli("export", loaded.path, "--batch", "many").exit_code == 2


def test_the_quickstart_says_what_imagines(loaded, monkeypatch) -> None:
    monkeypatch.setattr("w4rl_fast.imagine.export.cannot_build", lambda _: "not installed")
    assert export_fastest(loaded) == "eager torch imagines; OpenVINO: not installed"
    assert not artifacts.artifacts(loaded.path)


@pytest.mark.slow
@pytest.mark.skipif(unavailable("openvino") is not None, reason=f"{unavailable('openvino')}")
def test_the_fastest_is_built_for_the_slices_of_an_imagination(loaded, monkeypatch) -> None:
    assert "times as fast as eager torch" in export_fastest(loaded)
    (folder,) = artifacts.artifacts(loaded.path, "world")
    assert read(folder).batches == (ImaginationConfig().slice_size,)
    with_ratio(loaded.path, 2.0)
    assert loaded.imagination(num_worlds=3).engine == "OpenVinoEngine"
    shutil.rmtree(folder)
    monkeypatch.setattr("w4rl_engines.parity.Error.excess", property(lambda _: 2.0))
    assert "eager torch imagines" in export_fastest(loaded)
    assert not artifacts.artifacts(loaded.path)


def test_what_is_out_of_tolerance_is_not_kept(loaded, monkeypatch) -> None:
    monkeypatch.setattr("w4rl_engines.parity.Error.excess", property(lambda _: 2.0))
    with pytest.raises(EngineError, match="accept"):
        export_one(loaded, "world", BuildConfig(backend="eager", batches=(BATCH,)))
    assert not artifacts.artifacts(loaded.path)
