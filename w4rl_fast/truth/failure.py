"""Do failures stay failures? Real action sequences replayed by the world, and what the classifier says of both."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w4rl_fast.data.episode import PLAYED, EpisodeInfo
from w4rl_fast.data.windows import Batch
from w4rl_fast.progress import Progress
from w4rl_fast.reward import RewardModel, Rule
from w4rl_fast.reward.rule import says_success
from w4rl_fast.truth.held_out import HeldOut
from w4rl_fast.world.model import WorldModel
from w4rl_fast.world.rollout import roll_out


@dataclass(frozen=True, kw_only=True, slots=True)
class Confusion:
    """Said and real outcomes of n episodes; `false_success_rate` is of the real failures, `missed` of the successes."""

    n: int
    true_successes: int
    false_successes: int
    true_failures: int
    false_failures: int
    agreement: float
    false_success_rate: float
    missed: float


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureFidelity:
    """What the classifier says of imagined replays, and of the real frames of the same episodes.

    `imagined` and `real` are over the policy's rollouts, where failures decide, or over all episodes if there are
    none (`over` says which); by source beside it.
    """

    over: str
    imagined: Confusion
    real: Confusion
    by_source: dict[str, Confusion]
    rule: Rule


@dataclass(frozen=True, slots=True)
class Mistake:
    """An episode that was judged wrongly, seen as `world` ("real" or "imagined").

    real and imagined (H, 3, S, S); what the classifier said of each step, (H,).
    """

    info: EpisodeInfo
    seen: str
    said: bool
    real: Tensor
    imagined: Tensor
    real_says: NDArray[np.float64]
    imagined_says: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Replays:
    """Verdicts (E,) of real outcome and of the classifier on real and on imagined frames, and the mistakes."""

    infos: list[EpisodeInfo]
    real: NDArray[np.bool_]
    real_said: NDArray[np.bool_]
    imagined_said: NDArray[np.bool_]
    mistakes: list[Mistake]


def replay(world: WorldModel, reward: RewardModel, rule: Rule, held: HeldOut, *, seed: int = 0) -> Replays:
    """Imagine every held-out episode from its start and its actions alone, and read both sides."""
    history = world.config.history
    outcomes: list[NDArray[np.bool_]] = []
    mistakes: list[Mistake] = []
    with Progress("replay", total=len(held), unit="episodes") as bar:
        for batch in held.batches():
            imagined = roll_out(world, batch, seed=seed).frames
            says = [probabilities(reward, batch, frames, history) for frames in (batch.frames[:, history:], imagined)]
            real = batch.success[:, history:].any(1).numpy()
            said = [says_success(each, rule) for each in says]
            outcomes.append(np.stack([real, *said]))
            for row in np.flatnonzero((said[0] != real) | (said[1] != real)):
                frames = (batch.frames[row, history:].clone(), imagined[row].clone())
                info = held.infos[bar.completed + row]
                for name, each in (("real", said[0]), ("imagined", said[1])):
                    if each[row] != real[row]:
                        mistakes.append(Mistake(info, name, bool(each[row]), *frames, says[0][row], says[1][row]))
            bar.advance(len(batch.frames))
    real, real_said, imagined_said = np.concatenate(outcomes, axis=1)
    return Replays(held.infos, real, real_said, imagined_said, mistakes)


@torch.inference_mode()
def probabilities(reward: RewardModel, batch: Batch, frames: Tensor, history: int) -> NDArray[np.float64]:
    """Probability of success (B, H) of each of the frames (B, H, 3, S, S) that follow the history."""
    assert batch.anchor is not None
    seen = frames[:, :, None]
    if reward.config.frames == 2:
        before = torch.cat([batch.frames[:, history - 1 : history], frames[:, :-1]], dim=1)
        seen = torch.stack([before, frames], dim=2)
    anchors = batch.anchor[:, None].expand_as(frames)
    return np.asarray(reward(seen.flatten(0, 1), anchors.flatten(0, 1)).sigmoid().double()).reshape(frames.shape[:2])


def measure_failure(replays: Replays, rule: Rule) -> FailureFidelity:
    """Count."""
    sources = np.array([info.source for info in replays.infos])
    played = np.isin(sources, PLAYED)
    over, counted = ("policy", played) if played.any() else ("all", ~played)
    return FailureFidelity(
        over=over,
        imagined=confusion(replays.real[counted], replays.imagined_said[counted]),
        real=confusion(replays.real[counted], replays.real_said[counted]),
        by_source={
            str(name): confusion(replays.real[sources == name], replays.imagined_said[sources == name])
            for name in np.unique(sources)
        },
        rule=rule,
    )


def confusion(real: NDArray[np.bool_], said: NDArray[np.bool_]) -> Confusion:
    """Of real outcomes (E,) and verdicts (E,)."""
    successes, failures = int(real.sum()), int((~real).sum())
    false_successes, false_failures = int((said & ~real).sum()), int((~said & real).sum())
    return Confusion(
        n=len(real),
        true_successes=successes - false_failures,
        false_successes=false_successes,
        true_failures=failures - false_successes,
        false_failures=false_failures,
        agreement=1 - (false_successes + false_failures) / len(real),
        false_success_rate=false_successes / failures if failures else 0.0,
        missed=false_failures / successes if successes else 0.0,
    )
