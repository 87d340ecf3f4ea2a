"""`w4rl train`."""

from pathlib import Path

import click

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
@click.option("--seed", default=0, show_default=True)
def policy(
    store: Path, run: Path, task: str | None, demos: int | None, settings: tuple[str, ...],
    policy_set: tuple[str, ...], seed: int,
) -> None:  # fmt: skip
    """Clone the expert episodes of STORE into a Gaussian policy (RUN/policy)."""
    import torch

    from w4rl_fast.config import override
    from w4rl_fast.data import Store, WindowConfig, Windows
    from w4rl_fast.policy import GaussianPolicy, PolicyConfig
    from w4rl_fast.policy.clone import CloneConfig, clone
    from w4rl_fast.run import keep_task, task_of_store

    opened = Store(store)
    chosen = task_of_store(opened, task)
    keep_task(run, chosen)
    schema = opened.schema
    sizes = PolicyConfig(image_size=schema.image_size, action_dim=schema.action_dim, proprio_dim=schema.proprio_dim)
    config = override(CloneConfig(), [f"fit.seed={seed}", *settings])
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
    made = clone(GaussianPolicy(network), windows, config, run / "policy")
    click.echo(f"{run / 'policy'}: cloned in {made.seconds:.1f} s. Go on with:\n  w4rl evaluate policy {run}")
