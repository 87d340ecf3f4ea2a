"""An artifact is whole, of the module that is asked for and made for this place, or it is refused with the reason."""

import copy
import dataclasses
import json

import pytest
import torch
from torch import nn

from w4rl_engines import artifact as artifacts
from w4rl_engines import load as loading
from w4rl_engines import registry
from w4rl_engines.artifact import MANIFEST
from w4rl_engines.errors import ArtifactRefused, EngineError
from w4rl_engines.fingerprint import fingerprint
from w4rl_engines.load import load
from w4rl_engines.manifest import dumps, loads

REBUILD = "w4rl export RUN --engine eager --batch {batches}"


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def paths(value, path=()):
    """Where every number and every text of a JSON value is."""
    if isinstance(value, dict):
        for key in value:
            yield from paths(value[key], (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from paths(each, (*path, index))
    else:
        yield path


def test_a_manifest_comes_back_as_it_was(artifact) -> None:
    assert artifacts.read(artifact.folder).manifest == artifact.manifest
    assert loads(dumps(artifact.manifest)) == artifact.manifest


def test_every_edit_of_a_manifest_is_noticed(artifact) -> None:
    whole = json.loads((artifact.folder / MANIFEST).read_text())
    places = list(paths(whole))
    assert len(places) > 30
    for place in places:
        edited = copy.deepcopy(whole)
        inner = edited
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = f"{inner[place[-1]]}0"
        (artifact.folder / MANIFEST).write_text(json.dumps(edited))
        with pytest.raises(ArtifactRefused, match="cannot be trusted"):
            load(artifact.folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": 1}', '{"format": 1, "seal": "x"}'])
def test_a_manifest_of_rubbish_is_refused(artifact, content: str) -> None:
    (artifact.folder / MANIFEST).write_text(content)
    with pytest.raises(ArtifactRefused, match=r"cannot be trusted.*Build it again by: w4rl export RUN"):
        load(artifact.folder, rebuild=REBUILD)


def test_a_flipped_bit_anywhere_in_a_blob_is_refused(artifact) -> None:
    path = artifact.path(3)
    whole = path.read_bytes()
    for place in (0, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ArtifactRefused, match=r"damaged.*--batch 3$"):
            load(artifact.folder, rebuild=REBUILD)


@pytest.mark.parametrize("keep", [0, 1000])
def test_a_truncated_blob_is_refused(artifact, keep: int) -> None:
    path = artifact.path(3)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArtifactRefused, match=f"damaged: {keep} bytes of"):
        load(artifact.folder)


def test_a_missing_blob_or_folder_is_refused(artifact, tmp_path) -> None:
    artifact.path(3).unlink()
    with pytest.raises(ArtifactRefused, match="cannot be read: No such file"):
        load(artifact.folder)
    with pytest.raises(ArtifactRefused, match="cannot be read: No such file"):
        load(tmp_path / "nowhere")


def test_other_weights_and_other_settings_are_told_apart(artifact, convolutions) -> None:
    mine = fingerprint(convolutions.module)
    load(artifact.folder, expected=mine)
    other, louder = copy.deepcopy(convolutions.module), copy.deepcopy(convolutions.module)
    with torch.no_grad():
        other.out.bias[0] += 1e-7
    louder.gain = 1.5
    with pytest.raises(ArtifactRefused, match="other weights"):
        load(artifact.folder, expected=fingerprint(other))
    with pytest.raises(ArtifactRefused, match="other settings"):
        load(artifact.folder, expected=fingerprint(louder))


def test_a_fingerprint_is_that_of_a_copy_and_of_nothing_else(convolutions, small_world) -> None:
    module = small_world.module
    assert fingerprint(copy.deepcopy(module).eval()) == fingerprint(module)
    assert fingerprint(type(module)(3)).settings != fingerprint(module).settings
    strided = nn.Sequential(nn.Conv2d(3, 3, 3, stride=2))
    plain = nn.Sequential(nn.Conv2d(3, 3, 3))
    plain.load_state_dict(strided.state_dict())
    assert fingerprint(plain).weights == fingerprint(strided).weights
    assert fingerprint(plain).settings != fingerprint(strided).settings
    assert fingerprint(convolutions.module).weights != fingerprint(module).weights


def test_another_release_of_a_library_is_refused_where_it_matters(artifact, monkeypatch) -> None:
    monkeypatch.setattr(loading, "library_versions", lambda _: {"torch": "1.0"})
    with pytest.raises(ArtifactRefused, match=r"built with torch 2.*here is 1\.0"):
        load(artifact.folder)
    backend = dataclasses.replace(registry.BACKENDS["eager"], exact=())
    monkeypatch.setitem(registry.BACKENDS, "eager", backend)
    load(artifact.folder)


def test_another_processor_is_refused_where_it_matters(artifact, monkeypatch) -> None:
    monkeypatch.setattr(loading, "architecture", lambda _: "sm_12")
    load(artifact.folder)
    monkeypatch.setitem(registry.BACKENDS, "eager", dataclasses.replace(registry.BACKENDS["eager"], tied=True))
    with pytest.raises(ArtifactRefused, match="this is sm_12"):
        load(artifact.folder)


def test_a_batch_that_is_not_there_is_answered_with_those_that_are(artifact, convolutions) -> None:
    with pytest.raises(EngineError, match=r"batch 8: .* holds 3\. Add another by: w4rl export RUN .* --batch 8$"):
        load(artifact.folder, batch=8, rebuild=REBUILD)
    convolutions.build(artifact.folder, batches=(5,))
    with pytest.raises(EngineError, match=r"batch None: .* holds 3, 5\. Say which"):
        load(artifact.folder)


def test_a_batch_is_added_to_what_is_the_same_and_takes_the_place_of_what_is_not(artifact, convolutions) -> None:
    both = convolutions.build(artifact.folder, batches=(2,))
    assert both.batches == (2, 3)
    assert both.manifest.blobs[3] == artifact.manifest.blobs[3]
    torch.manual_seed(5)
    alone = convolutions.build(artifact.folder, batches=(4,), module=type(convolutions.module)())
    assert alone.batches == (4,)
    assert files(artifact.folder) == sorted([MANIFEST, alone.manifest.blobs[4].file])


def test_a_damaged_batch_is_not_carried_along(artifact, convolutions) -> None:
    artifact.path(3).write_bytes(b"")
    assert convolutions.build(artifact.folder, batches=(2,)).batches == (2,)


class Stop(BaseException):
    """Stands for Ctrl-C."""


def test_an_interrupted_build_leaves_what_was_there(artifact, convolutions, tmp_path) -> None:
    def interrupt(_):
        raise Stop

    before = files(artifact.folder), (artifact.folder / MANIFEST).read_bytes()
    with pytest.raises(Stop):
        convolutions.build(artifact.folder, batches=(2, 4), examine=interrupt)
    assert (files(artifact.folder), (artifact.folder / MANIFEST).read_bytes()) == before
    with pytest.raises(Stop):
        convolutions.build(tmp_path / "new", examine=interrupt)
    assert not (tmp_path / "new").exists()


def test_a_build_touches_nothing_that_is_not_its_own(convolutions, tmp_path) -> None:
    (tmp_path / "letter.txt").write_text("keep me")
    convolutions.build(tmp_path)
    assert "letter.txt" in files(tmp_path)


def test_two_builds_do_not_write_one_folder(convolutions, tmp_path) -> None:
    with (
        artifacts.writing(tmp_path / "busy"),
        pytest.raises(EngineError, match="another build is writing"),
    ):
        convolutions.build(tmp_path / "busy")


def test_a_folder_that_cannot_be_written_is_named(convolutions, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match=r"cannot write .*file.*Free some space"):
        convolutions.build(tmp_path / "file" / "below")


def test_a_full_disk_while_building_is_an_error_that_says_so(convolutions, tmp_path, monkeypatch) -> None:
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("w4rl_engines.eager.save", full)
    with pytest.raises(EngineError, match="No space left"):
        convolutions.build(tmp_path / "full")
    assert not (tmp_path / "full").exists()


def test_what_is_examined_is_written_down(convolutions, tmp_path) -> None:
    kept = convolutions.build(tmp_path / "a", examine=lambda engine: {"batch": engine.batch}, notes={"steps": (1, 2)})
    assert artifacts.read(kept.folder).manifest.blobs[3].examined == {"batch": 3}
    assert kept.identity.notes == {"steps": [1, 2]}
    assert kept.manifest.blobs[3].latency.samples >= 5
