"""The same starts and noise under other actions: what the world imagines, and what the simulator does."""

from typing import NamedTuple

import torch
from torch import Tensor

from w4rl_fast.data.windows import Batch
from w4rl_fast.errors import UserError
from w4rl_fast.progress import Progress
from w4rl_fast.truth.fidelity import HAND
from w4rl_fast.truth.held_out import HeldOut
from w4rl_fast.truth.replay import Replayed, ReplayJob, replay, simulator_tasks
from w4rl_fast.world.model import WorldModel
from w4rl_fast.world.rollout import Imagined, roll_out

KINDS = ("true", "shuffled", "zero", "mirrored")
"""Their own actions, those of another episode, none, and their own with every direction of the hand turned round."""
STILL_M = 1e-3
"""A hand that moves, or differs from episode to episode, by less than this has no direction to compare."""


class Trials(NamedTuple):
    """N episodes under K kinds of actions: frames (N, K, H + 1, 3, S, S) uint8 and hands (N, K, H + 1, 3), with the
    start.
    """

    frames: Tensor
    hands: Tensor

    @property
    def displacement(self) -> Tensor:
        """(N, K, 3)."""
        return self.hands[:, :, -1] - self.hands[:, :, 0]


def other_actions(own: Tensor) -> Tensor:
    """Every kind of actions (N, K, H, A) for the episodes' own (N, H, A)."""
    mirrored = own.clone()
    mirrored[..., :HAND] *= -1
    return torch.stack([own, own.roll(1, 0), torch.zeros_like(own), mirrored], 1)


def imagine(model: WorldModel, held: HeldOut, sequences: Tensor, *, seed: int) -> Trials:
    """Roll every start out under each of its sequences (N, K, H, A), with the same noise."""
    parts = []
    with Progress("imagine other actions", total=len(held), unit="episodes") as bar:
        for batch in held.batches():
            some = sequences[bar.completed : bar.completed + len(batch.frames)]
            parts.append(imagine_slice(model, batch, some, seed))
            bar.advance(len(batch.frames))
    return Trials(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def imagine_slice(model: WorldModel, batch: Batch, sequences: Tensor, seed: int) -> Trials:
    history = model.config.history
    before = batch.actions[:, : history - 1]
    start = Imagined(batch.frames[:, history - 1 : history].float(), batch.proprio[:, history - 1 : history])
    outcomes = [
        roll_out(model, batch, torch.cat([before, sequences[:, kind]], 1), seed=seed)
        for kind in range(sequences.shape[1])
    ]
    frames, proprio = (
        torch.stack([torch.cat([begun, made], 1) for made in each], 1)
        for begun, each in zip(start, zip(*outcomes, strict=True), strict=True)
    )
    return Trials(((frames + 1) * 127.5).round().to(torch.uint8), proprio[..., :HAND])


def simulate(
    held: HeldOut, recorded: dict[str, dict[str, object]], sequences: Tensor, hands: Tensor, *, workers: int
) -> Trials:
    """Let the simulator act from the same starts; raises a UserError that says why it cannot, or does not repeat the
    recorded hands (N, H + 1, 3) under the true actions.
    """
    tasks = simulator_tasks(recorded, held.infos)
    jobs = [
        ReplayJob(number, tasks[info.task], info.seed, sequences[number].numpy())
        for number, info in enumerate(held.infos)
    ]
    simulated = as_trials(replay(jobs, workers))
    require_repeated(simulated.hands[:, 0], hands, held)
    return simulated


def as_trials(replayed: list[Replayed]) -> Trials:
    frames = torch.stack([torch.from_numpy(each.frames) for each in replayed])
    return Trials(
        frames.movedim(-1, -3), torch.stack([torch.from_numpy(each.proprio[..., :HAND]) for each in replayed])
    )


def require_repeated(simulated: Tensor, recorded: Tensor, held: HeldOut) -> None:
    """Refuse a simulator that does not repeat the recording (N, H + 1, 3) when given its own actions."""
    apart = (simulated - recorded).norm(dim=-1).amax(1)
    worst = int(apart.argmax())
    if apart[worst] > STILL_M:
        raise UserError(
            f"the simulator is {100 * apart[worst]:.1f} cm from episode {held.infos[worst].key}",
            rule="given the recorded seed and actions it goes where the recording goes",
            remedy="Use the release of the simulator that recorded the store",
        )
