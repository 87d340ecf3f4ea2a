"""`w4rl export`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from w4rl_fast.errors import UserError

if TYPE_CHECKING:
    from w4rl_fast.imagine.export import Part

RTX = "tensorrt-rtx"
FOLDER = click.Path(path_type=Path)
CHOICES = ("fp32", "bf16", "bf16-fast", "int8", "all")


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--engine", default="all", show_default=True, help="Its name, or `all` that can be built here.")
@click.option("--batch", default="32", show_default=True, help="Sizes, such as 1,64,256: each is built on its own.")
@click.option("--precision", type=click.Choice(CHOICES), default="all", show_default=True)
@click.option("--part", type=click.Choice(["world", "policy", "reward", "acting"]), default="world", show_default=True)
@click.option("--policy", help="Of --part policy: cloned, refined, repair-1, ...  [default: cloned]")
@click.option("--steps", type=click.IntRange(1), help="Denoising steps of the world.  [default: its own]")
@click.option("--target", help="GPUs that need not be here, such as sm89,sm120 (tensorrt-rtx).")
@click.option("--accept", is_flag=True, help="Keep an engine that is out of tolerance; the artifact says so.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the engine.  [default: physical cores]")
@click.option("--json", "as_json", is_flag=True)
def export(
    run: Path, engine: str, batch: str, precision: str, part: "Part", policy: str | None, steps: int | None,
    target: str | None, accept: bool, threads: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Build engines of a part of RUN, each proven against eager float32 on held-out moments, in RUN/engines.

    The world step, the policy, the classifier, or the world step with the policy fused in. An engine out of tolerance
    is not kept. Imagination takes the fastest one that was proven for the weights that the run has.
    """
    import torch

    import w4rl_fast
    from w4rl_engines.build import BuildConfig
    from w4rl_engines.errors import EngineError
    from w4rl_fast.imagine.export import export_one
    from w4rl_fast.progress import Progress
    from w4rl_fast.report.engines import in_words, rows_of
    from w4rl_kernels.threads import physical_cores

    threads = threads or physical_cores()
    torch.set_num_threads(threads)
    folder = None if policy in (None, "cloned") else policy_folder(run, part, policy)
    loaded, batches = w4rl_fast.load(run), sizes(batch)
    configs = [
        BuildConfig(
            backend=name, precision=precise, batches=batches, accept=accept, threads=threads,
            targets=tuple(target.split(",")) if target and (name == RTX or engine != "all") else (),
        )
        for name, precise in chosen(engine, precision)
    ]  # fmt: skip
    built, refused = [], {}
    with Progress("export", total=len(configs), unit="engines") as bar:
        for config in configs:
            name = f"{config.backend} {config.precision}"
            try:
                built.append(export_one(loaded, part, config, sampling_steps=steps, policy=folder))
            except EngineError as error:
                if engine != "all":
                    raise
                refused[name] = str(error)
            bar.advance(engine=name)
    rows = [row for each in built for row in rows_of(each)]
    click.echo(json.dumps({"rows": rows, "refused": refused}) if as_json else in_words(rows))
    for what, why in refused.items():
        click.echo(f"{what}: {why}", err=True)
    if not built:
        raise EngineError("all engines", "none of them could be built, as is said above", "Choose one by its name")
    if target and RTX not in {each.identity.backend for each in built}:
        raise EngineError(f"--target {target}", f"{RTX} was not built, as is said above", f"See `--engine {RTX}` alone")


def sizes(batch: str, option: str = "--batch") -> tuple[int, ...]:
    """The numbers in `1,64,256`."""
    try:
        return tuple(int(each) for each in batch.split(","))
    except ValueError:
        raise click.BadParameter(f"{batch!r}: whole numbers, such as 1,64,256", param_hint=option) from None


def known_engine(engine: str, words: tuple[str, ...]) -> str:
    """The name of a backend or one of these words; of any other it is said what there is, and what works here."""
    from w4rl_engines.registry import BACKENDS, available

    if engine not in (*words, *BACKENDS):
        there = "; ".join(f"{name} ({why or 'ready'})" for name, why in available().items())
        raise click.BadParameter(f"{engine!r}: there are {', '.join(words)}, {there}", param_hint="--engine")
    return engine


def chosen(engine: str, precision: str) -> list[tuple[str, str]]:
    """Backends and precisions; of `all`, those that can be built here, and why the others cannot."""
    from w4rl_engines.registry import BACKENDS, backend, cannot_build
    from w4rl_fast.imagine.artifacts import PRECISIONS

    if known_engine(engine, ("all",)) != "all":
        known = backend(engine).precisions
        return [(engine, each) for each in (known if precision == "all" else [PRECISIONS[precision]])]
    pairs = []
    for name, each in BACKENDS.items():
        if why := cannot_build(name):
            click.echo(f"{name}: {why}", err=True)
            continue
        pairs += [(name, one) for one in each.precisions if precision == "all" or one == PRECISIONS[precision]]
    return pairs


def policy_folder(run: Path, part: str, name: str) -> Path:
    """Where another policy of a run lies."""
    from w4rl_fast.refine.proof import contender

    if part != "policy":
        raise UserError(
            f"--policy {name} of --part {part}", rule="of this part a run has one", remedy="Leave --policy away"
        )
    return contender(run, name)[1].policy
