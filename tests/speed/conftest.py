"""The run with a lamp of the tests of students, and engines of it that are built once."""

import shutil

import pytest

from tests.distill.conftest import make_run, run, store, teacher
from w4rl_engines.build import BuildConfig
from w4rl_fast.imagine.export import export_one
from w4rl_fast.imagine.load import LoadedRun

__all__ = ["run", "store", "teacher"]


@pytest.fixture(scope="session")
def put(tmp_path_factory, store, teacher):
    """Put an eager engine of a part into a run."""
    kept = {}

    def into(folder, part, batches, steps=None):
        key = (part, batches, steps)
        if key not in kept:
            made = make_run(tmp_path_factory.mktemp("made") / "run", store, teacher)
            config = BuildConfig(backend="eager", batches=batches)
            kept[key] = export_one(LoadedRun(made), part, config, sampling_steps=steps).folder
        return shutil.copytree(kept[key], folder / "engines" / kept[key].name)

    return into
