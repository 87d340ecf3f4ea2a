"""One step of a world and what its classifier makes of it, as one module with static shapes.

Shapes: B worlds, T frames of history, A action and P proprioception dimensions, S x S pixels. Frames are in [-1, 1].
"""

import copy

import torch
from torch import Tensor, nn

from w4rl_fast.errors import UserError
from w4rl_fast.reward.model import RewardModel
from w4rl_fast.world.model import Context, Landing, WorldModel
from w4rl_fast.world.sampler import SAMPLERS
from w4rl_kernels.noise import Draw


class Narrow(nn.Module):
    """A backbone that computes in another dtype, whatever it is given."""

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner, self.dtype = inner.to(dtype), dtype

    def forward(self, *tensors: Tensor) -> Tensor:
        out: Tensor = self.inner(*(tensor.to(self.dtype) for tensor in tensors))
        return out


class WorldStep(nn.Module):
    """What happens next, and whether it shows success: frozen copies of a world and of its classifier.

    `sampling_steps` other than the config's may be asked for. `dtype` is that of the backbone, where the time goes;
    noise levels, the vector head, rounding and the classifier stay in float32.
    """

    def __init__(
        self,
        world: WorldModel,
        reward: RewardModel,
        *,
        sampling_steps: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        require_fit(world, reward, sampling_steps)
        self.levels = world.levels_in(sampling_steps)
        self.world, self.reward = copy.deepcopy(world), copy.deepcopy(reward)
        if dtype is not torch.float32:
            name = "unet" if world.config.transformer is None else "dit"
            setattr(self.world, name, Narrow(self.world.backbone, dtype))
        self.eval().requires_grad_(False)

    def forward(
        self,
        frames: Tensor,
        proprio: Tensor,
        actions: Tensor,
        anchor: Tensor,
        scene: Tensor,
        noise: Tensor | Draw,
        landing: Landing | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Next frame (B, 3, S, S), next proprioception (B, P) and the logit of success in that frame (B,).

        frames (B, T, 3, S, S) and proprio (B, T, P) up to now, oldest first; actions (B, T, A), the last the one taken
        now; anchor (B, 3, S, S), the first frame of the episode; scene (B, 64) is what `world.head.look` makes of it;
        noise (B, 3, S, S) is standard normal. The bytes of the next frame are written where it shall land.
        """
        context = Context(frames, proprio, actions, anchor)
        frame, place = self.world(context, noise, levels=self.levels, scene=scene, landing=landing)
        seen = torch.stack([frames[:, -1], frame], 1) if self.reward.config.frames == 2 else frame[:, None]
        return frame, place, self.reward(seen, anchor)


def require_fit(world: WorldModel, reward: RewardModel, sampling_steps: int | None) -> None:
    """Refuse what cannot be one module."""
    if (size := reward.config.image_size) != world.config.image_size:
        raise UserError(
            f"classifier for {size}x{size} frames",
            rule=f"the world imagines {world.config.image_size}x{world.config.image_size}",
            remedy="Train both from the same store",
        )
    if (sampler := world.config.sampling.sampler) not in SAMPLERS:
        raise UserError(
            f"sampler {sampler}",
            rule="a scheduler of diffusers keeps tables on the host, and cannot be part of an exported step",
            remedy=f"Load the world with sampling.sampler set to {' or '.join(SAMPLERS)}",
        )
    if sampling_steps is not None and sampling_steps < 1:
        raise UserError(
            f"sampling_steps={sampling_steps}", rule="a frame takes at least one step", remedy="Use 1 or more"
        )
