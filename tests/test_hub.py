"""A world in a folder and on the hub: the same two files, nothing unpickled, misfits named."""

import json
import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from w4rl_fast import hub
from w4rl_fast.errors import UserError
from w4rl_fast.world.checkpoint import load_world, save_world
from w4rl_fast.world.config import BackboneConfig, TransformerConfig, WorldConfig
from w4rl_fast.world.model import WorldModel

SIZES = {"image_size": 16, "action_dim": 2, "proprio_dim": 3, "history": 2}
CONFIGS = [
    WorldConfig(**SIZES, backbone=BackboneConfig(patch=2, widths=(8,), depths=(1,), attention=(False,))),
    WorldConfig(**SIZES, transformer=TransformerConfig(patch=4, width=32, depth=1)),
]
FILES = {"config.json", "world.safetensors"}


def world(config: WorldConfig = CONFIGS[1]) -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(config)


def same(first: WorldModel, second: WorldModel) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return (
        first.config == second.config
        and ours.keys() == theirs.keys()
        and all(torch.equal(value, theirs[name]) for name, value in ours.items())
    )


@pytest.mark.parametrize("config", CONFIGS, ids=["unet", "dit"])
def test_a_world_comes_back_from_either_way_of_saving_by_either_way_of_loading(tmp_path, config) -> None:
    model = world(config)
    model.save_pretrained(tmp_path / "a")
    save_world(tmp_path / "b", model)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    for loaded in (load_world(tmp_path / "a"), WorldModel.from_pretrained(tmp_path / "b")):
        assert same(loaded, model)
        assert not loaded.training
    assert {path.name for path in (tmp_path / "a").iterdir()} == FILES | {"README.md"}
    assert {path.name for path in (tmp_path / "b").iterdir()} == FILES


def test_saving_again_overwrites_both_files(tmp_path) -> None:
    world(CONFIGS[0]).save_pretrained(tmp_path)
    world(CONFIGS[1]).save_pretrained(str(tmp_path))
    assert same(WorldModel.from_pretrained(str(tmp_path)), world(CONFIGS[1]))


class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_pickle_in_the_folder_is_never_opened(tmp_path) -> None:
    folder, mark = tmp_path / "folder", tmp_path / "mark"
    world().save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(mark)))
    assert same(WorldModel.from_pretrained(folder), world())
    (folder / "world.safetensors").write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(UserError, match="cannot be read"):
        WorldModel.from_pretrained(folder)
    (folder / "world.safetensors").unlink()
    with pytest.raises(UserError, match=r"there is no world\.safetensors in it"):
        WorldModel.from_pretrained(folder)
    assert not mark.exists()


@pytest.mark.parametrize("change", ["missing", "misshapen", "unknown"])
def test_weights_that_do_not_fit_are_named(tmp_path, change: str) -> None:
    world().save_pretrained(tmp_path)
    state = load_file(tmp_path / "world.safetensors")
    name = "dit.stray" if change == "unknown" else "dit.leave.weight"
    if change == "missing":
        del state[name]
    else:
        state[name] = torch.zeros(1)
    save_file(state, tmp_path / "world.safetensors")
    with pytest.raises(UserError, match=re.escape(name)):
        WorldModel.from_pretrained(tmp_path)


def test_a_config_of_something_else_is_refused(tmp_path) -> None:
    world().save_pretrained(tmp_path)
    data = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**data, "class": "PolicyConfig"}))
    with pytest.raises(UserError, match="holds PolicyConfig: WorldConfig is needed"):
        WorldModel.from_pretrained(tmp_path)


def test_what_is_pushed_is_what_is_saved_and_what_is_fetched_is_the_two_files(tmp_path, monkeypatch) -> None:
    """The hub is a folder here: uploads are copied into it, downloads out of it."""
    remote, asked = tmp_path / "remote", {}

    def create(_, repo_id, **__):
        return type("Repo", (), {"repo_id": f"me/{repo_id}"})()

    def upload(_, *, repo_id, folder_path, **__):
        shutil.copytree(folder_path, remote / repo_id)
        return f"hub/{repo_id}"

    def download(repo_id, **settings):
        asked.update(settings)
        return str(remote / repo_id)

    monkeypatch.setattr("huggingface_hub.hf_api.HfApi.create_repo", create)
    monkeypatch.setattr("huggingface_hub.hf_api.HfApi.upload_folder", upload)
    monkeypatch.setattr(hub, "snapshot_download", download)
    assert world().push_to_hub("square") == "hub/me/square"
    assert {path.name for path in (remote / "me/square").iterdir()} == FILES | {"README.md"}
    assert "w4rl-fast" in (remote / "me/square/README.md").read_text()
    monkeypatch.chdir(tmp_path)
    assert same(WorldModel.from_pretrained("me/square", revision="v1"), world())
    assert set(asked.pop("allow_patterns")) == FILES
    assert asked == {"revision": "v1"}


def test_what_is_neither_a_folder_nor_on_the_hub_is_refused() -> None:
    with pytest.raises(UserError, match=r"model 'no/such/world': it is no folder here"):
        WorldModel.from_pretrained("no/such/world")


def test_the_package_alone_does_not_import_the_hub(run_python) -> None:
    assert run_python("import sys, w4rl_fast; print('huggingface_hub' in sys.modules)").strip() == "False"
