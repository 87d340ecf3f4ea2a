"""The world model: frames, proprioception and an action in; the next frame and the next proprioception out.

Shapes: B worlds, T frames of history, A action and P proprioception dimensions, S x S pixels. Frames are in [-1, 1].
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from w4rl_fast.hub import HubModel
from w4rl_fast.world.config import WorldConfig
from w4rl_fast.world.denoiser import NoiseEmbedding, scales, spread
from w4rl_fast.world.dit import DiT
from w4rl_fast.world.proprio import ProprioHead
from w4rl_fast.world.sampler import karras_sigmas, sampler_of
from w4rl_fast.world.unet import UNet
from w4rl_kernels.two_hot import embed

OCTAVES = 6
COARSEST = 16
"""Positions a side of the maps that say where the robot is; larger networks stretch them."""


class Context(NamedTuple):
    """What a world is asked to continue.

    frames (B, T, 3, S, S) and proprio (B, T, P) up to now; actions (B, T, A), the last being the one taken now;
    anchor (B, 3, S, S), the first frame of the episode.
    """

    frames: Tensor
    proprio: Tensor
    actions: Tensor
    anchor: Tensor


def shifted(context: Context, frame: Tensor, place: Tensor) -> Context:
    """The context one step later."""
    return context._replace(
        frames=torch.cat([context.frames[:, 1:], frame[:, None]], 1),
        proprio=torch.cat([context.proprio[:, 1:], place[:, None]], 1),
    )


def round_to_bytes(x: Tensor) -> Tensor:
    """The nearest values that uint8 frames can hold."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def waves(x: Tensor) -> Tensor:
    """Fourier features (B, 2 * OCTAVES * P) of normalised values (B, P)."""
    angles = x[:, :, None] * (2.0 ** torch.arange(OCTAVES, device=x.device) * (torch.pi / 4))
    return torch.cat([angles.sin(), angles.cos()], dim=2).flatten(1)


class WorldModel(HubModel, tags=["robotics", "world-model", "diffusion"]):
    """An EDM denoiser on a U-Net or a transformer, and a vector head that says where the robot will be."""

    config: WorldConfig
    config_class = WorldConfig
    weights_file = "world.safetensors"

    def __init__(self, config: WorldConfig) -> None:
        super().__init__()
        self.config = config
        dim, features = config.network.condition_dim, 4 * OCTAVES * config.proprio_dim
        self.side = config.image_size // config.network.patch
        self.grid = min(self.side, COARSEST)
        self.noise = NoiseEmbedding(dim)
        self.actions = nn.Parameter(torch.randn(config.history * config.action_dim, config.bins, dim) * 0.1)
        self.where = nn.Linear(features, dim)
        self.maps = nn.Linear(features, config.proprio_maps * self.grid**2)
        self.condition = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        inputs = 3 * (config.history + 1 + config.anchor)
        if config.transformer is None:
            self.unet = UNet(config.backbone, inputs, 3, config.proprio_maps)
        else:
            self.dit = DiT(config.transformer, self.side, inputs, 3, config.proprio_maps)
        # Frames come so, and convolutions are faster in it. (torch's stubs have forgotten this form of `to`.)
        self.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.head = ProprioHead(config.image_size, config.action_dim, config.proprio_dim, config.history)
        self.sigmas = karras_sigmas(
            config.sampling.steps, sigma_min=config.sampling.sigma_min, sigma_max=config.sampling.sigma_max
        )
        self.sampler = sampler_of(config.sampling)

    @property
    def backbone(self) -> nn.Module:
        """What paints: pictures (B, C, S, S), condition (B, E) and maps (B, M, side, side) to (B, 3, S, S)."""
        return self.unet if self.config.transformer is None else self.dit

    def denoise(self, noisy: Tensor, sigma: Tensor, context: Context, next_proprio: Tensor) -> Tensor:
        """The clean target (B, 3, S, S) behind a noisy one at levels sigma (B,)."""
        c = scales(sigma, self.config.noise)
        out = self.network(noisy * spread(c.into), c.noise, context, next_proprio)
        return spread(c.skip) * noisy + spread(c.out) * out

    def network(self, scaled: Tensor, noise: Tensor, context: Context, next_proprio: Tensor) -> Tensor:
        """The raw output F of the backbone."""
        config = self.config
        body = torch.cat([context.proprio[:, -1], next_proprio], dim=1)
        place = waves((body - self.head.mean.repeat(2)) / self.head.std.repeat(2))
        acted = embed(context.actions.flatten(1).float(), self.actions, low=-1.0, high=1.0)
        condition = self.condition(self.noise(noise) + acted + self.where(place))
        pictures = [context.frames.flatten(1, 2) / config.noise.sigma_data, scaled]
        if config.anchor:
            pictures.append(context.anchor / config.noise.sigma_data)
        maps = self.maps(place).unflatten(1, (config.proprio_maps, self.grid, self.grid))
        if self.grid < self.side:
            maps = F.interpolate(maps, size=(self.side, self.side), mode="nearest")
        return self.backbone(torch.cat(pictures, dim=1), condition, maps)

    def to_target(self, frame: Tensor, context: Context) -> Tensor:
        """What the denoiser predicts for a frame: the frame itself, or half its difference to one that is known."""
        base = self.base(context)
        return frame if base is None else (frame - base) / 2

    def to_frame(self, target: Tensor, context: Context) -> Tensor:
        base = self.base(context)
        return target if base is None else base + 2 * target

    def base(self, context: Context) -> Tensor | None:
        """The frame (B, 3, S, S) that the next one is the change of: the present one, the first one or none."""
        if self.config.residual:
            return context.frames[:, -1]
        return context.anchor if self.config.anchor else None

    def predict_proprio(self, context: Context, scene: Tensor | None = None) -> Tensor:
        """The next proprioception (B, P)."""
        scene = self.head.look(context.anchor) if scene is None else scene
        return self.head(scene, context.proprio, context.actions)

    def forward(
        self, context: Context, noise: Tensor, *, sigmas: Sequence[float] | None = None, scene: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The next frame (B, 3, S, S) and the next proprioception (B, P), from standard normal noise (B, 3, S, S).

        `sigmas` other than the config's, and the anchor as the vector head sees it (`head.look`), may be given.
        """
        next_proprio = self.predict_proprio(context, scene)
        sampling = self.config.sampling

        def denoise(x: Tensor, sigma: float) -> Tensor:
            levels = torch.full((x.shape[0],), sigma, dtype=x.dtype, device=x.device)
            target = self.denoise(x, levels, context, next_proprio)
            if sampling.round_to_bytes:
                target = self.to_target(round_to_bytes(self.to_frame(target, context)), context)
            return target

        target = self.sampler(denoise, noise * self.start_std, sigmas or self.sigmas)
        return round_to_bytes(self.to_frame(target, context)), next_proprio

    @property
    def start_std(self) -> float:
        """Deviation of the noise a sample starts from: the first level of the schedule, as it was trained."""
        return self.sigmas[0]
