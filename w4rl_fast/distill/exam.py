"""What every world of a comparison is asked: the same held-out rollouts and other actions, with the same noise."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w4rl_fast.data.episode import PLAYED
from w4rl_fast.data.store import Store
from w4rl_fast.data.windows import Batch
from w4rl_fast.errors import UserError
from w4rl_fast.progress import Progress
from w4rl_fast.reward import RewardModel, Rule
from w4rl_fast.reward.rule import says_success
from w4rl_fast.truth.blend import Contacts, measure_blend
from w4rl_fast.truth.failure import confusion, probabilities
from w4rl_fast.truth.fidelity import HAND, Scores, correlation, moved, score, summarise
from w4rl_fast.truth.gate import Truth
from w4rl_fast.truth.held_out import HeldOut
from w4rl_fast.truth.response import pictures
from w4rl_fast.truth.trials import Trials, imagine, other_actions, simulate
from w4rl_fast.world.model import WorldModel
from w4rl_fast.world.rollout import roll_out

SIMULATOR = "the simulator"


class Answer(NamedTuple):
    """What a world made of it: besides the truth the PSNR in dB on moving pixels of the last step of each episode (E,),
    NaN where nothing moved, and the rollouts (H, 3, S, S) that are to be looked at.
    """

    truth: Truth
    last: Tensor
    films: list[Tensor]


class Part(NamedTuple):
    """Of some episodes: scores, real outcome and what the classifier says (B,), frames of contact (N, 3, S, S)."""

    scores: Scores
    real: NDArray[np.bool_]
    said: NDArray[np.bool_]
    touching: Tensor
    films: list[Tensor]


class Others(NamedTuple):
    """Other actions (N, K, H, A) from some starts, and what a `referee` made of them."""

    starts: HeldOut
    sequences: Tensor
    outcome: Trials
    referee: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Exam:
    """Rollouts of `held`, of which the rows `shown` are to be looked at, and other actions."""

    held: HeldOut
    contacts: Contacts
    others: Others
    reward: RewardModel
    rule: Rule
    shown: tuple[int, ...]
    seed: int = 0

    def take(self, model: WorldModel) -> Answer:
        """Roll a world out, and judge it in every way."""
        parts: list[Part] = []
        with Progress("imagine", total=len(self.held), unit="episodes") as bar:
            for batch in self.held.batches():
                parts.append(self._take_part(model, batch, bar.completed))
                bar.advance(len(batch.frames))
        scores = {name: torch.cat([part.scores[name] for part in parts]) for name in parts[0].scores}
        counted = np.isin([info.source for info in self.held.infos], PLAYED)
        counted = counted if counted.any() else ~counted
        real, said = (np.concatenate(each)[counted] for each in ([p.real for p in parts], [p.said for p in parts]))
        made = imagine(model, self.others.starts, self.others.sequences, seed=self.seed)
        truth = Truth(
            fidelity=summarise(scores),
            failure=confusion(real, said),
            response=response(made, self.others.outcome),
            spread=spread(made, imagine(model, self.others.starts, self.others.sequences[:, :1], seed=self.seed + 1)),
            blend=measure_blend(torch.cat([part.touching for part in parts]), self.contacts),
        )
        return Answer(truth, scores["psnr_moving"][:, -1], [film for part in parts for film in part.films])

    def _take_part(self, model: WorldModel, batch: Batch, first: int) -> Part:
        """The episodes from row `first` on."""
        history, count = model.config.history, len(batch.frames)
        imagined = roll_out(model, batch, seed=self.seed)
        here = (self.contacts.row >= first) & (self.contacts.row < first + count)
        return Part(
            score(batch, imagined, history),
            batch.success[:, history:].any(1).numpy(),
            says_success(probabilities(self.reward, batch, imagined.frames, history), self.rule),
            imagined.frames[self.contacts.row[here] - first, self.contacts.step[here]],
            [imagined.frames[row - first].clone() for row in self.shown if first <= row < first + count],
        )


def ask_others(teacher: WorldModel, starts: HeldOut, store: Store, *, workers: int, seed: int) -> Others:
    """Let the simulator take the other actions, or, where it cannot, the teacher with noise of its own."""
    history = teacher.config.history
    taken = torch.cat([batch.actions[:, history - 1 :] for batch in starts.batches()])
    hands = torch.cat([batch.proprio[:, history - 1 :, :HAND] for batch in starts.batches()])
    sequences = other_actions(taken)
    try:
        outcome = simulate(starts, store.index.tasks, sequences, hands, workers=workers)
    except UserError as error:
        outcome = imagine(teacher, starts, sequences, seed=seed + 1)
        return Others(
            starts, sequences, outcome, f"the teacher with other noise, since no simulator was asked: {error}"
        )
    return Others(starts, sequences, outcome, SIMULATOR)


def response(made: Trials, reference: Trials) -> float:
    """The correlation over all pixels of what other actions change in the last picture."""
    changes = [(pictures(each)[:, 1:] - pictures(each)[:, :1]).reshape(-1, 1).double() for each in (made, reference)]
    return correlation(changes[0], changes[1])[0]


def spread(one: Trials, other: Trials) -> float:
    """The deviation between two draws of the last picture under true actions, on the pixels that moved in either."""
    first, second, start = pictures(one)[:, 0], pictures(other)[:, 0], pictures(one, 0)[:, 0]
    moving = moved(first, start) | moved(second, start)
    squared = ((first - second) / 2).square().mean(1, keepdim=True)[moving]
    return float((squared.mean() / 2).sqrt()) if len(squared) else 0.0
