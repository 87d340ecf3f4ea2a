"""Train a surrogate: first its eyes, by what they can be read out to, then its dynamics on what they see."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from w4rl_fast.config import save_config
from w4rl_fast.data.fitness import NAMES, require_sizes
from w4rl_fast.data.store import Episodes
from w4rl_fast.data.windows import Batch, Split, WindowConfig, Windows
from w4rl_fast.errors import UserError
from w4rl_fast.fit import Fit, FitConfig, generator_at
from w4rl_fast.hub import write_model
from w4rl_fast.surrogate.config import SurrogateConfig
from w4rl_fast.surrogate.losses import dynamics_loss, eyes_loss
from w4rl_fast.surrogate.model import First, Surrogate, layers
from w4rl_fast.surrogate.reward import Paid, moment_of
from w4rl_fast.surrogate.tracks import RealTracks

SAMPLE = 2048
TRAIN = "train.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSurrogateConfig:
    """Everything that makes a surrogate out of a store; its dynamics learn from sequences of `horizon` steps.

    `noise` on the frames that the eyes are shown, in units of the picture, as imagined frames have some.
    """

    surrogate: SurrogateConfig
    eyes: FitConfig = FitConfig(steps=3000, batch=128, learning_rate=2e-3, weight_decay=1e-4, ema=0.995, bf16=True)  # noqa: RUF009
    dynamics: FitConfig = FitConfig(steps=2500, batch=256, learning_rate=2e-3, weight_decay=1e-5, ema=0.99)  # noqa: RUF009
    horizon: int = 8
    noise: float = 0.03
    held_out: float = 0.15
    sources: dict[str, float] = field(default_factory=dict)


def train_surrogate(store: Episodes, config: TrainSurrogateConfig, folder: Path, paid: Paid) -> Surrogate:
    """Train in `folder`, going on where an earlier call was interrupted, and save the surrogate there."""
    require_fit(store, config)
    folder.mkdir(parents=True, exist_ok=True)
    save_config(folder / TRAIN, config)
    torch.manual_seed(config.eyes.seed)
    surrogate = Surrogate(config.surrogate)
    train_eyes(surrogate, store, config, folder / "eyes", paid)
    train_dynamics(surrogate, store, config, folder / "dynamics")
    write_model(folder, surrogate.eval())
    return surrogate


def train_eyes(surrogate: Surrogate, store: Episodes, config: TrainSurrogateConfig, folder: Path, paid: Paid) -> None:
    """Train eyes and readouts; the latent then has mean 0 and deviation 1 over the data in every dimension."""
    windows = windows_of(store, config, future=1)
    sample = windows.batch(0, SAMPLE)
    seen = scene_of(sample, config.surrogate)
    of = config.surrogate
    ahead = layers(of.size + of.action_dim, 128, seen.shape[-1] + of.proprio_dim)
    learning = nn.ModuleDict({"eyes": surrogate.eyes, "reads": surrogate.reads, "ahead": ahead})
    body = sample.proprio.flatten(0, 1)
    surrogate.eyes.proprio_mean.copy_(body.mean(0))
    surrogate.eyes.proprio_std.copy_(body.std(0).clamp_min(1e-3))
    if of.history > 1:
        surrogate.eyes.change_std.copy_(sample.proprio.diff(dim=1).flatten(0, 1).std(0).clamp_min(1e-4))
    fit = Fit(learning, config.eyes, folder, stage="eyes")
    history = config.surrogate.history
    scaling = [Scale.of(seen.flatten(0, 1)), Scale.of(paid(moment_of(sample, history - 1))[:, None])]

    def loss_at(step: int) -> Tensor:
        batch = windows.batch(step, config.eyes.batch)
        scene = scaling[0].apply(scene_of(batch, config.surrogate))
        reward = scaling[1].apply(paid(moment_of(batch, history - 1))[:, None])[:, 0]
        generator, acted = generator_at(config.eyes.seed, step), batch.actions[:, history - 1]
        return eyes_loss(surrogate, ahead, batch.frames, batch.proprio, scene, acted, reward, config.noise, generator)

    fit.run(loss_at)
    if fit.step == config.eyes.steps:
        settle(surrogate, sample, scaling)


@dataclass(frozen=True, slots=True)
class Scale:
    """Numbers (N, D) less their mean, in deviations that all dimensions share."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, values: Tensor) -> "Scale":
        mean = values.mean(0)
        return cls(mean, (values - mean).square().mean().sqrt().clamp_min(1e-3))

    def apply(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.std


@torch.no_grad()
def settle(surrogate: Surrogate, sample: Batch, scaling: list[Scale]) -> None:
    """Put the scale of what is seen into the last layer of the eyes, and those of scene and reward into the readouts;
    landmarks and what is felt are on a scale already.
    """
    of, reads, free = surrogate.config, surrogate.reads, slice(surrogate.config.landmark_dim, surrogate.config.latent)
    latent = surrogate.encode(sample.frames[:, : of.history], sample.proprio[:, : of.history])
    mean, std = torch.zeros(of.size), torch.ones(of.size)
    mean[free], std[free] = latent[:, free].mean(0), latent[:, free].std(0).clamp_min(1e-3)
    last = last_of(surrogate.eyes.head)
    last.weight.div_(std[: of.latent, None])
    last.bias.sub_(mean[: of.latent]).div_(std[: of.latent])
    for read, scale in ((reads.scene, scaling[0]), (reads.reward, scaling[1])):
        if isinstance(read, First):
            read.mean.copy_(scale.mean)
            read.std.copy_(scale.std.expand_as(read.std))
            continue
        first_of(read).bias.add_(first_of(read).weight @ mean)
        first_of(read).weight.mul_(std)
        last_of(read).weight.mul_(scale.std)
        last_of(read).bias.mul_(scale.std).add_(scale.mean)


def first_of(module: nn.Module) -> nn.Linear:
    first = module[0] if isinstance(module, nn.Sequential) else module
    assert isinstance(first, nn.Linear)
    return first


def last_of(module: nn.Module) -> nn.Linear:
    last = module[-1] if isinstance(module, nn.Sequential) else module
    assert isinstance(last, nn.Linear)
    return last


def train_dynamics(surrogate: Surrogate, store: Episodes, config: TrainSurrogateConfig, folder: Path) -> None:
    tracks = tracks_of(surrogate, store, config)
    if int(tracks.lengths.max()) <= config.horizon:
        raise UserError(
            f"horizon {config.horizon}",
            rule=f"the longest episode to learn from has {int(tracks.lengths.max())} observations",
            remedy=f"Use --set horizon={max(1, int(tracks.lengths.max()) - 1)} or less",
        )
    sample = tracks.sample(SAMPLE, 1, generator_at(config.dynamics.seed, -1 % 2**31))
    surrogate.dynamics.step_std.copy_(sample.latents.diff(dim=1).flatten(0, 1).std(0).clamp_min(1e-3))
    fit = Fit(surrogate.dynamics, config.dynamics, folder, stage="dynamics")

    def loss_at(step: int) -> Tensor:
        track = tracks.sample(config.dynamics.batch, config.horizon, generator_at(config.dynamics.seed, step))
        return dynamics_loss(surrogate.dynamics, track)

    fit.run(loss_at)


def tracks_of(
    surrogate: Surrogate, store: Episodes, config: TrainSurrogateConfig, split: Split = "train"
) -> RealTracks:
    """The episodes of one side as latents."""
    return RealTracks(surrogate, windows_of(store, config, future=0, split=split))


def windows_of(store: Episodes, config: TrainSurrogateConfig, *, future: int, split: Split = "train") -> Windows:
    window = WindowConfig(
        history=config.surrogate.history, future=future, anchor=True, held_out=config.held_out, sources=config.sources
    )
    return Windows(store, window, split, seed=config.eyes.seed)


def scene_of(batch: Batch, config: SurrogateConfig) -> Tensor:
    """What the scene looks like now and next: landmarks, or coarse pictures (B, 2, K)."""
    if batch.landmarks is not None and config.landmark_dim:
        return batch.landmarks[:, config.history - 1 : config.history + 1]
    frames = batch.frames[:, config.history - 1 : config.history + 1]
    pooled: Tensor = F.adaptive_avg_pool2d(frames.flatten(0, 1), config.coarse)
    return pooled.reshape(*frames.shape[:2], -1)


def require_fit(store: Episodes, config: TrainSurrogateConfig) -> None:
    """Refuse a store that this surrogate cannot learn from."""
    sizes = {name: getattr(config.surrogate, name) for name in NAMES}
    require_sizes(store, sizes, horizon=config.horizon, what="surrogate")


def default_config(store: Episodes) -> TrainSurrogateConfig:
    """Sizes of a store; a surrogate takes minutes on two cores."""
    schema = store.schema
    seen = schema.landmark_dim + 4 if schema.landmark_dim else 16
    sizes = SurrogateConfig(
        image_size=schema.image_size, action_dim=schema.action_dim, proprio_dim=schema.proprio_dim,
        landmark_dim=schema.landmark_dim, latent=seen,
    )  # fmt: skip
    return TrainSurrogateConfig(surrogate=sizes)
