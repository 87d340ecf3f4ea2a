"""`w4rl refine`."""

from pathlib import Path

import click

FOLDER = click.Path(path_type=Path)


@click.group()
def refine() -> None:
    """Make the policy of a run better in its imagined world; interrupted, it goes on exactly where it was."""


@refine.command()
@click.argument("run", type=FOLDER)
@click.argument("store", type=FOLDER, required=False)
@click.option("--set", "settings", multiple=True, help="A setting, such as ppo.iterations=60 or ppo.anchor=0.01.")
@click.option(
    "--world",
    default="auto",
    show_default=True,
    help="The student to imagine in, or `teacher`; `auto` takes the fastest student that is fit, if there is one.",
)
@click.option("--device", default="cpu", show_default=True, help="Where policies act, learn and imagine: cpu, cuda.")
@click.option("--graph", is_flag=True, help="Record a rollout as one CUDA graph and replay it; needs --device cuda.")
@click.option("--force", is_flag=True, help="Refine in a world that does not pass its audit, or its gate, too.")
@click.option("--threads", type=int, help="Threads of torch.  [default: physical cores]")
def ppo(
    run: Path,
    store: Path | None,
    settings: tuple[str, ...],
    world: str,
    device: str,
    graph: bool,
    force: bool,
    threads: int | None,
) -> None:
    """Refine RUN/policy by PPO into RUN/refined, in worlds that begin as the episodes of STORE do.

    STORE is by default the one that RUN was trained on. A world whose replays of real episodes do not end as those did
    is refused.
    """
    import torch

    import w4rl_fast
    from w4rl_fast.config import load_config, override
    from w4rl_fast.distill.choice import fastest_fit
    from w4rl_fast.refine.config import PPOConfig
    from w4rl_fast.refine.imagined import REFINED, SETTINGS, RefineConfig, refine_run
    from w4rl_fast.run import keep_store
    from w4rl_kernels.threads import physical_cores

    torch.set_num_threads(threads or physical_cores())
    loaded = w4rl_fast.load(run)
    if store is not None:
        keep_store(run, loaded.open_store(store).path)  # one that does not fit is refused first
    if world == "auto" and (begun := run / REFINED / SETTINGS).exists():
        student = load_config(begun, RefineConfig).student
    else:
        student = fastest_fit(run) if world == "auto" else None if world == "teacher" else world
    if student is not None:
        click.echo(f"imagine in the student {student} (--world teacher imagines in the world that it was made from)")
    usual = RefineConfig(ppo=PPOConfig(steps=loaded.task.horizon), student=student)
    config = override(usual, (f"device={device}", f"graph={str(graph).lower()}", *settings))
    result = refine_run(loaded, config, force=force)
    click.echo(
        f"{run / 'refined'}: imagined success {result.score:.1%} after iteration {result.iteration}."
        f" Go on with:\n  w4rl evaluate policy {run} --before --after\n  w4rl repair {run}"
    )


@refine.command()
@click.argument("run", type=FOLDER)
@click.argument("store", type=FOLDER, required=False)
@click.option("--set", "settings", multiple=True, help="A setting, such as fog.horizon=4 or fog.iterations=200.")
@click.option("--scratch", is_flag=True, help="Begin with a policy that knows nothing, instead of RUN/policy.")
@click.option("--force", is_flag=True, help="Refine with a surrogate whose gradients do not agree, too.")
@click.option("--threads", type=int, help="Threads of torch.  [default: physical cores]")
def fog(
    run: Path, store: Path | None, settings: tuple[str, ...], scratch: bool, force: bool, threads: int | None
) -> None:
    """Refine RUN/policy by first-order gradients into RUN/fog: the world of RUN says what happens, RUN/surrogate how it
    would have been otherwise.

    Ablations: --set fog.roll=coupled takes the gradient along the surrogate's own rollout, fog.roll=surrogate imagines
    in the surrogate alone, fog.refreshes=0 leaves the surrogate as it was trained, fog.horizon=H cuts the gradient.
    """
    import dataclasses

    import torch

    import w4rl_fast
    from w4rl_fast.config import override
    from w4rl_fast.refine.config import FoGConfig
    from w4rl_fast.refine.fog import RefineFoGConfig, refine_fog
    from w4rl_fast.run import keep_store
    from w4rl_kernels.threads import physical_cores

    torch.set_num_threads(threads or physical_cores())
    loaded = w4rl_fast.load(run)
    if store is not None:
        keep_store(run, loaded.open_store(store).path)  # one that does not fit is refused first
    trained, _ = loaded.training()
    horizon = FoGConfig().horizon
    longest = min(loaded.task.horizon, trained or loaded.task.horizon)
    steps = max(horizon, longest - longest % horizon)
    config = override(RefineFoGConfig(fog=dataclasses.replace(FoGConfig(), steps=steps)), settings)
    result = refine_fog(loaded, config, store=store, force=force, scratch=scratch)
    click.echo(
        f"{run / 'fog'}: imagined reward {result.score:.3f} a step after iteration {result.iteration}. Go on with:\n"
        f"  w4rl evaluate policy {run} --before --after\n  w4rl evaluate surrogate {run}"
    )
