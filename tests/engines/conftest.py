"""Two small modules that every backend must run: convolutions around a norm, and a step of a world in miniature."""

import dataclasses
import shutil

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from w4rl_engines.artifact import Artifact, read
from w4rl_engines.build import BuildConfig, build
from w4rl_engines.parity import Tolerance
from w4rl_engines.protocol import Port, spec_of


class Convolutions(nn.Module):
    """Pictures (B, 3, 8, 8) to features (B, 4)."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
        self.into, self.norm, self.out = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.Linear(8, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.out(F.silu(self.norm(self.into(pictures))).mean((2, 3))) * self.gain


class SmallWorld(nn.Module):
    """A history (B, T, 3, 8, 8) of bytes, actions (B, 2) and noise (B, 3, 8, 8) to the next frame, also in bytes, and a
    logit (B,).
    """

    def __init__(self, steps: int = 2) -> None:
        super().__init__()
        self.levels = tuple(5.0 / (1 + 4 * step) for step in range(steps))
        self.paint, self.act, self.judge = nn.Conv2d(9, 3, 3, padding=1), nn.Linear(2, 3), nn.Linear(3 * 64, 1)
        self.attend = nn.MultiheadAttention(3, 1, batch_first=True)

    def forward(self, history: Tensor, actions: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        past = history.float().flatten(1, 2) / 127.5 - 1
        x = noise * self.levels[0]
        for level in self.levels:
            clean = self.paint(torch.cat([past, x / (1 + level)], 1)) + self.act(actions)[:, :, None, None]
            x = clean + 0.1 * (x - clean)
        tokens = x.flatten(2).transpose(1, 2)
        x = (x + self.attend(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2).unflatten(2, (8, 8))) / 2
        return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8), self.judge(x.flatten(1))[:, 0]


@dataclasses.dataclass(frozen=True)
class Case:
    """A module, its spec, real rows (N, ...) and tolerances."""

    module: nn.Module
    spec: object
    rows: tuple[Tensor, ...]
    tolerances: dict[str, Tolerance]

    def batch(self, count: int, seed: int = 7) -> tuple[Tensor, ...]:
        """Fresh rows, each a mixture that no calibration has seen."""
        index = torch.randint(len(self.rows[0]), (count,), generator=torch.Generator().manual_seed(seed))
        return tuple(row[index].flip(-1) for row in self.rows)

    def build(self, folder, backend="eager", *, batches=(3,), module=None, reference=None, examine=None, **config):
        config = BuildConfig(backend=backend, batches=batches, threads=1, **{"tolerances": self.tolerances, **config})
        module = module or self.module
        return build(module, self.spec, folder, self.rows, config, reference=reference, examine=examine)


@pytest.fixture(scope="session")
def convolutions() -> Case:
    torch.manual_seed(0)
    module, rows = Convolutions(), (torch.randn(11, 3, 8, 8),)
    return Case(module, spec_of(module, {"pictures": rows[0]}, ["features"]), rows, {})


@pytest.fixture(scope="session")
def small_world() -> Case:
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(2)
    rows = (
        torch.randint(256, (11, 2, 3, 8, 8), generator=generator, dtype=torch.uint8),
        torch.rand(11, 2, generator=generator) * 2 - 1,
        torch.randn(11, 3, 8, 8, generator=generator),
    )
    module = SmallWorld()
    named = dict(zip(("history", "actions", "noise"), rows, strict=True))
    spec = spec_of(module, named, [Port(name="frame", unit="grey levels"), "logit"])
    return Case(module, spec, rows, {"frame": Tolerance(p99=3, maximum=8)})


@pytest.fixture(scope="session", params=["convolutions", "small_world"])
def case(request: pytest.FixtureRequest) -> Case:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session", name="made")
def fixture_made(convolutions: Case, tmp_path_factory) -> Artifact:
    return convolutions.build(tmp_path_factory.mktemp("made") / "artifact")


@pytest.fixture
def artifact(made: Artifact, tmp_path) -> Artifact:
    """An eager artifact of batch 3 for one test to spoil."""
    return read(shutil.copytree(made.folder, tmp_path / "artifact"))
