"""Train a success classifier on real frames and on the world's own, then choose when it says success."""

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from w4rl_fast.config import save_config
from w4rl_fast.data.store import Episodes
from w4rl_fast.data.windows import Split, WindowConfig, Windows
from w4rl_fast.errors import UserError
from w4rl_fast.fit import Fit, FitConfig
from w4rl_fast.reward.checkpoint import save_reward
from w4rl_fast.reward.config import RewardConfig
from w4rl_fast.reward.dream import dream
from w4rl_fast.reward.model import RewardModel
from w4rl_fast.reward.read import logits_of
from w4rl_fast.reward.resnet import ResNet18, adopt
from w4rl_fast.reward.rows import (
    FORCED,
    FREE,
    Balanced,
    DreamRows,
    Labelled,
    RealRows,
    Rows,
    by_episode,
    join,
    outcomes,
)
from w4rl_fast.reward.rule import Choice, Group, calibrate, choose_rule, sigmoid
from w4rl_fast.world.model import WorldModel


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainRewardConfig:
    """`imagined` is the share of the world's own frames in a batch, half of them free-running.

    `validation` of the episodes choose the rule, so that held-out ones can judge it; `horizon` is how
    long replays are; `dreams` is how many episodes are replayed at most; `frame_noise` in units of the picture.
    """

    reward: RewardConfig
    horizon: int
    task: str
    fit: FitConfig = FitConfig(steps=1500, batch=96, learning_rate=1.5e-3, weight_decay=1e-2, ema=0.995)  # noqa: RUF009
    imagined: float = 0.5
    dreams: int = 400
    validation: float = 0.15
    held_out: float = 0.15
    most_false: float = 0.02
    most_false_imagined: float = 0.05
    frame_noise: float = 0.05


class Data:
    """Real and imagined rows to learn from, and episodes to choose the rule on."""

    def __init__(self, store: Episodes, world: WorldModel | None, config: TrainRewardConfig, folder: Path) -> None:
        seed = config.fit.seed
        self.learn = windows_of(store, config, "train")
        self.choose = windows_of(store, config, "validation")
        self.parts: list[tuple[Balanced, float]] = [(Balanced(RealRows(self.learn), str(store.path)), 1.0)]
        self.choosing: list[Rows] = [RealRows(self.choose)]
        if world is None:
            return
        share, most = config.imagined, config.dreams
        made = dream(world, windows_of(store, config, "train", world), folder, episodes=most, seed=seed)
        self.parts = [(self.parts[0][0], 1 - share)]
        for mode in (FREE, FORCED):
            rows = DreamRows(self.learn, made, mode=mode)
            self.parts.append((Balanced(rows, "imagined episodes"), share / 2))
        kept = dream(world, windows_of(store, config, "validation", world), folder, episodes=most, seed=seed + 1)
        self.choosing += [DreamRows(self.choose, kept, mode=mode) for mode in (FREE, FORCED)]
        for stale in set(folder.iterdir()) - {made.folder, kept.folder}:  # of another world, or of another store
            shutil.rmtree(stale)

    def batch(self, seed: int, step: int, size: int) -> Labelled:
        """Batch `step`, whatever was drawn before."""
        rng = np.random.Generator(np.random.Philox(key=[seed, step]))
        sizes = rng.multinomial(size, [share for _, share in self.parts])
        return join([part.draw(rng, int(n)) for (part, _), n in zip(self.parts, sizes, strict=True) if n])


def train_reward(
    store: Episodes,
    world: WorldModel | None,
    config: TrainRewardConfig,
    folder: Path,
    weights: Path | None = None,
    *,
    start: RewardModel | None = None,
) -> Choice:
    """Train in `folder`, going on where an earlier call was interrupted; choose the rule, and save both there.

    It begins from scratch, from public weights, or from another classifier: then that one is kept where it is the
    better of the two on the episodes that choose the rule.
    """
    require_fit(store, config)
    folder.mkdir(parents=True, exist_ok=True)
    save_config(folder / "train.json", config)
    data = Data(store, world, config, folder / "dreams")
    torch.manual_seed(config.fit.seed)
    model = RewardModel(config.reward)
    if weights is not None:
        start_from(model, weights)
    if start is not None:
        model.load_state_dict(start.state_dict())
    fit = Fit(model.train(), config.fit, folder, stage="reward")

    def loss_at(step: int) -> Tensor:
        batch = data.batch(config.fit.seed, step, config.fit.batch)
        generator = torch.Generator().manual_seed(step)
        noise = config.frame_noise * torch.randn(batch.frames.shape, generator=generator)
        return F.binary_cross_entropy_with_logits(model.raw(batch.frames + noise, batch.anchor), batch.success)

    fit.run(loss_at)
    rivals = [model.eval(), *([] if start is None else [copy.deepcopy(start).eval()])]
    choices = [choose(rival, data.choosing, config) for rival in rivals]
    choice, model = min(zip(choices, rivals, strict=True), key=lambda pair: failings(pair[0], config))
    save_config(folder / "choice.json", choice)
    save_reward(folder, model, choice.rule)
    return choice


def windows_of(store: Episodes, config: TrainRewardConfig, split: Split, world: WorldModel | None = None) -> Windows:
    """Single observations of one side of the store; or, for a world, its history and the whole replay."""
    return Windows(
        store,
        WindowConfig(
            history=world.config.history if world else config.reward.frames, future=config.horizon if world else 0,
            anchor=True, tasks={config.task: 1.0}, held_out=config.held_out, validation=config.validation,
        ),
        split,
        seed=config.fit.seed,
    )  # fmt: skip


def choose(model: RewardModel, choosing: list[Rows], config: TrainRewardConfig) -> Choice:
    """Calibrate on all of these rows, then choose the rule on the real and on the free-running episodes among them."""
    logits = [logits_of(model, rows) for rows in choosing]
    success = np.concatenate([rows.success for rows in choosing])
    scale, shift = calibrate(np.concatenate(logits), success)
    model.scale.fill_(scale)
    model.shift.fill_(shift)
    rates = (config.most_false, config.most_false_imagined)
    groups = [
        Group(by_episode(sigmoid(said * scale + shift), rows), outcomes(rows), most)
        for said, rows, most in zip(logits, choosing, rates, strict=False)
    ]
    return choose_rule(groups)


def failings(choice: Choice, config: TrainRewardConfig) -> tuple[float, float]:
    """By how much false successes exceed their rates, and the share of successes that is missed, both at worst."""
    rates = (config.most_false, config.most_false_imagined)
    excess = [false - most for false, most in zip(choice.false_positive_rate, rates, strict=False)]
    return max(0.0, *excess), 1 - min(choice.recall)


def start_from(model: RewardModel, weights: Path) -> None:
    """Put public ResNet-18 weights into the classifier."""
    from safetensors.torch import load_file

    if not isinstance(model.network, ResNet18):
        raise UserError(
            f"weights {weights}", rule="only a resnet18 starts from public weights", remedy="Add --preset small"
        )
    try:
        state = load_file(weights)
    except Exception as error:
        raise UserError(
            f"weights {weights}", rule=f"they cannot be read as safetensors: {error}", remedy="Give such a file"
        ) from error
    adopt(model.network, state)


def require_fit(store: Episodes, config: TrainRewardConfig) -> None:
    """Refuse a store of another image size."""
    if store.schema.image_size != config.reward.image_size:
        raise UserError(
            f"store {store.path} with image size {store.schema.image_size}",
            rule=f"this classifier has {config.reward.image_size}",
            remedy="Train a classifier of the store's own size, or collect again",
        )
