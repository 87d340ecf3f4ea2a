"""Refine the policy of a run in the worlds that the run imagines."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from w4rl_fast.config import load_config, save_config
from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.distill.choice import student_folder
from w4rl_fast.errors import UserError
from w4rl_fast.files import publish, read_json
from w4rl_fast.imagine.artifacts import EAGER
from w4rl_fast.imagine.capture import cuda_graph
from w4rl_fast.imagine.engine import Imagination
from w4rl_fast.imagine.guards import GuardConfig, Guards
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.imagine.rollout import Rollouts
from w4rl_fast.imagine.worlds import ImaginationConfig
from w4rl_fast.metrics import LINES_NAME, read_metrics
from w4rl_fast.policy.gaussian import GaussianPolicy
from w4rl_fast.refine.checkpoint import CHECKPOINT, digest
from w4rl_fast.refine.config import PPOConfig
from w4rl_fast.refine.loop import Result, refine
from w4rl_fast.refine.ppo import PPO
from w4rl_fast.truth.audit import AuditConfig, standing_audit
from w4rl_fast.truth.gate import require_passed
from w4rl_fast.truth.intervals import Share, wilson
from w4rl_fast.world.model import WorldModel

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

HELD_OUT_SEED = 1 << 40
"""Imagined seeds from here on choose the best policy; it never learns from them."""
PROOF_SEED = 1 << 41
"""Those from here on say what a policy that was chosen dreams of."""
REFINED, SETTINGS, ENGINE = "refined", "refine.json", "engine.json"
GUARDED = "refine/guard_success"
ON_CPU, ON_GPU = ImaginationConfig().slice_size, 1024
"""Worlds of a slice, where nobody says how many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RefineConfig:
    """PPO in worlds drawn in `sampling_steps`, by default their own; `judged` held-out worlds choose the best policy.

    A world that does not pass its `audit` is refused. The world is that of a `student` of the run, or the run's own.
    `device` is where policies act, learn and imagine; with `graph` every rollout is one recorded launch there. A slice
    is by default what stays in a CPU's cache, and on a GPU all worlds, up to a thousand.
    """

    ppo: PPOConfig = PPOConfig()  # noqa: RUF009
    guards: GuardConfig = GuardConfig()  # noqa: RUF009
    audit: AuditConfig = AuditConfig()  # noqa: RUF009
    sampling_steps: int | None = None
    slice_size: int | None = None
    judged: int = 128
    student: str | None = None
    device: str = "cpu"
    graph: bool = False

    def __post_init__(self) -> None:
        if self.graph and not self.device.startswith("cuda"):
            raise ValueError(f"graph on {self.device}: rollouts are recorded as CUDA graphs. Use device=cuda too")

    def sliced(self, worlds: int, device: str) -> int:
        """The size of a slice of so many worlds on a device."""
        return self.slice_size or (ON_CPU if device == "cpu" else min(worlds, ON_GPU))


def refine_run(run: LoadedRun, config: RefineConfig, *, store: Path | None = None, force: bool = False) -> Result:
    """Refine RUN/policy into RUN/refined, going on where an earlier call was interrupted; `force` refines in a world
    that does not pass its audit too.
    """
    settings, inside = run.path / REFINED / SETTINGS, imagined_in(run, config)
    require_device(config.device)
    require_same(settings, config)
    require_passed(inside.path, force=force)
    require_true(inside, config, store, force=force)
    settings.parent.mkdir(exist_ok=True)
    save_config(settings, config)
    engine = engine_before(run.path / REFINED)
    worlds = inside.imagination(
        store=store, sampling_steps=config.sampling_steps, num_worlds=config.ppo.worlds, engine=engine,
        slice_size=config.sliced(config.ppo.worlds, config.device), device=config.device,
    )  # fmt: skip
    if not (run.path / REFINED / CHECKPOINT).exists():
        publish(run.path / REFINED / ENGINE, json.dumps({"engine": worlds.engine}).encode())
    held_out = held_out_worlds(inside, config, store, engine=engine, device=config.device)
    reward, rule = inside.judge
    starts = hashlib.sha256(b"".join(each.starts.proprio.cpu().numpy().tobytes() for each in (worlds, held_out)))
    origin = f"{digest(inside.world)} {digest(reward)} {rule} {starts.hexdigest()} {worlds.engine}"
    _, share = inside.training()
    windows = Windows(
        run.open_store(store),
        WindowConfig(history=2, future=0, pixels=False, tasks={run.task.name: 1.0}, held_out=share),
    )
    named = hashlib.sha256(origin.encode()).hexdigest()[:12]
    rollouts = Rollouts(worlds, recorder=cuda_graph if config.graph else None)
    ppo = PPO(run.policy.to(config.device), rollouts, config.ppo, run.path / REFINED, origin=named)
    guards = Guards(windows, config.guards, worlds, first_success(run.path / REFINED))
    return refine(
        ppo,
        lambda policy: imagined_success(policy, held_out, HELD_OUT_SEED),
        guard=lambda iteration: guards(iteration, ppo.rollout),
    )


