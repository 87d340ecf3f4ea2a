"""Self-rollout distillation: the student goes on from its own frames, so that drift is what it learns to avoid."""

import torch
from torch import Tensor

from w4rl_fast.data.windows import Batch
from w4rl_fast.distill.config import DistillConfig
from w4rl_fast.distill.shown import shown
from w4rl_fast.distill.student import paint
from w4rl_fast.world.losses import Disturbance
from w4rl_fast.world.model import Context, WorldModel, shifted


def own_rollout_loss(
    student: WorldModel,
    teacher: WorldModel,
    batch: Batch,
    config: DistillConfig,
    disturbance: Disturbance,
    generator: torch.Generator,
) -> Tensor:
    """Squared error of every step of the student's own rollout, each drawn as it will be drawn later.

    It begins with a real past, disturbed; no gradient goes from a step to those before it.
    """
    history, own = student.config.history, config.own
    past, _ = shown(student, batch, disturbance, generator)
    scene = student.head.look(past.anchor)
    total, weights = torch.zeros(()), [1 + own.ramp * step / max(own.length - 1, 1) for step in range(own.length)]
    for step, weight in enumerate(weights):
        context = past._replace(actions=batch.actions[:, step : step + history])
        place = student.predict_proprio(context, scene).float().detach()
        noise = torch.randn(past.anchor.shape, generator=generator)
        made = paint(student, context, noise, place)
        following = batch.frames[:, history + step]
        wanted = student.to_target(following, context) if own.against == "data" else aim(teacher, context, noise, place)
        total = total + weight * (made - wanted).square().mean()
        past = shifted(context, student.to_frame(made.detach(), context), place)
    return total / sum(weights) / student.config.noise.sigma_data**2


@torch.no_grad()
def aim(teacher: WorldModel, context: Context, noise: Tensor, place: Tensor) -> Tensor:
    """What the teacher makes of the same past, place and noise."""
    return paint(teacher, context, noise, place)
