"""The public ancestor's model (DIAMOND), loaded from its own checkpoints: discrete actions, frames stacked on channels.

Its denoiser has the U-Net of `unet.py` with patch 1. The names of its weights are translated, its numbers are not
touched. With its code at hand: load one checkpoint there and here, give both the same frames, actions and initial
noise, and compare `sample` with its three-step sampler; they agree within one grey level.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from w4rl_fast.errors import UserError
from w4rl_fast.hub import misfits
from w4rl_fast.world.config import BackboneConfig, NoiseConfig
from w4rl_fast.world.denoiser import NoiseEmbedding, scales, spread
from w4rl_fast.world.sampler import euler, karras_sigmas
from w4rl_fast.world.unet import UNet

PREFIX = "denoiser.inner_model."
TRANSLATION = (
    (r"^noise_emb\.weight$", "noise.frequencies"),
    (r"^act_emb\.0\.weight$", "actions"),
    (r"^cond_proj\.", "condition."),
    (r"^conv_in\.", "unet.enter."),
    (r"^norm_out\.norm\.", "unet.leave_norm."),
    (r"^conv_out\.", "unet.leave."),
    (r"^unet\.d_blocks\.(\d+)\.resblocks\.", r"unet.down.\1.blocks."),
    (r"^unet\.mid_blocks\.resblocks\.", "unet.middle.blocks."),
)
INSIDE = (
    (r"\.proj\.", ".skip."),
    (r"\.(norm[12])\.linear\.", r".\1.scale_shift."),
    (r"\.attn\.norm\.norm\.", ".attention.norm."),
    (r"\.attn\.qkv_proj\.", ".attention.qkv."),
    (r"\.attn\.out_proj\.", ".attention.out."),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class DiamondConfig:
    """The sizes of a DIAMOND denoiser; its Atari checkpoints have these."""

    num_actions: int
    history: int = 4
    channels: int = 3
    backbone: BackboneConfig = BackboneConfig(  # noqa: RUF009
        patch=1, widths=(64,) * 4, depths=(2,) * 4, attention=(False,) * 4, attention_onto_normed=True
    )
    noise: NoiseConfig = NoiseConfig()  # noqa: RUF009
    sigmas: tuple[float, ...] = karras_sigmas(3, sigma_min=0.002, sigma_max=5.0)


class Diamond(nn.Module):
    """Frames (B, T, C, S, S) in [-1, 1] and actions (B, T) to the next frame (B, C, S, S)."""

    def __init__(self, config: DiamondConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.backbone.condition_dim
        self.noise = NoiseEmbedding(dim)
        self.actions = nn.Parameter(torch.randn(config.num_actions, dim // config.history))
        self.condition = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.unet = UNet(config.backbone, config.channels * (config.history + 1), config.channels)

    def denoise(self, noisy: Tensor, sigma: Tensor, frames: Tensor, actions: Tensor) -> Tensor:
        """The clean frame behind a noisy one at levels sigma (B,), cut down to what a byte holds as DIAMOND does."""
        c = scales(sigma, self.config.noise)
        condition = self.condition(self.noise(c.noise) + self.actions[actions].flatten(1))
        seen = frames.flatten(1, 2) / self.config.noise.sigma_data
        out = self.unet(torch.cat([seen, noisy * spread(c.into)], dim=1), condition)
        clean = spread(c.skip) * noisy + spread(c.out) * out
        return ((clean.clamp(-1, 1) + 1) / 2 * 255).floor() / 255 * 2 - 1

    def sample(self, frames: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        """The next frame from standard normal noise: DIAMOND starts its sampler there, not at the first level."""

        def denoise(x: Tensor, sigma: float) -> Tensor:
            return self.denoise(x, torch.full((len(x),), sigma, dtype=x.dtype, device=x.device), frames, actions)

        return euler(denoise, noise, self.config.sigmas)


def load_diamond(path: Path, config: DiamondConfig) -> Diamond:
    """Load an `agent_epoch_*.pt`; torch reads tensors from it and nothing else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"checkpoint {path}",
            rule=f"it cannot be read as a file of tensors: {str(error).splitlines()[0]}",
            remedy="Give DIAMOND's agent_epoch_*.pt, which is a plain state dict",
        ) from error
    model = Diamond(config)
    there = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
    translated = {translate(name, len(config.backbone.widths)): value for name, value in there.items()}
    if "noise.frequencies" in translated:
        translated["noise.frequencies"] = translated["noise.frequencies"].flatten()
    wanted = model.state_dict()
    missing, unknown = misfits(translated, wanted)
    if missing or unknown:
        raise UserError(
            f"checkpoint {path}",
            rule=f"its denoiser has other weights than this config (missing or misshapen {missing[:4]},"
            f" unknown {unknown[:4]}, of {len(wanted)})",
            remedy="Set num_actions, history and backbone to what it was trained with",
        )
    model.load_state_dict(translated)
    return model.eval()


def translate(name: str, levels: int) -> str:
    """Our name of a weight of DIAMOND's inner model; its way up is numbered from the bottom, its samplers from one."""
    for pattern, ours in TRANSLATION:
        name = re.sub(pattern, ours, name)
    name = re.sub(r"^unet\.u_blocks\.(\d+)\.resblocks\.", lambda m: f"unet.up.{levels - 1 - int(m[1])}.blocks.", name)
    name = re.sub(r"^unet\.downsamples\.(\d+)\.conv\.", lambda m: f"unet.shrink.{int(m[1]) - 1}.", name)
    name = re.sub(r"^unet\.upsamples\.(\d+)\.conv\.", lambda m: f"unet.grow.{levels - 1 - int(m[1])}.", name)
    for pattern, ours in INSIDE:
        name = re.sub(pattern, ours, name)
    return name
