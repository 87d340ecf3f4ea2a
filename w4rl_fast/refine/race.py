"""Ways to refine against each other: same start, same worlds, same number of imagined frames, judged for real."""

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from w4rl_fast.config import load_config, to_json_dict
from w4rl_fast.data.record import JUDGING_SEED, TUNING_SEED
from w4rl_fast.data.store import Store
from w4rl_fast.errors import UserError, near
from w4rl_fast.files import publish, read_json
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.imagine.rollout import Rollouts
from w4rl_fast.imagine.simulated import Simulated
from w4rl_fast.imagine.worlds import ImaginationConfig, Worlds
from w4rl_fast.policy import GaussianPolicy
from w4rl_fast.progress import Progress
from w4rl_fast.refine.checkpoint import digest
from w4rl_fast.refine.config import FoGConfig, PPOConfig
from w4rl_fast.refine.first_order import FirstOrder
from w4rl_fast.refine.ppo import PPO
from w4rl_fast.refine.refinement import Refinement
from w4rl_fast.surrogate.examine import load_surrogate
from w4rl_fast.surrogate.tracks import RealTracks
from w4rl_fast.surrogate.train import TRAIN, TrainSurrogateConfig, tracks_of
from w4rl_fast.truth.returns import Returns

WAYS: dict[str, dict[str, Any]] = {
    "fog": {},
    "coupled": {"roll": "coupled"},
    "surrogate-only": {"roll": "surrogate", "refreshes": 0},
    "no-refresh": {"refreshes": 0},
    "no-rehearsal": {"rehearsals": 0, "passes": 6},
    "rehearsal-only": {"passes": 0},
    "straight-through": {"roll": "straight-through", "refreshes": 0},
}
"""First-order methods, and where each differs from FoG."""
METHODS = ["ppo", *WAYS]
NO_ANCHOR = PPOConfig(
    worlds=32,
    epochs=8,
    learning_rate=1.5e-3,
    final_rate=0.5,
    target_kl=0.3,
    anchor=0.0,
    value_warm_up=0,
    precision="float32",
)
"""PPO without what keeps it near a clone: here it may start from nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaceConfig:
    """`methods` refine the same start, a fresh policy ("scratch") or the run's own ("clone"), by `frames` frames of the
    run's world, from the first or `any` moments of recorded episodes, or of the simulator itself, once for each of
    `seeds` seeds, in episodes of `steps`.

    After each of `points` equal parts the policy plays `episodes` real ones, on seeds to tune on, or, for the record,
    on those that policies are judged on.
    """

    methods: tuple[str, ...] = ("ppo", "fog", "surrogate-only")
    seeds: int = 5
    first_seed: int = 0
    frames: int = 100_000
    points: int = 10
    episodes: int = 100
    forward: Literal["world", "simulator"] = "world"
    start: Literal["clone", "scratch"] = "scratch"
    steps: int | None = None
    rows: Literal["first", "any"] = "first"
    tuning: bool = False
    ppo: PPOConfig = NO_ANCHOR
    fog: FoGConfig = FoGConfig()  # noqa: RUF009

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in METHODS:
                raise ValueError(f"method {method!r}: {near(method, METHODS)}")
        for name in ("seeds", "frames", "points", "episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One refinement: what its policy earned for real after so many imagined frames and seconds, the start included.

    Seconds are of imagining and learning, without what judging took. `last` are the figures of the last iteration.
    """

    method: str
    seed: int
    frames: list[int]
    seconds: list[float]
    returns: list[float]
    scores: list[float]
    succeeded: list[float]
    last: dict[str, float]


