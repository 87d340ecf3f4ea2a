"""`w4rl train`."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

if TYPE_CHECKING:
    import torch

    from w4rl_fast.data import Store
    from w4rl_fast.fit import Preview
    from w4rl_fast.world.model import WorldModel
    from w4rl_fast.world.train import TrainWorldConfig

FOLDER = click.Path(path_type=Path)


@click.group()
def train() -> None:
    """Train the parts of a run from a store; interrupted, each goes on exactly where it was."""


@train.command()
@click.argument("store", type=FOLDER)
@click.option("--run", type=FOLDER, required=True, help="The run: a folder that holds everything.")
@click.option("--task", help="Which task of the store.  [default: its only one]")
@click.option("--demos", type=int, help="Clone this many expert episodes, those of the lowest seeds.  [default: all]")
@click.option("--set", "settings", multiple=True, help="A setting, such as fit.steps=1000 or frame_noise=0.1.")
@click.option("--policy-set", multiple=True, help="A setting of the network, such as history=2 or std_high=0.5.")
@click.option(
    "--eyes",
    type=click.Choice(["own", "surrogate"]),
    default="own",
    show_default=True,
    help="Learn to see, or see as RUN/surrogate does, which first-order gradients ask for.",
)
@click.option("--seed", default=0, show_default=True)
def policy(
    store: Path, run: Path, task: str | None, demos: int | None, settings: tuple[str, ...],
    policy_set: tuple[str, ...], eyes: str, seed: int,
) -> None:  # fmt: skip
    """Clone the expert episodes of STORE into a Gaussian policy (RUN/policy)."""
    import torch

    from w4rl_fast.config import override
    from w4rl_fast.data import Store, WindowConfig, Windows
    from w4rl_fast.policy import GaussianPolicy, PolicyConfig
    from w4rl_fast.policy.clone import CloneConfig, clone
    from w4rl_fast.run import keep_store, keep_task, task_of_store
    from w4rl_fast.surrogate.examine import load_surrogate

    opened = Store(store)
    chosen = task_of_store(opened, task)
    keep_task(run, chosen)
    keep_store(run, store)
    schema = opened.schema
    sizes = PolicyConfig(image_size=schema.image_size, action_dim=schema.action_dim, proprio_dim=schema.proprio_dim)
    config = override(CloneConfig(), [f"fit.seed={seed}", *settings])
    sizes = load_surrogate(run).policy().config if eyes == "surrogate" else sizes
    network = override(sizes, policy_set)
    windows = Windows(
        opened,
        WindowConfig(
            history=network.history, future=1, held_out=0.0, sources={"expert": 1.0}, tasks={chosen.name: 1.0},
            most={} if demos is None else {"expert": demos},
        ),
        seed=seed,
    )  # fmt: skip
    torch.manual_seed(seed)
    fresh = GaussianPolicy(network)
    if eyes == "surrogate":
        fresh.load_state_dict(fresh.state_dict() | load_surrogate(run).eyes.state_dict())
    made = clone(fresh, windows, config, run / "policy")
    click.echo(f"{run / 'policy'}: cloned in {made.seconds:.1f} s. Go on with:\n  w4rl evaluate policy {run}")


@train.command()
@click.argument("store", type=FOLDER)
@click.option("--run", type=FOLDER, required=True, help="The run: a folder that holds everything.")
@click.option("--task", help="Which task of the store the run is about.  [default: its only one]")
@click.option(
    "--preset", type=click.Choice(["nano", "tiny", "tiny-dit", "small", "paper"]), default="tiny", show_default=True
)
@click.option("--set", "settings", multiple=True, help="A setting, such as denoiser.steps=8000 or world.anchor=false.")
@click.option("--threads", type=int, help="Threads of torch.  [default: physical cores]")
def world(
    store: Path, run: Path, task: str | None, preset: str, settings: tuple[str, ...], threads: int | None
) -> None:
    """Train the transition model (RUN/world); previews of imagined beside real frames are drawn as it learns."""
    import torch

    from w4rl_fast.config import override
    from w4rl_fast.data import Store
    from w4rl_fast.presets import WORLDS
    from w4rl_fast.run import keep_store, keep_task, task_of_store
    from w4rl_fast.world.train import require_fit, train_world
    from w4rl_kernels.threads import physical_cores

    torch.set_num_threads(threads or physical_cores())
    opened = Store(store)
    keep_task(run, task_of_store(opened, task))
    keep_store(run, store)
    config = override(WORLDS[preset](opened.schema), settings)
    require_fit(opened, config)
    train_world(opened, config, run / "world", previewer(opened, config, run / "world"))
    click.echo(f"{run / 'world'}: trained. Go on with:\n  w4rl evaluate world {run}")


@train.command()
@click.argument("store", type=FOLDER)
@click.option("--run", type=FOLDER, required=True, help="The run: a folder that holds everything.")
@click.option("--task", help="Which task of the store the run is about.  [default: its only one]")
@click.option("--set", "settings", multiple=True, help="A setting, such as surrogate.latent=8 or dynamics.steps=4000.")
@click.option("--threads", type=int, help="Threads of torch.  [default: physical cores]")
def surrogate(store: Path, run: Path, task: str | None, settings: tuple[str, ...], threads: int | None) -> None:
    """Train the small model whose derivatives stand in for the world's (RUN/surrogate), on the data of the world.

    Its reward is how near the task's landmarks are to their goal, where STORE has any; otherwise what the run's
    classifier says of a frame.
    """
    import torch

    from w4rl_fast.config import override
    from w4rl_fast.data import Store
    from w4rl_fast.run import keep_store, keep_task, task_of_store
    from w4rl_fast.surrogate.reward import paid_by
    from w4rl_fast.surrogate.train import default_config, train_surrogate
    from w4rl_kernels.threads import physical_cores

    torch.set_num_threads(threads or physical_cores())
    opened = Store(store)
    chosen = task_of_store(opened, task)
    keep_task(run, chosen)
    keep_store(run, store)
    config = override(default_config(opened), settings)
    train_surrogate(opened, config, run / "surrogate", paid_by(run, chosen, config.surrogate))
    click.echo(f"{run / 'surrogate'}: trained. Go on with:\n  w4rl evaluate surrogate {run}\n  w4rl refine fog {run}")


@train.command()
@click.argument("store", type=FOLDER)
@click.option("--run", type=FOLDER, required=True, help="The run: a folder that holds everything.")
@click.option("--task", help="Which task of the store the run is about.  [default: its only one]")
@click.option("--preset", type=click.Choice(["tiny", "small", "paper"]), default="tiny", show_default=True)
@click.option(
    "--real-only", is_flag=True, help="Learn from real frames only: no world needed, and easily fooled by one."
)
@click.option("--weights", type=FOLDER, help="ResNet-18 weights to start from, as safetensors.")
@click.option("--set", "settings", multiple=True, help="A setting, such as fit.steps=3000 or most_false=0.01.")
@click.option("--threads", type=int, help="Threads of torch.  [default: physical cores]")
def reward(
    store: Path, run: Path, task: str | None, preset: str, real_only: bool, weights: Path | None,
    settings: tuple[str, ...], threads: int | None,
) -> None:  # fmt: skip
    """Train the success classifier (RUN/reward) on real frames and on those of the run's world."""
    import torch

    from w4rl_fast import presets
    from w4rl_fast.config import override
    from w4rl_fast.data import Store
    from w4rl_fast.reward.train import train_reward
    from w4rl_fast.run import keep_store, keep_task, task_of_store
    from w4rl_fast.world.checkpoint import load_world
    from w4rl_kernels.threads import physical_cores

    torch.set_num_threads(threads or physical_cores())
    opened = Store(store)
    chosen = task_of_store(opened, task)
    keep_task(run, chosen)
    keep_store(run, store)
    config = override(presets.reward(preset, opened, chosen.name), settings)
    choice = train_reward(opened, None if real_only else load_world(run), config, run / "reward", weights)
    rule = choice.rule
    click.echo(f"{run / 'reward'}: success is {rule.hits} frame(s) in a row at {rule.threshold:.4g} or above")
    figures = zip(choice.recall, choice.successes, choice.false_positive_rate, choice.failures, strict=True)
    for name, (recall, successes, false, failures) in zip(("real", "imagined"), figures, strict=False):
        click.echo(f"  {name}: finds {recall:.1%} of {successes} successes, errs on {false:.1%} of {failures} failures")
    if not choice.strict:
        click.echo("  No rule keeps to most_false and most_false_imagined: more failing rollouts would help.", err=True)
    click.echo(f"Go on with:\n  w4rl evaluate reward {run}\n  w4rl audit {run}")


def previewer(store: "Store", config: "TrainWorldConfig", folder: Path) -> "Preview":
    """A picture of a few held-out episodes, imagined beside real, whenever a checkpoint is written."""
    import numpy as np

    from w4rl_fast.data import Windows
    from w4rl_fast.files import publish
    from w4rl_fast.report.imagined import beside_real
    from w4rl_fast.report.png import encode_png
    from w4rl_fast.world.rollout import roll_out
    from w4rl_fast.world.train import held_out_windows

    windows: Windows = held_out_windows(store, config)
    few = windows.gather(np.arange(min(4, len(windows.episodes))), np.zeros(min(4, len(windows.episodes)), np.int64))
    steps = [step for step in (0, 3, 7, 11, 17) if step < config.horizon]

    def preview(step: int, model: "torch.nn.Module") -> None:
        imagined = roll_out(cast("WorldModel", model), few)
        picture = beside_real(few.frames[:, config.world.history :], imagined.frames, steps)
        publish(folder / f"preview-{step:06d}.png", encode_png(picture))

    return preview
