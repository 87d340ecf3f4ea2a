"""Roll a world out over held-out episodes, slice by slice, and keep what a judgement needs of it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from w4rl_fast.data.episode import EpisodeInfo
from w4rl_fast.progress import Progress
from w4rl_fast.truth.features import FeatureDistances, Network
from w4rl_fast.truth.fidelity import Fidelity, Scores, score, summarise
from w4rl_fast.truth.held_out import HeldOut
from w4rl_fast.world.model import WorldModel
from w4rl_fast.world.rollout import roll_out


@dataclass(frozen=True, slots=True)
class Film:
    """One episode to look at: real (H + 1, 3, S, S) from the present on, imagined (H, 3, S, S), its own figures."""

    info: EpisodeInfo
    real: Tensor
    imagined: Tensor
    fidelity: Fidelity


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldVerdict:
    """How far a world can be believed: over all episodes and by source, and a film of each source and outcome.

    `features` holds FID, FVD and LPIPS for the networks that were given.
    """

    overall: Fidelity
    by_source: dict[str, Fidelity]
    films: list[Film]
    features: dict[str, object]


def judge_world(
    model: WorldModel, held: HeldOut, *, networks: dict[str, Network] | None = None, seed: int = 0
) -> WorldVerdict:
    """Imagine every held-out window from its history and its own actions alone."""
    history, infos = model.config.history, held.infos
    parts: list[Scores] = []
    films: dict[tuple[str, bool], Film] = {}
    distances = FeatureDistances(networks or {})
    with Progress("imagine", total=len(held), unit="episodes") as bar:
        for batch in held.batches():
            imagined = roll_out(model, batch, seed=seed)
            parts.append(score(batch, imagined, history))
            distances.add(batch.frames[:, history:], imagined.frames)
            for row, info in enumerate(infos[bar.completed : bar.completed + len(batch.frames)]):
                if (info.source, info.succeeded) not in films:
                    own = summarise({name: values[row : row + 1] for name, values in parts[-1].items()})
                    real = batch.frames[row, history - 1 :].clone()
                    films[info.source, info.succeeded] = Film(info, real, imagined.frames[row].clone(), own)
            bar.advance(len(batch.frames))
    scores = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return WorldVerdict(
        overall=summarise(scores),
        by_source=split(scores, [info.source for info in infos]),
        films=[films[key] for key in sorted(films)],
        features=distances.result(),
    )


def split(scores: Scores, names: list[str]) -> dict[str, Fidelity]:
    """A summary for each of the names that the episodes go by."""
    groups = {name: [row for row, other in enumerate(names) if other == name] for name in sorted(set(names))}
    return {name: summarise({key: values[rows] for key, values in scores.items()}) for name, rows in groups.items()}