class Race:
    """A race of a run; each curve is on disk when it is drawn, and a race that goes on draws those that are missing."""

    def __init__(self, run: LoadedRun, config: RaceConfig, folder: Path, store: Path | None = None) -> None:
        self.run, self.config, self.folder, self.store = run, config, folder, store
        self.surrogate = load_surrogate(run.path)
        self.steps = config.steps or steps_of(run, config)
        self.judge = Returns(
            run.task, episodes=config.episodes, first_seed=TUNING_SEED if config.tuning else JUDGING_SEED
        )
        self._tracks: RealTracks | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def curves(self) -> list[Curve]:
        """All of them, method by method."""
        pairs = [
            (method, self.config.first_seed + n) for n in range(self.config.seeds) for method in self.config.methods
        ]
        found = []
        with Progress("race", total=len(pairs), unit="refinements") as bar:
            for method, seed in pairs:
                found.append(self.curve(method, seed))
                bar.advance(last=f"{method} {found[-1].scores[-1]:.3f}")
        return sorted(found, key=lambda curve: self.config.methods.index(curve.method))

    def curve(self, method: str, seed: int) -> Curve:
        path = self.folder / f"{method}-{seed}.json"
        identity = self.identity(method)
        if path.exists():
            there = read_json(path)
            if there["identity"] != identity:
                raise UserError(
                    f"curve {path}",
                    rule="it was drawn with other settings or weights",
                    remedy="Give those, or delete the folder",
                )
            return Curve(**there["curve"])
        drawn = self.draw(method, seed)
        publish(path, json.dumps({"identity": identity, "curve": dataclasses.asdict(drawn)}).encode())
        return drawn

    def identity(self, method: str) -> dict[str, Any]:
        """What a curve depends on besides its seed."""
        whole = to_json_dict(self.config)
        names = ["frames", "points", "episodes", "forward", "start", "tuning", "ppo" if method == "ppo" else "fog"]
        if self.config.forward == "world":
            names.append("rows")
        world = digest(self.run.world) if self.config.forward == "world" else ""
        start = digest(self.run.policy) if self.config.start == "clone" else ""
        weights = f"{digest(self.surrogate)} {world} {start}"
        return {name: whole[name] for name in names} | {"steps": self.steps, "weights": weights}

    def draw(self, method: str, seed: int) -> Curve:
        refinement = self.refinement(method, seed)
        per = self.frames_of(method)
        last = iterations_of(self.config, per)
        marks = sorted({max(1, round(last * n / self.config.points)) for n in range(1, self.config.points + 1)})
        curve = Curve(method=method, seed=seed, frames=[], seconds=[], returns=[], scores=[], succeeded=[], last={})
        self.mark(curve, refinement, 0, 0.0)
        spent, figures = 0.0, dict[str, float]()
        while refinement.iteration < marks[-1]:
            started = time.perf_counter()
            figures = refinement.iterate()
            spent += time.perf_counter() - started
            if refinement.iteration in marks:
                self.mark(curve, refinement, refinement.iteration * per, spent)
        return dataclasses.replace(curve, last=figures)

    def mark(self, curve: Curve, refinement: Refinement, frames: int, seconds: float) -> None:
        """Let the policy play for real as it is now."""
        earned = self.judge(refinement.policy)
        curve.frames.append(frames)
        curve.seconds.append(seconds)
        curve.returns.append(float(earned.returns.mean()))
        curve.scores.append(float(earned.scores.mean()))
        curve.succeeded.append(float(earned.succeeded.float().mean()))

    def frames_of(self, method: str) -> int:
        """Imagined frames of one iteration."""
        return (self.config.ppo if method == "ppo" else self.config.fog).worlds * self.steps

    def refinement(self, method: str, seed: int) -> Refinement:
        config, surrogate = self.config, self.surrogate
        iterations = iterations_of(config, self.frames_of(method))
        start, scratch = self.start(seed), self.folder / "scratch" / f"{method}-{seed}"
        if method == "ppo":
            ppo = dataclasses.replace(config.ppo, steps=self.steps, iterations=iterations, seed=seed)
            rollouts = Rollouts(self.worlds(ppo.worlds), pay=surrogate.reward)
            return PPO(start, rollouts, ppo, scratch)
        fog = dataclasses.replace(config.fog, steps=self.steps, iterations=iterations, seed=seed, **WAYS[method])
        return FirstOrder(start, surrogate, self.worlds(fog.worlds), fog, scratch, tracks=self.tracks(fog))

    def start(self, seed: int) -> GaussianPolicy:
        """The policy that every method begins with."""
        if self.config.start == "clone":
            return self.run.policy
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.surrogate.policy()

    def worlds(self, count: int) -> Worlds:
        if self.config.forward == "simulator":
            return Simulated(self.run.task, ImaginationConfig(num_worlds=count, horizon=self.steps, ends=False))
        return self.run.imagination(
            store=self.store,
            num_worlds=count,
            horizon=self.steps,
            ends=False,
            rows=self.config.rows,
            slice_size=min(32, count),
        )

    def tracks(self, config: FoGConfig) -> RealTracks | None:
        if not config.refreshes or not config.refresh_real:
            return None
        if self._tracks is None:
            trained = load_config(self.run.path / "surrogate" / TRAIN, TrainSurrogateConfig)
            self._tracks = tracks_of(self.surrogate, Store(self.run.open_store(self.store).path), trained)
        return self._tracks


def iterations_of(config: RaceConfig, per: int) -> int:
    """How often `per` frames are imagined: about as many as asked for, and once at least."""
    return max(1, round(config.frames / per))


def steps_of(run: LoadedRun, config: RaceConfig) -> int:
    """How long an episode is: as long as the task's, or as far as its world was trained to be rolled out."""
    trained = run.training()[0] if config.forward == "world" else None
    longest = min(run.task.horizon, trained or run.task.horizon)
    return longest - longest % config.fog.horizon or longest


def at_equal_frames(curves: Sequence[Curve], frames: int, what: str = "scores") -> list[float]:
    """What each curve says at so many frames, straight between its points."""
    found = []
    for curve in curves:
        values = getattr(curve, what)
        later = next((n for n, there in enumerate(curve.frames) if there >= frames), len(values) - 1)
        if later == 0:
            found.append(values[0])
            continue
        share = (frames - curve.frames[later - 1]) / (curve.frames[later] - curve.frames[later - 1])
        found.append(values[later - 1] + min(1.0, share) * (values[later] - values[later - 1]))
    return found
