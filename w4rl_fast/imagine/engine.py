"""Many imagined worlds at once: batched, reproducible world by world, and never waiting for the host.

Shapes: B worlds, A action and P proprioception dimensions, S x S pixels.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from w4rl_engines.machine import has_bfloat16
from w4rl_fast.errors import UserError
from w4rl_fast.imagine.memory import require_memory
from w4rl_fast.imagine.starts import Starts
from w4rl_fast.imagine.step import WorldStep
from w4rl_fast.imagine.worlds import ImaginationConfig, Worlds
from w4rl_fast.reward.config import Rule
from w4rl_fast.reward.model import RewardModel
from w4rl_fast.world.model import WorldModel

Engine = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""Runs one world step; what it returns may be written again by its next call."""

ENGINES = ("auto", "eager", "compiled")


class Imagination(Worlds):
    """B imagined worlds, each a function of its seed and its actions alone."""

    def __init__(
        self,
        world: WorldModel,
        reward: RewardModel,
        rule: Rule,
        starts: Starts,
        config: ImaginationConfig,
        *,
        engine: str | Engine = "auto",
    ) -> None:
        require_memory(world, reward, starts, config)
        self.world_config = world.config
        self.dtype = dtype_of(config.precision, starts.pixels.device)
        self.module = WorldStep(world, reward, sampling_steps=config.sampling_steps, dtype=self.dtype)
        self.engine, self.run = engine_of(engine, self.module)
        super().__init__(world.config, rule, starts, scenes_of(self.module, starts), config)

    def _lead(self, part: slice) -> tuple[Tensor, Tensor]:
        """The module itself draws its noise and lands its frames in the passes of its sampler."""
        inputs = self.past.gather(part)
        if self.run is self.module:
            _, proprio, logit = self.module(*inputs, self.draw(part), self.landing(part))
            return proprio, logit
        frames, proprio, logit = self.run(*inputs, self.noise_of(part))
        self.land(part, frames)
        return proprio, logit


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """What "auto" means here: bfloat16 where the processor multiplies it faster than float32."""
    if precision != "auto":
        return torch.float32 if precision == "float32" else torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if has_bfloat16() else torch.float32


def engine_of(engine: str | Engine, module: WorldStep) -> tuple[str, Engine]:
    """The name of an engine and what runs the step; `auto` is the eager module, which is always there."""
    if callable(engine):
        return getattr(engine, "__name__", type(engine).__name__), engine
    if engine in ("auto", "eager"):
        return "eager", module
    if engine == "compiled":
        return "compiled", torch.compile(module, fullgraph=True, dynamic=False)
    raise UserError(f"engine {engine!r}", rule=f"there are {', '.join(ENGINES)}", remedy="Choose one of them")


@torch.no_grad()
def scenes_of(module: WorldStep, starts: Starts, chunk: int = 256) -> Tensor:
    """What the vector head makes of the first frame of every start: (N, 64)."""
    chunks = (starts.pixels[anchors].float() / 127.5 - 1 for anchors in torch.split(starts.anchors, chunk))
    return torch.cat([module.world.head.look(pixels) for pixels in chunks])