def engine_before(folder: Path) -> str:
    """What a refinement that goes on has to imagine by: eager torch, if it began so and an engine was built since."""
    begun = (folder / CHECKPOINT).exists() and (folder / ENGINE).exists()
    return EAGER if begun and read_json(folder / ENGINE)["engine"] == EAGER else "auto"


def imagined_in(run: LoadedRun, config: RefineConfig) -> LoadedRun:
    """The run whose world a refinement imagines: itself, or its student."""
    return run if config.student is None else LoadedRun(student_folder(run.path, config.student))


def world_behind(run: Path) -> WorldModel:
    """The world in which the refined policy of a run was imagined."""
    return imagined_in(LoadedRun(run), load_config(run / REFINED / SETTINGS, RefineConfig)).world


def require_same(settings: Path, config: "DataclassInstance") -> None:
    """Refuse to go on with a refinement that was begun with other settings."""
    if settings.exists() and load_config(settings, type(config)) != config:
        raise UserError(
            f"refinement {settings.parent}",
            rule=f"it was begun with other settings ({settings})",
            remedy="Give those to go on with it, or delete the folder to refine anew",
        )


def first_success(folder: Path) -> float | None:
    """What the guards saw in the first iteration of a refinement that goes on."""
    if not (folder / CHECKPOINT).exists():
        return None
    seen = [row[GUARDED] for row in read_metrics(folder / LINES_NAME) if GUARDED in row]
    return seen[0] if seen else None


def require_true(run: LoadedRun, config: RefineConfig, store: Path | None, *, force: bool) -> None:
    """Refuse a world whose replays of real episodes do not end as those did; if forced, warn."""
    found = standing_audit(run.path, run.open_store(store), config.audit)
    if found.passes:
        return
    said = "; ".join(found.complaints)
    if not force:
        raise UserError(
            f"the world of {run.path}",
            rule=f"it does not pass its audit: {said}",
            remedy=f"Look at `w4rl audit {run.path}`; collect rollouts and train longer, or refine with --force and"
            f" then `w4rl repair {run.path}`",
        )
    warnings.warn(f"refining in a world that does not pass its audit: {said}", stacklevel=3)


def require_device(device: str) -> None:
    """Refuse a device that torch does not have here, and a card by its number: Triton launches on the current one."""
    if device not in ("cpu", "cuda"):
        raise UserError(
            f"device {device}",
            rule="there are cpu and cuda; CUDA_VISIBLE_DEVICES says which card that is",
            remedy="Refine on --device cpu, or on --device cuda",
        )
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device {device}",
            rule=f"torch cannot use it here: {str(error).splitlines()[0]}",
            remedy="Refine on --device cpu, or look at `w4rl doctor`",
        ) from error


def held_out_worlds(
    run: LoadedRun, config: RefineConfig, store: Path | None, *, engine: str = "auto", device: str = "cpu"
) -> Imagination:
    """Worlds that begin as held-out episodes do, one episode each: what policies are compared in."""
    return run.imagination(
        store=store,
        sampling_steps=config.sampling_steps,
        slice_size=config.sliced(config.judged, device),
        num_worlds=config.judged,
        side="held-out",
        autoreset=False,
        engine=engine,
        device=device,
    )


def dreamt(
    run: LoadedRun, config: RefineConfig, policies: Sequence[GaussianPolicy], store: Path | None = None
) -> list[Share]:
    """Imagined success of any policies from the held-out starts of a run, on noise that chose none of them."""
    worlds = held_out_worlds(imagined_in(run, config), config, store)
    rates = [imagined_success(policy, worlds, PROOF_SEED) for policy in policies]
    return [wilson(round(rate * config.judged), config.judged) for rate in rates]


@torch.no_grad()
def imagined_success(policy: GaussianPolicy, worlds: Imagination, seed: int) -> float:
    """Share of imagined episodes, one a world, that the policy wins when it acts by its mean; no autoreset."""
    history = policy.config.history
    seen = worlds.reset(seed)
    frames = seen.frames[:, None].repeat(1, history, 1, 1, 1)
    proprio = seen.proprio[:, None].repeat(1, history, 1)
    won = torch.zeros(worlds.num_worlds, dtype=torch.bool, device=frames.device)
    for _ in range(worlds.config.horizon):
        mean, _ = policy(frames.float().div(127.5).sub(1.0), proprio)
        seen, outcome, _ = worlds.step(mean)
        won |= outcome.terminated
        frames = torch.cat([frames[:, 1:], seen.frames[:, None]], 1)
        proprio = torch.cat([proprio[:, 1:], seen.proprio[:, None]], 1)
    return float(won.float().mean())
