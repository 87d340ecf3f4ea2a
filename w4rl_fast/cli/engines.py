"""`w4rl engines`."""

import json
from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True)
def engines(run: Path | None, as_json: bool) -> None:
    """Say which engines can be built and run here, or which ones RUN has, and which of them imagination takes."""
    import w4rl_fast
    from w4rl_engines.artifact import read
    from w4rl_engines.errors import EngineError
    from w4rl_engines.registry import BACKENDS, available
    from w4rl_fast.imagine.artifacts import artifacts, choose
    from w4rl_fast.imagine.worlds import ImaginationConfig
    from w4rl_fast.report.engines import in_words, rows_of

    if run is None:
        found = available()
        if as_json:
            click.echo(json.dumps(found))
            return
        for name, why in found.items():
            click.echo(f"{name:16} {'ready' if why is None else why}\n{'':16} {BACKENDS[name].purpose}")
        return
    loaded, slices = w4rl_fast.load(run), ImaginationConfig().slice_size
    rows, refused = [], {}
    for folder in artifacts(run):
        try:
            rows += rows_of(read(folder))
        except EngineError as error:
            refused[folder.name] = str(error)
    taken = choose(run, loaded.world, loaded.judge[0], slices) if rows else None
    if as_json:
        click.echo(json.dumps({"rows": rows, "refused": refused, "taken": taken and taken.name}))
        return
    click.echo(in_words(rows) if rows else f"no engines in {run}; `w4rl export {run}` builds them")
    if taken is not None:
        click.echo(f"in slices of {slices} imagination takes {taken.name}")
    for name, why in {**refused, **(taken.passed_over if taken else {})}.items():
        click.echo(f"{name}: {why}")
