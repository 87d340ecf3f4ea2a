"""The ancestor's checkpoints load, and its three-step sampler gives the frames that its own code gives."""

import re
import zlib

import pytest
import torch

from w4rl_fast.errors import UserError
from w4rl_fast.world.config import BackboneConfig
from w4rl_fast.world.diamond import PREFIX, Diamond, DiamondConfig, load_diamond, translate

SMALL = DiamondConfig(
    num_actions=5,
    history=2,
    backbone=BackboneConfig(
        patch=1,
        widths=(32, 64),
        depths=(1, 2),
        attention=(False, True),
        condition_dim=64,
        attention_onto_normed=True,
    ),
)
# What DIAMOND's own code gave for the weights and inputs made below: grey levels of two rows of the frames.
GOLDEN_FIRST = [135, 138, 135, 130, 130, 135, 133, 126, 123, 129, 137, 139, 134, 132, 135, 138]
GOLDEN_SECOND = [125, 121, 124, 129, 126, 119, 119, 126, 131, 128, 120, 119, 124, 125, 120, 118]


def made(shape: torch.Size, name: str) -> torch.Tensor:
    """Weights that anyone can make again from the shape and DIAMOND's name of the tensor."""
    count = shape.numel()
    scale = 3.0 / max(1, count // shape[0]) ** 0.5 if len(shape) > 1 else 0.1
    angles = torch.arange(count, dtype=torch.float64) * 0.7371 + zlib.crc32(name.encode()) % 1000
    return (torch.sin(angles).reshape(shape) * scale).float()


def their_names(config: DiamondConfig) -> dict[str, str]:
    """Our name by theirs, spelt out from their layout: levels down, the middle, levels up from the bottom."""
    levels = len(config.backbone.widths)
    names = ["noise_emb.weight", "act_emb.0.weight", *(f"{m}.{k}" for m in ("conv_in", "conv_out") for k in WB)]
    names += [f"norm_out.norm.{k}" for k in WB] + [f"cond_proj.{n}.{k}" for n in (0, 2) for k in WB]
    for side, more in (("d_blocks", 0), ("u_blocks", 1)):
        for level in range(levels):
            own = level if side == "d_blocks" else levels - 1 - level
            for block in range(config.backbone.depths[own] + more):
                names += [f"unet.{side}.{level}.resblocks.{block}.{part}" for part in PARTS]
    names += [f"unet.mid_blocks.resblocks.{block}.{part}" for block in range(2) for part in PARTS]
    names += [
        f"unet.{kind}.{n}.conv.{k}" for kind in ("downsamples", "upsamples") for n in range(1, levels) for k in WB
    ]
    ours = Diamond(config).state_dict()
    return {name: translate(name, levels) for name in names if translate(name, levels) in ours}


WB = ("weight", "bias")
PARTS = [
    f"{module}.{kind}"
    for module in (
        "proj", "norm1.linear", "conv1", "norm2.linear", "conv2", "attn.norm.norm", "attn.qkv_proj", "attn.out_proj"
    )
    for kind in WB
]  # fmt: skip


@pytest.fixture
def checkpoint(tmp_path):
    """A file as DIAMOND saves it: the denoiser's weights under their own names, and parts of other models."""
    ours = Diamond(SMALL).state_dict()
    state = {PREFIX + theirs: made(shape_of(theirs, ours[name]), theirs) for theirs, name in their_names(SMALL).items()}
    path = tmp_path / "agent_epoch_00001.pt"
    torch.save({**state, "rew_end_model.lstm.weight": torch.zeros(3)}, path)
    return path


def shape_of(name: str, ours: torch.Tensor) -> torch.Size:
    return torch.Size((1, *ours.shape)) if name == "noise_emb.weight" else ours.shape


def test_every_weight_has_one_name_in_each_layout() -> None:
    names = their_names(SMALL)
    assert sorted(names.values()) == sorted(Diamond(SMALL).state_dict())
    assert len(names) == 150


def test_its_three_steps_agree_with_its_own_code_within_one_grey_level(checkpoint) -> None:
    frames = (torch.arange(2 * 2 * 3 * 16 * 16) * 37 % 256).reshape(2, 2, 3, 16, 16) / 127.5 - 1
    noise = torch.sin(torch.arange(2 * 3 * 256) * 1.37).reshape(2, 3, 16, 16) * 1.3
    with torch.inference_mode():
        frame = load_diamond(checkpoint, SMALL).sample(frames, torch.tensor([[0, 3], [4, 1]]), noise)
    levels = ((frame + 1) * 127.5).round()
    for row, golden in ((levels[0, 0, 0], GOLDEN_FIRST), (levels[1, 2, 7], GOLDEN_SECOND)):
        assert (row - torch.tensor(golden)).abs().max() <= 1


def test_a_default_config_has_the_ancestors_size() -> None:
    with torch.device("meta"):
        count = sum(weight.numel() for weight in Diamond(DiamondConfig(num_actions=5)).parameters())
    assert count == pytest.approx(4.4e6, rel=0.01)


@pytest.mark.parametrize("change", ["missing", "shape", "unknown"])
def test_weights_that_do_not_fit_are_named(checkpoint, change: str) -> None:
    state = torch.load(checkpoint, weights_only=True)
    name = f"{PREFIX}conv_out.weight"
    if change == "missing":
        del state[name]
    elif change == "shape":
        state[name] = state[name][:1]
    else:
        state[f"{PREFIX}unet.strange"] = torch.zeros(1)
    torch.save(state, checkpoint)
    with pytest.raises(UserError, match=re.escape("unet.strange" if change == "unknown" else "unet.leave.weight")):
        load_diamond(checkpoint, SMALL)


def test_a_file_that_would_run_code_is_refused(tmp_path) -> None:
    class Trap:
        def __reduce__(self):
            return (print, ("never",))

    path = tmp_path / "agent.pt"
    torch.save({"x": Trap()}, path)
    with pytest.raises(UserError, match="cannot be read as a file of tensors"):
        load_diamond(path, SMALL)
