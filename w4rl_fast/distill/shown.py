"""What a student is shown in training: real pasts, disturbed as they were for its teacher."""

import torch
from torch import Tensor

from w4rl_fast.data.windows import Batch
from w4rl_fast.world.losses import Disturbance, context_of
from w4rl_fast.world.model import Context, WorldModel


def shown(
    student: WorldModel, batch: Batch, disturbance: Disturbance, generator: torch.Generator
) -> tuple[Context, Tensor]:
    """The disturbed past of each window, and the place (B, P) that really follows, disturbed too."""
    history, head = student.config.history, student.head
    context, place = context_of(batch, history), batch.proprio[:, history]
    strength = disturbance.frames * torch.rand(len(place), 1, 1, 1, 1, generator=generator)
    noise = torch.randn(context.frames.shape, generator=generator)
    away = disturbance.proprio * head.std * torch.randn(place.shape, generator=generator)
    return context._replace(frames=context.frames + strength * noise), place + away
