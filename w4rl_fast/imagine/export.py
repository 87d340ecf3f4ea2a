"""What of a run can be exported, the real inputs that prove an engine of it, and where engines lie.

Shapes: N rows, B worlds, T frames of history, A action and P proprioception dimensions, S x S pixels.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from w4rl_engines.artifact import Artifact
from w4rl_engines.build import BuildConfig, build
from w4rl_engines.errors import EngineError
from w4rl_engines.latency import measure
from w4rl_engines.machine import has_bfloat16
from w4rl_engines.parity import Tolerance
from w4rl_engines.protocol import Engine, Port, StepSpec, spec_of
from w4rl_engines.registry import cannot_build
from w4rl_fast.data.windows import WindowConfig, Windows
from w4rl_fast.imagine.acting import ActingStep
from w4rl_fast.imagine.artifacts import RATIO, folder_of
from w4rl_fast.imagine.engine import Imagination, dtype_of
from w4rl_fast.imagine.load import LoadedRun
from w4rl_fast.imagine.step import WorldStep
from w4rl_fast.imagine.worlds import ImaginationConfig
from w4rl_fast.policy.checkpoint import load_policy
from w4rl_fast.world.losses import context_of

Part = Literal["world", "policy", "reward", "acting"]
PARTS: tuple[Part, ...] = get_args(Part)
ROWS, WATCHED, SEED = 64, 32, 0
"""Held-out moments that prove an engine, worlds that are rolled out with it, and the seed of both."""
GREY = Port(name="frame", scale=127.5, unit="grey levels")
PLACE = Port(name="place", scale=100.0, unit="hundredths")
TOLERANCES = {
    "frame": Tolerance(p99=1.01, maximum=32.0),  # whole levels, with what float32 makes of them
    "place": Tolerance(p99=0.1, maximum=1.0),
    "logit": Tolerance(p99=0.5, maximum=3.0),
    "mean": Tolerance(p99=0.02, maximum=0.1),
    "drawn": Tolerance(p99=0.02, maximum=0.1),
    "log_probs": Tolerance(p99=0.1, maximum=0.5),
}
"""A grey level in a hundred pixels, a millimetre of the hand, half a logit, a hundredth of the range of an action."""


class Mean(nn.Module):
    """What a policy does when it does not explore."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, frames: Tensor, proprio: Tensor) -> Tensor:
        """Frames (B, H, 3, S, S) in [-1, 1] and proprio (B, H, P) to actions (B, A)."""
        mean: Tensor = self.policy(frames, proprio)[0]
        return mean


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Exportable:
    """A module in float32, what it takes and gives, and real rows (N, ...) of that."""

    module: nn.Module
    spec: StepSpec
    rows: tuple[Tensor, ...]

    @property
    def tolerances(self) -> Mapping[str, Tolerance]:
        return {port.name: TOLERANCES[port.name] for port in self.spec.outputs}


def export_one(
    run: LoadedRun, part: Part, config: BuildConfig, *, sampling_steps: int | None = None, policy: Path | None = None
) -> Artifact:
    """Build the engines of one backend and precision, proven on held-out moments of the run.

    With `policy`, the folder of another policy than the run's cloned one, the engines of that lie with it.
    """
    what = exportable(run, part, sampling_steps=sampling_steps, policy=policy)
    is_drawn = part in ("world", "acting")
    steps = (sampling_steps or run.world.config.sampling.steps) if is_drawn else None
    return build(
        what.module,
        what.spec,
        folder_of(policy or run.path, part, config.backend, config.precision, steps),
        what.rows,
        dataclasses.replace(config, tolerances=what.tolerances),
        examine=over_horizon(run, what, sampling_steps=sampling_steps) if part == "world" else None,
    )


def export_fastest(run: LoadedRun) -> str:
    """Build what is most often the fastest engine here, for the slices that an imagination takes; says what came of it.

    That is OpenVINO, in bfloat16 where the processor has it. Where it cannot be built or does not pass, eager torch
    imagines, as it does where this engine is slower.
    """
    if why := cannot_build("openvino"):
        return f"eager torch imagines; OpenVINO: {why}"
    precision, size = ("bfloat16-fast" if has_bfloat16() else "float32"), ImaginationConfig().slice_size
    config = BuildConfig(backend="openvino", precision=precision, batches=(size,), threads=torch.get_num_threads())
    try:
        built = export_one(run, "world", config)
    except EngineError as error:
        return f"eager torch imagines; OpenVINO: {error.value}, {error.rule}"
    _, blob = built.blob(size)
    ratio, frame = blob.examined[RATIO], blob.parity.outputs["frame"]
    said = f"OpenVINO {precision}, {ratio:.2f} times as fast as eager torch"
    return f"{said}; frames off by {frame.p99:.0f} of 255 grey levels (p99)"


