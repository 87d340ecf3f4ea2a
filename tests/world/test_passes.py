"""A sample in passes, one between two calls of the network, is the sample of the definition, bit for bit."""

import dataclasses
import importlib.util
import os

import pytest
import torch

from tests.weights import awake
from tests.world.test_world import TINY, context
from w4rl_fast.world.config import NoiseConfig, SamplingConfig
from w4rl_fast.world.model import Landing, WorldModel
from w4rl_kernels.edm_step import SWITCH
from w4rl_kernels.noise import Draw

INTERPRETED = importlib.util.find_spec("triton") is not None and os.environ.get("TRITON_INTERPRET") == "1"
NAMES = (
    "torch", "reference",
    pytest.param("gpu", marks=pytest.mark.skipif(not INTERPRETED, reason="set TRITON_INTERPRET=1, with Triton")),
)  # fmt: skip
BASES = {"none": (False, False), "anchor": (True, False), "residual": (True, True)}


@pytest.fixture(params=NAMES)
def _asked(request):
    before = SWITCH.asked
    SWITCH.use(request.param)
    yield
    SWITCH.use(before)


def model(base: str = "anchor", *, rounding: bool = True, steps: int = 3, sampler: str = "euler") -> WorldModel:
    anchor, residual = BASES[base]
    sampling = SamplingConfig(sampler=sampler, steps=steps, round_to_bytes=rounding)
    noise = NoiseConfig(skip=residual)
    torch.manual_seed(2)
    config = dataclasses.replace(TINY, anchor=anchor, residual=residual, noise=noise, sampling=sampling)
    return awake(WorldModel(config)).eval()


def draw(count: int = 5) -> Draw:
    return Draw(torch.arange(count) - 2, torch.arange(count) % 3, torch.arange(count) * 7, 3)


@pytest.mark.usefixtures("_asked")
@pytest.mark.parametrize("rounding", [False, True])
@pytest.mark.parametrize("base", BASES)
@torch.no_grad()
def test_a_frame_is_that_of_the_definition(base: str, rounding: bool) -> None:
    world, given, noise = model(base, rounding=rounding), context(), draw()
    with torch.enable_grad():
        wanted, place = world(given, noise.normal((3, 16, 16)))
    for start in (noise, noise.normal((3, 16, 16))):
        made, other = world(given, start)
        assert torch.equal(made, wanted)
        assert torch.equal(other, place)
    assert wanted.unique().numel() > 50


@pytest.mark.usefixtures("_asked")
@pytest.mark.parametrize("sampler", ["euler", "heun"])
@torch.no_grad()
def test_its_bytes_land_in_one_slot_and_nowhere_else(sampler: str) -> None:
    world, given = model(sampler=sampler), context()
    held = torch.full((5, 4, 3, 16, 16), 9, dtype=torch.uint8)
    frames = torch.zeros(5, 3, 16, 16, dtype=torch.uint8)
    made, _ = world(given, draw(), landing=Landing(frames, held, 2))
    wanted = ((made + 1) * 127.5).round().to(torch.uint8)
    assert torch.equal(frames, wanted)
    assert torch.equal(held[:, 2], wanted)
    assert (held[:, [0, 1, 3]] == 9).all()


@pytest.mark.usefixtures("_asked")
@pytest.mark.parametrize("steps", [1, 2])
@torch.no_grad()
def test_other_levels_than_the_configs(steps: int) -> None:
    world, other, given = model(), model(steps=steps), context()
    other.load_state_dict(world.state_dict())
    assert torch.equal(world(given, draw(), levels=world.levels_in(steps))[0], other(given, draw())[0])


def test_the_passes_of_the_sampler_are_those_that_were_asked_for(monkeypatch) -> None:
    """A start, two steps and an end go through the switch; with gradients, or Heun's steps, none does."""
    parts, given = [], context()
    monkeypatch.setattr(SWITCH, "of", lambda _, part, *__: parts.append(part) or "torch")
    with torch.no_grad():
        model()(given, draw())
        assert parts == ["start", "advance", "advance", "finish"]
        model(sampler="heun")(given, draw())
    model()(given, draw())
    assert len(parts) == 4
