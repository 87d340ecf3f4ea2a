"""A store with landmarks, and a surrogate that has learnt from it, both made once."""

import pytest
import torch

from tests.surrogate.toy import paid, training, write_store
from w4rl_fast.surrogate.train import train_surrogate


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("surrogate") / "store")


@pytest.fixture(scope="session")
def trained(store, tmp_path_factory):
    """To be read only."""
    with torch.random.fork_rng():
        return train_surrogate(store, training(), tmp_path_factory.mktemp("trained"), paid)