@torch.no_grad()
def exportable(
    run: LoadedRun, part: Part, *, sampling_steps: int | None = None, policy: Path | None = None
) -> Exportable:
    """A part of a run; the world is drawn in its own number of steps unless another is asked for."""
    rows = moments(run)
    reward, _ = run.judge
    if part == "reward":
        seen = reward.config.frames
        inputs = {"frames": rows["frames"][:, -seen:].contiguous(), "anchor": rows["anchor"]}
        return with_spec(reward, inputs, "logit")
    if part == "policy":
        one = run.policy if policy is None else load_policy(policy)
        inputs = {name: rows[name][:, -one.config.history :].contiguous() for name in ("frames", "proprio")}
        return with_spec(Mean(one), inputs, "mean")
    step = WorldStep(run.world, reward, sampling_steps=sampling_steps)
    if part == "world":
        return with_spec(step, rows, GREY, PLACE, "logit")
    chance = torch.randn(rows["actions"][:, -1].shape, generator=torch.Generator().manual_seed(SEED))
    return with_spec(
        ActingStep(run.policy, step), {**rows, "chance": chance}, GREY, PLACE, "logit", "drawn", "log_probs"
    )


def with_spec(module: nn.Module, rows: Mapping[str, Tensor], *outputs: Port | str) -> Exportable:
    module.eval()
    return Exportable(module=module, spec=spec_of(module, rows, outputs), rows=tuple(rows.values()))


@torch.no_grad()
def moments(run: LoadedRun) -> dict[str, Tensor]:
    """The inputs of a world step at held-out moments of the run's store, (N, ...) each."""
    _, share = run.training()
    world = run.world
    config = WindowConfig(
        history=world.config.history, future=1, anchor=True, held_out=share, tasks={run.task.name: 1.0}
    )
    batch = Windows(run.open_store(None), config, "held-out", seed=SEED).batch(0, ROWS)
    context = context_of(batch, world.config.history)
    noise = torch.randn(context.anchor.shape, generator=torch.Generator().manual_seed(SEED))
    return {
        **{name: part.contiguous() for name, part in context._asdict().items()},
        "scene": world.head.look(context.anchor),
        "noise": noise,
    }


def over_horizon(
    run: LoadedRun, what: Exportable, *, sampling_steps: int | None = None
) -> Callable[[Engine], dict[str, Any]]:
    """What becomes of the errors of a world's engine over an episode: the same worlds and actions in eager float32.

    The policy of the run acts, by its mean, on what eager float32 shows. Beside it what eager torch takes for a call,
    in the precision that an imagination would choose.
    """
    plain = WorldStep(
        run.world, run.judge[0], sampling_steps=sampling_steps, dtype=dtype_of("auto", torch.device("cpu"))
    )

    def imagination(**settings: Any) -> Imagination:
        return run.imagination(
            num_worlds=WATCHED, precision="float32", sampling_steps=sampling_steps, side="held-out", autoreset=False,
            **settings,
        )  # fmt: skip

    def examine(engine: Engine) -> dict[str, Any]:
        true, other = imagination(), imagination(engine=engine, slice_size=engine.batch)
        wins, off = follow(run, true, other)
        inputs = tuple(tensor[torch.arange(engine.batch) % len(tensor)] for tensor in what.rows)
        eager, mine = (measure(each, inputs, threads=torch.get_num_threads()) for each in (plain, engine))
        return {
            RATIO: eager.median_s / mine.median_s,
            "steps": true.config.horizon,
            "worlds": WATCHED,
            "outcomes_agree": float((wins[0] == wins[1]).float().mean()),
            "grey_levels": {
                "mean": float(off[0].mean()),
                "p99": float(off[0].quantile(0.99)),
                "max": float(off[0].max()),
            },
            "place_hundredths": {"mean": 100 * float(off[1].mean()), "max": 100 * float(off[1].max())},
        }

    return examine


@torch.no_grad()
def follow(run: LoadedRun, true: Imagination, other: Imagination) -> tuple[list[Tensor], list[Tensor]]:
    """Lead two imaginations by the same actions: who won in each, and how far last frames and places are apart."""
    seen, _ = true.reset(SEED), other.reset(SEED)
    history = run.policy.config.history
    frames = seen.frames[:, None].repeat(1, history, 1, 1, 1)
    proprio = seen.proprio[:, None].repeat(1, history, 1)
    wins = [torch.zeros(true.num_worlds, dtype=torch.bool) for _ in range(2)]
    for _ in range(true.config.horizon):
        actions, _ = run.policy(frames.float().div(127.5).sub(1), proprio)
        both = [each.step(actions) for each in (true, other)]
        wins = [won | outcome.terminated for won, (_, outcome, _) in zip(wins, both, strict=True)]
        seen, theirs = both[0][0], both[1][0]
        frames = torch.cat([frames[:, 1:], seen.frames[:, None]], 1)
        proprio = torch.cat([proprio[:, 1:], seen.proprio[:, None]], 1)
    per_world = (seen.frames.float() - theirs.frames.float()).abs().flatten(1)[:, ::7]  # enough of the pixels
    return wins, [per_world.flatten(), (seen.proprio - theirs.proprio).abs().flatten()]
