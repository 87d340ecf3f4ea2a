"""The world model: frames, proprioception and an action in; the next frame and the next proprioception out.

Shapes: B worlds, T frames of history, A action and P proprioception dimensions, S x S pixels. Frames are in [-1, 1].
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from w4rl_fast.hub import HubModel
from w4rl_fast.world.config import WorldConfig
from w4rl_fast.world.denoiser import Level, NoiseEmbedding, level_of, scales, spread
from w4rl_fast.world.dit import DiT
from w4rl_fast.world.proprio import ProprioHead
from w4rl_fast.world.sampler import euler, karras_sigmas, sampler_of
from w4rl_fast.world.unet import UNet
from w4rl_kernels import edm_step
from w4rl_kernels.edm_step import round_to_bytes
from w4rl_kernels.noise import Draw
from w4rl_kernels.two_hot import embed

OCTAVES = 6
COARSEST = 16
"""Positions a side of the maps that say where the robot is; larger networks stretch them."""


class Landing(NamedTuple):
    """Where the bytes of the next frame are written: frames (B, 3, S, S), and ring[:, slot], ring (B, T, 3, S, S)."""

    frames: Tensor | None = None
    ring: Tensor | None = None
    slot: int = 0


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
        self.levels = self.levels_in()
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
        self,
        context: Context,
        noise: Tensor | Draw,
        *,
        levels: Sequence[Level] | None = None,
        scene: Tensor | None = None,
        landing: Landing | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The next frame (B, 3, S, S) and the next proprioception (B, P), from standard normal noise (B, 3, S, S).

        `levels` other than the config's, and the anchor as the vector head sees it (`head.look`), may be given. The
        bytes of the frame are written where it shall land.
        """
        place = self.predict_proprio(context, scene)
        drawn = self.in_passes if self.sampler is euler and not torch.is_grad_enabled() else self.sampled
        return drawn(context, noise, levels or self.levels, place, landing), place

    def sampled(
        self, context: Context, noise: Tensor | Draw, levels: Sequence[Level], place: Tensor, landing: Landing | None
    ) -> Tensor:
        """The next frame by any sampler: the definition."""
        noise = noise.normal(context.anchor.shape[1:]) if isinstance(noise, Draw) else noise

        def denoise(x: Tensor, sigma: float) -> Tensor:
            target = self.denoise(x, torch.full((len(x),), sigma, dtype=x.dtype, device=x.device), context, place)
            if self.config.sampling.round_to_bytes:
                target = self.to_target(round_to_bytes(self.to_frame(target, context)), context)
            return target

        target = self.sampler(denoise, noise * self.start_std, sigmas_of(levels))
        frame = round_to_bytes(self.to_frame(target, context))
        if landing is not None:
            edm_step.write_bytes(frame, **landing._asdict())
        return frame

    def in_passes(
        self, context: Context, noise: Tensor | Draw, levels: Sequence[Level], place: Tensor, landing: Landing | None
    ) -> Tensor:
        """The same frame by Euler's steps, with one pass over the pictures between two calls of the network."""
        base, rounding = self.base(context), self.config.sampling.round_to_bytes
        scale, into = self.start_std, levels[0].into
        if isinstance(noise, Draw):
            shape = context.anchor.shape[1:]
            x, scaled = edm_step.start(noise, shape, scale=scale, into=into, dtype=torch.float32)
        else:
            x = noise * scale
            scaled = x * into
        for level, after in itertools.zip_longest(levels, levels[1:]):
            said = torch.full((len(x),), level.noise, dtype=x.dtype, device=x.device)
            raw = self.network(scaled, said, context, place)
            if after is None:
                break
            x, scaled = edm_step.advance(
                x, raw, base, skip=level.skip, out=level.out, sigma=level.sigma, after=after.sigma, into=after.into,
                rounding=rounding, dtype=x.dtype,
            )  # fmt: skip
        where = landing or Landing()
        return edm_step.finish(
            x, raw, base, skip=level.skip, out=level.out, sigma=level.sigma, rounding=rounding, **where._asdict()
        )

    def levels_in(self, steps: int | None = None) -> tuple[Level, ...]:
        """The noise levels of a sample in so many steps, by default the config's, highest first."""
        sampling = self.config.sampling
        sigmas = karras_sigmas(steps or sampling.steps, sigma_min=sampling.sigma_min, sigma_max=sampling.sigma_max)
        return tuple(level_of(sigma, self.config.noise) for sigma in sigmas[:-1])

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The config's noise levels and 0."""
        return sigmas_of(self.levels)

    @property
    def start_std(self) -> float:
        """Deviation of the noise a sample starts from: the first level of the schedule, as it was trained."""
        return self.levels[0].sigma


def sigmas_of(levels: Sequence[Level]) -> tuple[float, ...]:
    """As samplers take them: down to no noise."""
    return (*(level.sigma for level in levels), 0.0)
