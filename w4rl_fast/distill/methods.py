"""The methods by their names; each is a loss of one signature."""

from typing import Protocol

import torch
from torch import Tensor

from w4rl_fast.data.windows import Batch
from w4rl_fast.distill.config import DistillConfig, MethodName
from w4rl_fast.distill.consistency import consistency_loss
from w4rl_fast.distill.own_rollout import own_rollout_loss
from w4rl_fast.world.losses import Disturbance
from w4rl_fast.world.model import WorldModel


class Method(Protocol):
    """What the student has to lower on a batch of windows with `config.future` observations behind the present."""

    def __call__(
        self,
        student: WorldModel,
        teacher: WorldModel,
        batch: Batch,
        config: DistillConfig,
        disturbance: Disturbance,
        generator: torch.Generator,
    ) -> Tensor: ...


METHODS: dict[MethodName, Method] = {"consistency": consistency_loss, "own-rollout": own_rollout_loss}
