"""Train a world: first the vector head, through its own rollouts, then the denoiser."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from w4rl_fast.config import save_config
from w4rl_fast.data.fitness import require_sizes
from w4rl_fast.data.store import Episodes
from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.fit import Fit, FitConfig, Loss, Preview, generator_at
from w4rl_fast.progress import plan
from w4rl_fast.world.checkpoint import save_world
from w4rl_fast.world.config import WorldConfig
from w4rl_fast.world.losses import Disturbance, OwnRollouts, denoising_loss, imagine_history, proprio_loss
from w4rl_fast.world.model import WorldModel

BYTES_PER_WEIGHT = 20
"""Weights, gradients, two moments and the average, four bytes each."""
ACTIVATIONS_PER_POSITION = 120
"""Activations kept for the gradient, in units of the first width; the tiny U-Net keeps 110, the transformer 118."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainWorldConfig:
    """Everything that makes a world out of a store; `horizon` is how far the vector head is rolled out in training, and
    `moving` how much more the denoiser's loss counts pixels that change.
    """

    world: WorldConfig
    head: FitConfig = FitConfig(steps=2500, batch=128, learning_rate=1.5e-3)  # noqa: RUF009
    denoiser: FitConfig = FitConfig(steps=3500, batch=32, learning_rate=1.2e-3, warm_up=200, bf16=True)  # noqa: RUF009
    disturbance: Disturbance = Disturbance()  # noqa: RUF009
    own: OwnRollouts = OwnRollouts()  # noqa: RUF009
    horizon: int = 18
    moving: float = 0.0
    held_out: float = 0.15
    sources: dict[str, float] = field(default_factory=dict)


def train_world(
    store: Episodes,
    config: TrainWorldConfig,
    folder: Path,
    preview: Preview | None = None,
    *,
    start: WorldModel | None = None,
) -> WorldModel:
    """Train in `folder`, from scratch or from another world's weights, going on where an earlier call was interrupted,
    and save the world there.
    """
    require_fit(store, config)
    folder.mkdir(parents=True, exist_ok=True)
    save_config(folder / "train.json", config)
    torch.manual_seed(config.denoiser.seed)
    model = WorldModel(config.world)
    if start is not None:
        model.load_state_dict(start.state_dict())
    tell_plan(model, config, folder)
    set_statistics(model, windows_of(store, config, future=config.horizon, pixels=False), keep_scale=start is not None)
    train_head(model, store, config, folder / "head")
    model.requires_grad_(True)
    model.head.requires_grad_(False)
    fit = Fit(model, config.denoiser, folder / "denoiser", stage="denoiser")
    fit.run(denoiser_loss(model, store, config), preview)
    save_world(folder, model.eval())
    return model


def denoiser_loss(model: WorldModel, store: Episodes, config: TrainWorldConfig) -> Loss:
    """One-step windows first; from some step on, a part of each batch continues what the world imagined itself."""
    own, fit = config.own, config.denoiser
    history = model.config.history
    one_step = windows_of(store, config, future=1, pixels=True)
    several = windows_of(store, config, future=1 + own.steps, pixels=True) if own.share else one_step

    def loss_at(step: int) -> Tensor:
        generator = generator_at(fit.seed, step)
        imagined = round(own.share * fit.batch) if step >= own.start * fit.steps else 0
        batch = (several if imagined else one_step).batch(step, fit.batch)
        steps = int(torch.randint(1, own.steps + 1, (), generator=generator)) if imagined else 0
        context, place = imagine_history(model, batch, steps, imagined, generator)
        frame = batch.frames[:, history + steps]
        return denoising_loss(model, context, frame, place, config.disturbance, generator, moving=config.moving)

    return loss_at


def train_head(model: WorldModel, store: Episodes, config: TrainWorldConfig, folder: Path) -> None:
    """Train the vector head alone; it needs proprioception, actions and first frames only."""
    windows = windows_of(store, config, future=config.horizon, pixels=False)
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    fit = Fit(model, config.head, folder, stage="proprioception")

    def loss_at(step: int) -> Tensor:
        batch = windows.batch(step, config.head.batch)
        return proprio_loss(model, batch, config.disturbance, generator_at(config.head.seed, step))

    fit.run(loss_at)


def held_out_windows(store: Episodes, config: TrainWorldConfig) -> Windows:
    """Whole episodes that training never sees: history, `horizon` steps of future, first frame."""
    window = WindowConfig(history=config.world.history, future=config.horizon, anchor=True, held_out=config.held_out)
    return Windows(store, window, "held-out")


def windows_of(store: Episodes, config: TrainWorldConfig, *, future: int, pixels: bool) -> Windows:
    return Windows(
        store,
        WindowConfig(
            history=config.world.history, future=future, anchor=True, pixels=pixels, held_out=config.held_out,
            sources=config.sources,
        ),
        seed=config.denoiser.seed,
    )  # fmt: skip


@torch.no_grad()
def set_statistics(model: WorldModel, windows: Windows, *, keep_scale: bool = False) -> None:
    """Put the mean, deviation and range of proprioception, and the deviation of its steps, into the model; one that
    has learnt with its scale only widens its range.
    """
    proprio = windows.batch(0, 2048).proprio
    low, high = proprio.flatten(0, 1).amin(0), proprio.flatten(0, 1).amax(0)
    if keep_scale:
        low, high = low.minimum(model.head.low), high.maximum(model.head.high)
    model.head.low.copy_(low)
    model.head.high.copy_(high)
    if keep_scale:
        return
    model.head.mean.copy_(proprio.flatten(0, 1).mean(0))
    model.head.std.copy_(proprio.flatten(0, 1).std(0).clamp_min(1e-3))
    model.head.step_std.copy_(proprio.diff(dim=1).flatten(0, 1).std(0).clamp_min(1e-4))


def require_fit(store: Episodes, config: TrainWorldConfig) -> None:
    """Refuse a store that this world cannot learn from."""
    sizes = {name: getattr(config.world, name) for name in ("image_size", "action_dim", "proprio_dim")}
    require_sizes(store, sizes, horizon=config.horizon, what="world")


def tell_plan(model: WorldModel, config: TrainWorldConfig, folder: Path) -> None:
    """Say what the training will need before it starts."""
    weights = sum(parameter.numel() for parameter in model.parameters())
    network = config.world.network
    positions = (config.world.image_size // network.patch) ** 2 * network.width
    activations = 4 * config.denoiser.batch * positions * ACTIVATIONS_PER_POSITION
    plan(
        f"train a world of {weights / 1e6:.2f}M weights",
        memory_bytes=weights * BYTES_PER_WEIGHT + activations + (300 << 20),
        disk_bytes=weights * BYTES_PER_WEIGHT,
        folder=folder,
    )
