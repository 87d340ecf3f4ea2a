"""Does the imagined arm go where the action says? The same starts and noise under other actions, against the simulator.

Displacements are of the hand, over the first steps of an episode, in metres.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from w4rl_fast.data.store import Store
from w4rl_fast.errors import UserError
from w4rl_fast.truth.fidelity import HAND, correlation, moved, psnr
from w4rl_fast.truth.held_out import HeldOut
from w4rl_fast.truth.intervals import Share, wilson
from w4rl_fast.truth.trials import KINDS, STILL_M, Trials, imagine, other_actions, simulate
from w4rl_fast.world.model import WorldModel


@dataclass(frozen=True, kw_only=True, slots=True)
class KindResponse:
    """One kind of actions: the imagined hand and picture against those of the simulator under the same actions.

    `correlation` by axis, None where the real hand hardly moves; distances are means, `error_cm` the median. `response`
    is the share of what these actions change in the simulator, against the episodes' own, that is imagined too: one
    for a world that obeys, zero for a world that ignores actions, less for one that goes elsewhere. `psnr_moving` is of
    the last frame against the simulator's own, `psnr_moving_true` against the simulator's under the true actions, both
    on the pixels that moved under these actions. `pixels_follow` counts the episodes whose two last imagined frames,
    under these and under the true actions, are each nearer to the simulator's frame of the same actions than to that of
    the others, on the pixels that tell those apart: a world that ignores actions scores none.
    """

    correlation: list[float | None]
    imagined_cm: float
    simulated_cm: float
    ratio: float | None
    error_cm: float
    response: float | None
    psnr_moving: float | None
    psnr_moving_true: float | None
    pixels_follow: Share | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionResponse:
    """Response to actions over the first steps.

    `correlation` by axis under the true actions against the recording; `shuffled` under those of another episode, whose
    recorded hand it should then follow; `ignored` is what a model that ignores actions would score: imagined under
    shuffled actions against the episode's own hand. `simulator` says "used" or why it was not; then the rest is empty.
    `response` and `pixels_follow` are over all kinds but the true actions: an episode counts if it follows all of them.
    """

    steps: int
    episodes: int
    correlation: list[float]
    shuffled: list[float]
    ignored: list[float]
    simulator: str
    response: float | None
    pixels_follow: Share | None
    kinds: dict[str, KindResponse]


def measure_response(
    model: WorldModel, held: HeldOut, store: Store, *, workers: int = 1, seed: int = 0
) -> tuple[ActionResponse, Trials, Trials | None]:
    """Windows that begin with their episodes; returns the measure, what was imagined and what the simulator did."""
    history = model.config.history
    taken = torch.cat([batch.actions[:, history - 1 :] for batch in held.batches()])
    hands = torch.cat([batch.proprio[:, history - 1 :, :HAND] for batch in held.batches()])
    sequences = other_actions(taken)
    imagined = imagine(model, held, sequences, seed=seed)
    try:
        simulated = simulate(held, store.index.tasks, sequences, hands, workers=workers)
    except UserError as error:
        return compare(imagined, None, hands, str(error)), imagined, None
    return compare(imagined, simulated, hands, "used"), imagined, simulated


def compare(imagined: Trials, simulated: Trials | None, recorded: Tensor, simulator: str) -> ActionResponse:
    """Imagined hands and pictures against the recording (N, H + 1, 3) and, if there is one, the simulator."""
    own, shuffled = imagined.displacement[:, 0], imagined.displacement[:, 1]
    real = recorded[:, -1] - recorded[:, 0]
    kinds = {} if simulated is None else {kind: compare_kind(imagined, simulated, k) for k, kind in enumerate(KINDS)}
    return ActionResponse(
        steps=recorded.shape[1] - 1,
        episodes=len(recorded),
        correlation=correlation(own, real),
        shuffled=correlation(shuffled, real.roll(1, 0)),
        ignored=correlation(shuffled, real),
        simulator=simulator,
        response=None if simulated is None else response(caused(imagined), caused(simulated)),
        pixels_follow=None if simulated is None else share(*pixels_follow(imagined, simulated, *range(1, len(KINDS)))),
        kinds=kinds,
    )


def compare_kind(imagined: Trials, simulated: Trials, kind: int) -> KindResponse:
    made, real = imagined.displacement[:, kind], simulated.displacement[:, kind]
    made_m, real_m = float(made.norm(dim=1).mean()), float(real.norm(dim=1).mean())
    axes = zip(correlation(made, real), real.std(0, correction=0), strict=True)
    frames, moving = pictures(simulated)[:, kind], moved(pictures(simulated)[:, kind], pictures(simulated, 0)[:, kind])
    last = pictures(imagined)[:, kind]
    return KindResponse(
        correlation=[value if spread > STILL_M else None for value, spread in axes],
        imagined_cm=100 * made_m,
        simulated_cm=100 * real_m,
        ratio=made_m / real_m if real_m > STILL_M else None,
        error_cm=100 * float((made - real).norm(dim=1).median()),
        response=response(caused(imagined)[:, kind - 1], caused(simulated)[:, kind - 1]) if kind else None,
        psnr_moving=mean(psnr(last, frames, moving)),
        psnr_moving_true=mean(psnr(last, pictures(simulated)[:, 0], moving)),
        pixels_follow=share(*pixels_follow(imagined, simulated, kind)) if kind else None,
    )


def caused(trials: Trials) -> Tensor:
    """What the other kinds of actions change in the displacement under the true ones: (N, K - 1, 3)."""
    return trials.displacement[:, 1:] - trials.displacement[:, :1]


def response(made: Tensor, real: Tensor) -> float | None:
    """The share of changes (..., 3) that is imagined; None where nothing changes."""
    size = real.square().sum()
    return float(1 - (made - real).square().sum() / size) if size > real[..., 0].numel() * STILL_M**2 else None


def pixels_follow(imagined: Trials, simulated: Trials, *kinds: int) -> tuple[Tensor, Tensor]:
    """Whether each episode follows all of these kinds of actions, and whether any of them can be told apart: (N,) each.

    Told apart are the simulator's last frames, by the pixels in which these and those of the true actions differ. There
    each of the two imagined frames has to be nearer to the simulator's frame of the same actions.
    """
    made, real = pictures(imagined), pictures(simulated)
    follows, told = torch.ones(len(made), dtype=torch.bool), torch.zeros(len(made), dtype=torch.bool)
    for kind in kinds:
        apart = moved(real[:, kind], real[:, 0])
        pairs = {(i, j): psnr(made[:, i], real[:, j], apart) for i in (0, kind) for j in (0, kind)}
        nearer = (pairs[0, 0] > pairs[0, kind]) & (pairs[kind, kind] > pairs[kind, 0])
        differ = apart.flatten(1).any(1)
        follows, told = follows & (nearer | ~differ), told | differ
    return follows, told


def share(follows: Tensor, told: Tensor) -> Share | None:
    return wilson(int((follows & told).sum()), int(told.sum())) if told.any() else None


def pictures(trials: Trials, step: int = -1) -> Tensor:
    """Frames of a step in [-1, 1]."""
    return trials.frames[:, :, step].float() / 127.5 - 1


def mean(values: Tensor) -> float | None:
    """The mean of what is not NaN."""
    return None if values.isnan().all() else float(values.nanmean())
